//! All routes, one list. To add one: a function in the file of its noun, a line here, an example in `crates/fuzz`.
//!
//! A route says what it reads besides the names in its path: of the query and the headers ([`asks`](Route::reads)), or of
//! the body as well (`reads`); `alone` when nothing of that can be wrong.

mod archive;
mod build;
mod containers;
mod exec;
mod images;
mod networks;
mod plugins;
mod swarm;
mod system;
mod volumes;

use crate::{
    call::{Asked, Call},
    reply::Reply,
};
use api::model;
use base::Result;
use http::Method;
use std::{future::Future, pin::Pin};

/// What a handler returns.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;

/// One route.
pub(crate) struct Route {
    pub(crate) methods: &'static [Method],
    /// `{}` captures anything, slashes included.
    pub(crate) pattern: &'static str,
    pub(crate) handler: fn(Call) -> Answer,
    /// Reads what is asked for, without an engine; the handler reads it so too.
    pub(crate) reads: fn(&Asked, &[u8]) -> Result<()>,
    /// Whether there is something to read.
    pub(crate) asks: bool,
    /// Runs to its end even when the client goes away.
    pub(crate) detached: bool,
    /// A form body is merged into the query.
    pub(crate) takes_form: bool,
}

const GET: &[Method] = &[Method::GET];
const GET_HEAD: &[Method] = &[Method::GET, Method::HEAD];
const PUT: &[Method] = &[Method::PUT];
const POST: &[Method] = &[Method::POST];
const DELETE: &[Method] = &[Method::DELETE];
const OPTIONS: &[Method] = &[Method::OPTIONS];
const ANY: &[Method] = &[Method::GET, Method::POST, Method::DELETE];

macro_rules! route {
    (change $($route:tt)*) => { Route { detached: true, ..route!($($route)*) } };
    (body $($route:tt)*) => { Route { takes_form: false, ..route!($($route)*) } };
    ($methods:ident $pattern:literal $handler:path, alone) => {
        route!(@ $methods $pattern $handler, false, |_, _| Ok(()))
    };
    ($methods:ident $pattern:literal $handler:path, asks $reader:expr) => {
        route!(@ $methods $pattern $handler, true, |asked, _| $reader(asked).map(drop))
    };
    ($methods:ident $pattern:literal $handler:path, reads $reader:expr) => {
        route!(@ $methods $pattern $handler, true, |asked, body| $reader(asked, body).map(drop))
    };
    (@ $methods:ident $pattern:literal $handler:path, $asks:literal, $reads:expr) => {
        Route {
            methods: $methods,
            pattern: $pattern,
            handler: |call| Box::pin($handler(call)),
            reads: $reads,
            asks: $asks,
            detached: false,
            takes_form: true,
        }
    };
}

/// Literal patterns stand before those with captures that would take them too.
pub(crate) static ROUTES: &[Route] = &[
    route!(GET_HEAD "/_ping" system::ping, alone),
    route!(GET "/version" system::version, alone),
    route!(GET "/info" system::info, alone),
    route!(GET "/events" system::events, asks system::wanted),
    route!(GET "/system/df" system::df, asks system::kinds),
    route!(POST "/auth" images::auth, reads images::identity),
    route!(GET "/distribution/{}/json" images::distribution, asks images::reference),
    route!(OPTIONS "{}" system::options, alone),
    route!(body POST "/grpc" crate::h2c::grpc, alone),
    route!(body POST "/session" crate::h2c::session, asks crate::h2c::hello),
    route!(body POST "/build" build::build, asks build::request),
    route!(change POST "/build/prune" build::prune, asks build::pruning),
    route!(POST "/build/cancel" build::cancel, asks build::cancelled),
    route!(GET "/build/explain" build::explain, alone),
    route!(GET "/containers/json" containers::list, asks containers::listing),
    route!(change POST "/containers/create" containers::create, reads containers::creation),
    route!(change POST "/containers/prune" containers::prune, asks Asked::filters),
    route!(GET "/containers/{}/json" containers::inspect, alone),
    route!(GET "/containers/{}/top" containers::top, alone),
    route!(GET "/containers/{}/logs" containers::logs, asks containers::lines),
    route!(change POST "/containers/{}/resize" containers::resize, asks containers::size),
    route!(change POST "/containers/{}/start" containers::start, reads containers::no_configuration),
    route!(change POST "/containers/{}/stop" containers::stop, asks containers::patience),
    route!(change POST "/containers/{}/restart" containers::restart, asks containers::patience),
    route!(change POST "/containers/{}/kill" containers::kill, alone),
    route!(change POST "/containers/{}/rename" containers::rename, alone),
    route!(change POST "/containers/{}/update" containers::update, reads containers::limits),
    route!(change POST "/containers/{}/pause" containers::pause, alone),
    route!(change POST "/containers/{}/unpause" containers::unpause, alone),
    route!(body POST "/containers/{}/attach" containers::attach, alone),
    route!(POST "/containers/{}/wait" containers::wait, asks containers::condition),
    route!(change POST "/containers/{}/exec" exec::create, reads Asked::json::<model::ExecConfig>),
    route!(GET "/containers/{}/changes" containers::changes, alone),
    route!(GET "/containers/{}/stats" containers::stats, asks containers::samples),
    route!(GET "/containers/{}/attach/ws" containers::attach_ws, asks crate::websocket::Handshake::of),
    route!(GET_HEAD "/containers/{}/archive" archive::get, alone),
    route!(body PUT "/containers/{}/archive" archive::put, alone),
    route!(GET "/containers/{}/export" archive::export, alone),
    route!(change DELETE "/containers/{}" containers::remove, asks containers::removal),
    route!(body POST "/exec/{}/start" exec::start, reads Asked::json::<model::ExecStart>),
    route!(change POST "/exec/{}/resize" exec::resize, asks containers::size),
    route!(GET "/exec/{}/json" exec::inspect, alone),
    route!(change POST "/commit" containers::commit, reads containers::committed),
    route!(GET "/images/json" images::list, asks images::listing),
    route!(GET "/images/get" images::save_many, asks images::several),
    route!(GET "/images/search" images::search, asks images::searching),
    route!(body POST "/images/load" images::load, asks images::loading),
    route!(body POST "/images/create" images::create, asks images::source),
    route!(change POST "/images/prune" images::prune, asks Asked::filters),
    route!(GET "/images/{}/json" images::inspect, asks images::platform),
    route!(GET "/images/{}/history" images::history, asks images::platform),
    route!(GET "/images/{}/get" images::save, alone),
    route!(change POST "/images/{}/tag" images::tag, alone),
    route!(body POST "/images/{}/push" images::push, asks images::pushing),
    route!(change DELETE "/images/{}" images::remove, alone),
    route!(GET "/networks" networks::list, asks Asked::filters),
    route!(GET "/networks/" networks::list, asks Asked::filters),
    route!(change POST "/networks/create" networks::create, reads networks::creation),
    route!(change POST "/networks/prune" networks::prune, asks Asked::filters),
    route!(GET "/networks/{}" networks::inspect, alone),
    route!(change DELETE "/networks/{}" networks::remove, alone),
    route!(change POST "/networks/{}/connect" networks::connect, reads Asked::json::<model::NetworkConnect>),
    route!(change POST "/networks/{}/disconnect" networks::disconnect, reads Asked::json::<model::NetworkConnect>),
    route!(GET "/plugins" plugins::list, asks Asked::filters),
    route!(GET "/plugins/privileges" plugins::privileges, asks plugins::remote),
    route!(body POST "/plugins/pull" plugins::pull, reads plugins::installation),
    route!(body POST "/plugins/create" plugins::create, alone),
    route!(GET "/plugins/{}/json" plugins::inspect, alone),
    route!(change POST "/plugins/{}/enable" plugins::enable, asks plugins::patience),
    route!(change POST "/plugins/{}/disable" plugins::disable, alone),
    route!(change POST "/plugins/{}/set" plugins::set, reads Asked::json::<Vec<String>>),
    route!(body POST "/plugins/{}/push" plugins::push, alone),
    route!(body POST "/plugins/{}/upgrade" plugins::upgrade, reads plugins::newer),
    route!(change DELETE "/plugins/{}" plugins::remove, alone),
    route!(GET "/swarm" swarm::not_a_manager, alone),
    route!(GET "/swarm/unlockkey" swarm::not_a_manager, alone),
    route!(POST "/swarm/update" swarm::not_a_manager, alone),
    route!(POST "/swarm/init" swarm::begin, alone),
    route!(POST "/swarm/join" swarm::begin, alone),
    route!(POST "/swarm/unlock" swarm::leave, alone),
    route!(POST "/swarm/leave" swarm::leave, alone),
    route!(GET "/nodes" swarm::not_a_manager, alone),
    route!(ANY "/nodes/{}" swarm::not_a_manager, alone),
    route!(GET "/services" swarm::not_a_manager, alone),
    route!(ANY "/services/{}" swarm::not_a_manager, alone),
    route!(GET "/tasks" swarm::not_a_manager, alone),
    route!(GET "/tasks/{}" swarm::not_a_manager, alone),
    route!(GET "/secrets" swarm::not_a_manager, alone),
    route!(ANY "/secrets/{}" swarm::not_a_manager, alone),
    route!(GET "/configs" swarm::not_a_manager, alone),
    route!(ANY "/configs/{}" swarm::not_a_manager, alone),
    route!(GET "/volumes" volumes::list, asks Asked::filters),
    route!(change POST "/volumes/create" volumes::create, reads Asked::json::<model::VolumeCreate>),
    route!(change POST "/volumes/prune" volumes::prune, asks Asked::filters),
    route!(GET "/volumes/{}/export" volumes::export, alone),
    route!(GET "/volumes/{}" volumes::inspect, alone),
    route!(change DELETE "/volumes/{}" volumes::remove, alone),
    route!(change POST "/volumes/{}/clone" volumes::clone, reads Asked::json::<model::VolumeClone>),
    route!(change POST "/volumes/{}/rename" volumes::rename, alone),
    route!(change PUT "/volumes/{}/import" volumes::import, alone),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_is_listed_twice() {
        for (at, route) in ROUTES.iter().enumerate() {
            let twin = ROUTES[..at]
                .iter()
                .any(|r| r.pattern == route.pattern && r.methods == route.methods);
            assert!(!twin, "{}", route.pattern);
        }
    }
}

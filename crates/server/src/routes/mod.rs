//! All routes, one list. To add one: a function in the file of its noun, a line here.

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

use crate::{call::Call, reply::Reply};
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
    ($methods:ident $pattern:literal $handler:path) => {
        Route {
            methods: $methods,
            pattern: $pattern,
            handler: |call| Box::pin($handler(call)),
            detached: false,
            takes_form: true,
        }
    };
    (change $methods:ident $pattern:literal $handler:path) => {
        Route {
            methods: $methods,
            pattern: $pattern,
            handler: |call| Box::pin($handler(call)),
            detached: true,
            takes_form: true,
        }
    };
    (body $methods:ident $pattern:literal $handler:path) => {
        Route {
            methods: $methods,
            pattern: $pattern,
            handler: |call| Box::pin($handler(call)),
            detached: false,
            takes_form: false,
        }
    };
}

/// Literal patterns stand before those with captures that would take them too.
pub(crate) static ROUTES: &[Route] = &[
    route!(GET_HEAD "/_ping" system::ping),
    route!(GET "/version" system::version),
    route!(GET "/info" system::info),
    route!(GET "/events" system::events),
    route!(GET "/system/df" system::df),
    route!(POST "/auth" images::auth),
    route!(GET "/distribution/{}/json" images::distribution),
    route!(OPTIONS "{}" system::options),
    route!(body POST "/grpc" crate::h2c::grpc),
    route!(body POST "/session" crate::h2c::session),
    route!(body POST "/build" build::build),
    route!(change POST "/build/prune" build::prune),
    route!(POST "/build/cancel" build::cancel),
    route!(GET "/build/explain" build::explain),
    route!(GET "/containers/json" containers::list),
    route!(change POST "/containers/create" containers::create),
    route!(change POST "/containers/prune" containers::prune),
    route!(GET "/containers/{}/json" containers::inspect),
    route!(GET "/containers/{}/top" containers::top),
    route!(GET "/containers/{}/logs" containers::logs),
    route!(change POST "/containers/{}/resize" containers::resize),
    route!(change POST "/containers/{}/start" containers::start),
    route!(change POST "/containers/{}/stop" containers::stop),
    route!(change POST "/containers/{}/restart" containers::restart),
    route!(change POST "/containers/{}/kill" containers::kill),
    route!(change POST "/containers/{}/rename" containers::rename),
    route!(change POST "/containers/{}/update" containers::update),
    route!(change POST "/containers/{}/pause" containers::pause),
    route!(change POST "/containers/{}/unpause" containers::unpause),
    route!(body POST "/containers/{}/attach" containers::attach),
    route!(POST "/containers/{}/wait" containers::wait),
    route!(change POST "/containers/{}/exec" exec::create),
    route!(GET "/containers/{}/changes" containers::changes),
    route!(GET "/containers/{}/stats" containers::stats),
    route!(GET "/containers/{}/attach/ws" containers::attach_ws),
    route!(GET_HEAD "/containers/{}/archive" archive::get),
    route!(body PUT "/containers/{}/archive" archive::put),
    route!(GET "/containers/{}/export" archive::export),
    route!(change DELETE "/containers/{}" containers::remove),
    route!(body POST "/exec/{}/start" exec::start),
    route!(change POST "/exec/{}/resize" exec::resize),
    route!(GET "/exec/{}/json" exec::inspect),
    route!(change POST "/commit" containers::commit),
    route!(GET "/images/json" images::list),
    route!(GET "/images/get" images::save_many),
    route!(GET "/images/search" images::search),
    route!(body POST "/images/load" images::load),
    route!(body POST "/images/create" images::create),
    route!(change POST "/images/prune" images::prune),
    route!(GET "/images/{}/json" images::inspect),
    route!(GET "/images/{}/history" images::history),
    route!(GET "/images/{}/get" images::save),
    route!(change POST "/images/{}/tag" images::tag),
    route!(body POST "/images/{}/push" images::push),
    route!(change DELETE "/images/{}" images::remove),
    route!(GET "/networks" networks::list),
    route!(GET "/networks/" networks::list),
    route!(change POST "/networks/create" networks::create),
    route!(change POST "/networks/prune" networks::prune),
    route!(GET "/networks/{}" networks::inspect),
    route!(change DELETE "/networks/{}" networks::remove),
    route!(change POST "/networks/{}/connect" networks::connect),
    route!(change POST "/networks/{}/disconnect" networks::disconnect),
    route!(GET "/plugins" plugins::list),
    route!(GET "/plugins/privileges" plugins::privileges),
    route!(body POST "/plugins/pull" plugins::pull),
    route!(body POST "/plugins/create" plugins::create),
    route!(GET "/plugins/{}/json" plugins::inspect),
    route!(change POST "/plugins/{}/enable" plugins::enable),
    route!(change POST "/plugins/{}/disable" plugins::disable),
    route!(change POST "/plugins/{}/set" plugins::set),
    route!(body POST "/plugins/{}/push" plugins::push),
    route!(body POST "/plugins/{}/upgrade" plugins::upgrade),
    route!(change DELETE "/plugins/{}" plugins::remove),
    route!(GET "/swarm" swarm::not_a_manager),
    route!(GET "/swarm/unlockkey" swarm::not_a_manager),
    route!(POST "/swarm/update" swarm::not_a_manager),
    route!(POST "/swarm/init" swarm::begin),
    route!(POST "/swarm/join" swarm::begin),
    route!(POST "/swarm/unlock" swarm::leave),
    route!(POST "/swarm/leave" swarm::leave),
    route!(GET "/nodes" swarm::not_a_manager),
    route!(ANY "/nodes/{}" swarm::not_a_manager),
    route!(GET "/services" swarm::not_a_manager),
    route!(ANY "/services/{}" swarm::not_a_manager),
    route!(GET "/tasks" swarm::not_a_manager),
    route!(GET "/tasks/{}" swarm::not_a_manager),
    route!(GET "/secrets" swarm::not_a_manager),
    route!(ANY "/secrets/{}" swarm::not_a_manager),
    route!(GET "/configs" swarm::not_a_manager),
    route!(ANY "/configs/{}" swarm::not_a_manager),
    route!(GET "/volumes" volumes::list),
    route!(change POST "/volumes/create" volumes::create),
    route!(change POST "/volumes/prune" volumes::prune),
    route!(GET "/volumes/{}/export" volumes::export),
    route!(GET "/volumes/{}" volumes::inspect),
    route!(change DELETE "/volumes/{}" volumes::remove),
    route!(change POST "/volumes/{}/clone" volumes::clone),
    route!(change POST "/volumes/{}/rename" volumes::rename),
    route!(change PUT "/volumes/{}/import" volumes::import),
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

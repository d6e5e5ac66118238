//! `gantry build` by BuildKit's protocol: the same API that buildx speaks, with the front end on the engine's side.
//!
//! Flow: the connection is turned to gRPC ([`wire`]), options become a request and an offer ([`request`]), the offer
//! is served on a second connection ([`session`]: folders by [`send`], results by [`receive`], stores by [`blobs`]),
//! `Control.Solve` is called, and what `Control.Status` tells is shown ([`show`]).
//! Invariant: the build ends with this process, whoever ends it: the engine sees the session go.
//! Source: BuildKit `api/services/control`, buildx `build`.

mod blobs;
mod call;
mod outcome;
mod receive;
mod request;
mod send;
mod session;
mod show;
mod walk;
mod wire;

use crate::{
    connect::Socket,
    error::{Fail, Result},
    flags::Given,
    random,
    ui::Ui,
};
use call::Call;
use request::Wanted;
use session::Session;
use show::{Mode, Steps};
use std::{collections::HashMap, io::Write as _, time::Duration};
use wire::{Channel, control};

/// Threads of a build's connections.
const THREADS: usize = 2;
/// How often displays move when nothing is told.
const TICK: Duration = Duration::from_millis(150);
/// How long the end of the story is waited for when the build is over.
const ENDS: Duration = Duration::from_secs(5);

/// What is known of the build that is asked for, before the engine is.
struct Talk {
    socket: (Socket, Vec<u8>),
    mode: Mode,
    call: Option<Call>,
}

/// Builds; false when the engine does not speak BuildKit's protocol, and nothing was done.
///
/// # Errors
/// For wrong options, and when the build fails.
pub(crate) fn build(ui: &mut Ui, given: &Given) -> Result<bool> {
    let mode = Mode::choose(given.text("progress").filter(|p| !p.is_empty()), given.is("quiet"))?;
    let call = Call::of(given)?;
    let Some(socket) = ui.client()?.switch("/grpc", &[])? else { return Ok(false) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let done = runtime.block_on(run(ui, given, Talk { socket, mode, call }));
    // A thread may still read standard input.
    runtime.shutdown_background();
    done.map(|()| true)
}

fn broken(what: &str, err: impl std::fmt::Display) -> Fail {
    Fail::new(format!("error during connect: {what}: {err}"))
}

async fn run(ui: &mut Ui, given: &Given, talk: Talk) -> Result<()> {
    let (socket, early) = talk.socket;
    let channel = Channel::open(wire::duplex(socket, early)?)
        .await
        .map_err(|e| broken("cannot speak HTTP/2 with the engine", e))?;
    let proxies = ui.config.proxy_environment(&ui.endpoint.to_string());
    let mut wanted = request::wanted(given, proxies, has_store(&channel).await?)?;
    if let Some(call) = &talk.call {
        wanted.ask(call.request());
    }
    let id = random::hex(16)?;
    let session = Session::new(std::mem::take(&mut wanted.offer), ui.config.clone());
    let session_id = random::hex(16)?;
    let mut headers = vec![
        ("X-Docker-Expose-Session-Uuid".to_owned(), session_id.clone()),
        ("X-Docker-Expose-Session-Name".to_owned(), "gantry".to_owned()),
    ];
    if !wanted.shared_key.is_empty() {
        headers.push(("X-Docker-Expose-Session-Sharedkey".into(), wanted.shared_key.clone()));
    }
    for method in session.methods() {
        headers.push(("X-Docker-Expose-Session-Grpc-Method".into(), method.to_owned()));
    }
    let (socket, early) = ui
        .client()?
        .switch("/session", &headers)?
        .ok_or_else(|| Fail::new("the engine does not take sessions of builds"))?;
    tokio::spawn(session.serve(wire::duplex(socket, early)?));
    let solve = control::SolveRequest {
        r#ref: id.clone(),
        session: session_id,
        frontend: "dockerfile.v0".into(),
        frontend_attrs: wanted.attrs.clone(),
        cache: Some(wanted.cache.clone()),
        entitlements: wanted.entitlements.clone(),
        exporters: wanted.exporters.clone(),
        ..control::SolveRequest::default()
    };
    let mut client = channel.control();
    let solving = async move { client.solve(solve).await };
    let (answer, steps) = watched(&channel, &id, talk.mode, solving).await?;
    match answer {
        Ok(answer) => {
            let response = answer.into_inner().exporter_response;
            if let Some(call) = &talk.call {
                return call.print(&response, &mut ui.out);
            }
            outcome::warn(ui, talk.mode, &steps)?;
            finish(ui, given, &channel, &wanted, &id, response).await
        }
        Err(status) => Err(outcome::failed(ui, talk.mode, &steps, &status)?),
    }
}

/// Whether the engine keeps any result in its store of images, as those with a snapshotter do.
async fn has_store(channel: &Channel) -> Result<bool> {
    let request = control::ListWorkersRequest::default();
    let answer = channel.control().list_workers(request).await;
    let answer = answer.map_err(|s| Fail::new(format!("cannot list workers: {}", s.message())))?;
    let key = "org.mobyproject.buildkit.worker.snapshotter";
    Ok(answer.into_inner().record.iter().any(|r| r.labels.contains_key(key)))
}

type Answer = std::result::Result<tonic::Response<control::SolveResponse>, tonic::Status>;

/// Waits for a build and shows what is told of it.
async fn watched(
    channel: &Channel,
    id: &str,
    mode: Mode,
    solving: impl Future<Output = Answer>,
) -> Result<(Answer, Steps)> {
    let mut display = show::display(mode);
    let mut steps = Steps::default();
    let mut err = std::io::stderr();
    let request = control::StatusRequest { r#ref: id.to_owned() };
    let mut client = channel.control();
    let mut story = client
        .status(request)
        .await
        .map_err(|s| Fail::new(format!("cannot follow the build: {}", s.message())))?
        .into_inner();
    let mut solving = std::pin::pin!(solving);
    let (mut answer, mut told) = (None, false);
    let mut tick = tokio::time::interval(TICK);
    let mut late = None;
    while answer.is_none() || !told {
        // What has come is shown before the end is.
        tokio::select! {
            biased;
            message = story.message(), if !told => match message {
                Ok(Some(message)) => {
                    steps.take(&message);
                    display.told(&steps, &message, &mut err)?;
                }
                Ok(None) | Err(_) => told = true,
            },
            done = solving.as_mut(), if answer.is_none() => {
                // A build that never began has no story that ends.
                let refused = done.is_err() && steps.all.is_empty();
                answer = Some(done);
                late = Some(tokio::time::Instant::now() + ENDS);
                told |= refused;
            }
            _ = tick.tick() => {
                told |= late.is_some_and(|late| tokio::time::Instant::now() > late);
                display.tick(&steps, &mut err)?;
            }
        }
    }
    display.end(&steps, &mut err)?;
    err.flush()?;
    let answer = answer.ok_or_else(|| Fail::new("the build has no outcome"))?;
    Ok((answer, steps))
}

/// Writes down what the build came to where that was asked for.
async fn finish(
    ui: &mut Ui,
    given: &Given,
    channel: &Channel,
    wanted: &Wanted,
    id: &str,
    response: HashMap<String, String>,
) -> Result<()> {
    let descriptor = |key: &str| response.get(key).and_then(|text| outcome::json(text));
    for (folder, tag) in &wanted.caches {
        if let Some(descriptor) = descriptor("cache.manifest") {
            outcome::index(folder, std::slice::from_ref(tag), descriptor)?;
        }
    }
    if let (Some(folder), Some(descriptor)) =
        (&wanted.layout, descriptor("containerimage.descriptor"))
    {
        outcome::index(folder, given.list("tag"), descriptor)?;
    }
    if let Some(path) = given.text("metadata-file") {
        let attested = outcome::attested(channel, id).await;
        std::fs::write(path, outcome::metadata(&response, id, attested))
            .map_err(|e| Fail::new(format!("cannot write {path}: {}", crate::error::text(&e))))?;
    }
    let config = response.get("containerimage.config.digest");
    let image = config.or_else(|| response.get("containerimage.digest"));
    let image = image.cloned().unwrap_or_default();
    if let Some(path) = given.text("iidfile") {
        std::fs::write(path, &image)
            .map_err(|e| Fail::new(format!("cannot write {path}: {}", crate::error::text(&e))))?;
    }
    if given.is("quiet") && !image.is_empty() {
        writeln!(ui.out, "{image}")?;
    }
    Ok(())
}

//! `moby.buildkit.v1.Control`: what clients ask of the builder as a whole.

use crate::{
    BuildKit, attest, cache, capabilities, export,
    failure::{Failure, status},
    front,
    history::{Ending, Entry},
    job::{Job, Outcome, Parts, Reference},
    proto::{self, control, pb, types},
    solve::{self, blocking},
};
use base::{Error, Platform, Principal, Timestamp};
use futures_util::{Stream, StreamExt as _};
use std::{collections::HashMap, pin::Pin, sync::Arc};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status};

/// What the engine tells clients it is: the release whose protocol it speaks.
pub(crate) const VERSION: &str = "v0.25.1";

type Answer<T> = Result<Response<T>, Status>;
type Many<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service, for one connection.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) kit: Arc<BuildKit>,
    pub(crate) by: Principal,
}

/// Ends a build when its request ends, however it does.
struct Running {
    kit: Arc<BuildKit>,
    job: Arc<Job>,
    entry: Entry,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kit.forget(&self.job.id);
        self.job.end();
        self.job.progress.close();
        self.kit.collect_soon();
    }
}

/// Platforms that images may be built for: this machine's.
fn platforms() -> Vec<pb::Platform> {
    let mut all = vec![proto::platform(&Platform::host().short())];
    for (name, architecture, variant) in capabilities::EMULATORS {
        if capabilities::emulates(name) {
            let variant = (*variant).to_owned();
            let platform =
                Platform { os: "linux".into(), architecture: (*architecture).into(), variant };
            all.push(proto::platform(&platform));
        }
    }
    all
}

/// The one worker that clients see.
pub(crate) fn worker(kit: &BuildKit) -> types::WorkerRecord {
    let labels = [
        ("org.mobyproject.buildkit.worker.executor", "gantry"),
        ("org.mobyproject.buildkit.worker.hostname", "gantry"),
        ("org.mobyproject.buildkit.worker.network", "host"),
        ("org.mobyproject.buildkit.worker.snapshotter", "overlayfs"),
        ("org.mobyproject.buildkit.worker.moby.host-gateway-ip", kit.gateway_address()),
    ];
    types::WorkerRecord {
        id: kit.id().to_owned(),
        labels: labels
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        platforms: platforms(),
        gc_policy: policies(kit),
        buildkit_version: Some(version()),
        cdi_devices: Vec::new(),
    }
}

/// The rules of the cache's collection.
fn policies(kit: &BuildKit) -> Vec<types::GcPolicy> {
    let builder = &kit.site.engine.config().builder;
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let rules = match kit.site.disk() {
        Ok((_, disk)) if builder.gc => builder.rules(disk),
        _ => Vec::new(),
    };
    let shown = |rule: engine::build::CachePolicy| types::GcPolicy {
        all: rule.all,
        keep_duration: i64::try_from(rule.unused_for.as_nanos()).unwrap_or(i64::MAX),
        filters: rule.filters,
        max_used_space: bytes(rule.max_used),
        reserved_space: bytes(rule.reserved),
        min_free_space: bytes(rule.min_free),
    };
    rules.into_iter().map(shown).collect()
}

fn version() -> types::BuildkitVersion {
    types::BuildkitVersion {
        package: "github.com/moby/buildkit".into(),
        version: VERSION.into(),
        revision: String::new(),
    }
}

impl Service {
    async fn begin(&self, request: &control::SolveRequest) -> Result<Running, Status> {
        if request.r#ref.is_empty() || request.r#ref.len() > 256 {
            return Err(Status::invalid_argument(
                "the build has no reference of a reasonable length",
            ));
        }
        let session = match request.session.as_str() {
            "" => None,
            id => Some(self.kit.sessions.get(id).await.map_err(|e| status(&e))?),
        };
        let builder = &self.kit.site.engine.config().builder;
        for wanted in &request.entitlements {
            let allowed = match wanted.as_str() {
                "network.host" => builder.host_network,
                "security.insecure" => builder.insecure,
                _ => true,
            };
            if !allowed {
                return Err(Status::permission_denied(format!(
                    "granting entitlement {wanted} is not allowed by build daemon configuration"
                )));
            }
        }
        let host = self.kit.site.engine.build_host(&self.by).map_err(|e| status(&e))?;
        let parts = Parts {
            id: request.r#ref.clone(),
            session,
            sessions: Arc::clone(&self.kit.sessions),
            host,
            progress: self.kit.progress(&request.r#ref),
            site: Arc::clone(&self.kit.site),
            entitlements: request.entitlements.iter().cloned().collect(),
            inputs: request.frontend_inputs.clone(),
            cache: cache::Options::read(&request.cache.clone().unwrap_or_default())
                .map_err(|e| status(&e))?,
            attest: attest::Request::read(&request.frontend_attrs).map_err(|e| status(&e))?,
        };
        let job = Job::new(parts);
        if !self.kit.enter(&job) {
            job.end();
            return Err(Status::already_exists(format!("job ID {} exists", job.id)));
        }
        let entry = self.kit.history.begin(request, &job.progress);
        Ok(Running { kit: Arc::clone(&self.kit), job, entry })
    }

    async fn build(
        &self,
        job: &Arc<Job>,
        request: &control::SolveRequest,
    ) -> Result<HashMap<String, String>, Arc<Failure>> {
        let outcome = if let Some(definition) = &request.definition {
            let out = solve::solve(job, definition).await?;
            let single = Some(Reference { out, definition: Some(definition.clone()) });
            Outcome { single, ..Outcome::default() }
        } else if !request.frontend.is_empty() {
            let asked = front::Asked {
                name: &request.frontend,
                opts: &request.frontend_attrs,
                inputs: &request.frontend_inputs,
            };
            front::run(&self.kit, job, &job.desk, asked).await?
        } else {
            job.returned().await?
        };
        let epoch = request.frontend_attrs.get("build-arg:SOURCE_DATE_EPOCH");
        let exporters = exporters(request);
        let base = outcome.metadata.iter().find(|(key, _)| key.starts_with(export::BASE_NAME));
        let base = base.map(|(_, name)| String::from_utf8_lossy(name).into_owned());
        job.set_base(base.unwrap_or_default());
        let given = exporters.iter().find_map(|e| e.attrs.get("source-date-epoch"));
        let epoch = given.or(epoch).and_then(|text| text.parse().ok()).or(job.epoch());
        let mut response = export::export(job, &outcome, &exporters, epoch).await?;
        if request.frontend_attrs.contains_key("requestid") {
            // Who has no gateway of his own gets the front end's answer with the end of the build.
            let answer = outcome.metadata.iter().filter(|(key, _)| key.starts_with("result."));
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            response.extend(answer.map(|(key, value)| (key.clone(), text(value))));
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl control::control_server::Control for Service {
    type PruneStream = Many<control::UsageRecord>;
    type StatusStream = Many<control::StatusResponse>;
    type SessionStream = Many<control::BytesMessage>;
    type ListenBuildHistoryStream = Many<control::BuildHistoryEvent>;

    async fn info(&self, _: Request<control::InfoRequest>) -> Answer<control::InfoResponse> {
        Ok(Response::new(control::InfoResponse { buildkit_version: Some(version()) }))
    }

    async fn list_workers(
        &self,
        _: Request<control::ListWorkersRequest>,
    ) -> Answer<control::ListWorkersResponse> {
        Ok(Response::new(control::ListWorkersResponse { record: vec![worker(&self.kit)] }))
    }

    async fn solve(
        &self,
        request: Request<control::SolveRequest>,
    ) -> Answer<control::SolveResponse> {
        let request = request.into_inner();
        let mut running = self.begin(&request).await?;
        let job = Arc::clone(&running.job);
        let gone = async {
            match &job.session {
                Some(session) => session.gone.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            done = self.build(&job, &request) => done,
            () = gone => Err(Arc::new(Error::cancelled("the client of the build has gone").into())),
        };
        let mut ending = match &done {
            Ok(response) => Ending {
                response: response.clone(),
                attachments: job.attachments(),
                ..Ending::default()
            },
            Err(failure) => Ending { failure: Some(Arc::clone(failure)), ..Ending::default() },
        };
        ending.trace = Some(job.trace());
        let failure = done.as_ref().err().map(|failure| failure.to_string());
        let told = job.told(&exporters(&request), failure);
        let host = Arc::clone(&job.host);
        if let Err(err) = blocking(move || host.put_record(told)).await {
            tracing::warn!(build = job.id, err = err.chain(), "the record of a build was not kept");
        }
        running.entry.finish(ending).await;
        match done {
            Ok(exporter_response) => {
                Ok(Response::new(control::SolveResponse { exporter_response }))
            }
            Err(failure) => {
                tracing::debug!(build = job.id, err = failure.to_string(), "a build failed");
                Err(failure.status())
            }
        }
    }

    async fn status(&self, request: Request<control::StatusRequest>) -> Answer<Self::StatusStream> {
        let name = request.into_inner().r#ref;
        if !self.kit.tells(&name) {
            let (history, known) = (Arc::clone(&self.kit.history), name.clone());
            let story = blocking(move || history.story(&known)).await.map_err(|e| status(&e))?;
            if let Some(story) = story {
                let stream = futures_util::stream::unfold(story, |mut story| async move {
                    Some((Ok(story.recv().await?), story))
                });
                return Ok(Response::new(Box::pin(stream)));
            }
        }
        let follow = self.kit.progress(&name).follow();
        let stream = futures_util::stream::unfold(follow, |mut follow| async move {
            Some((Ok(follow.next().await?), follow))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn session(
        &self,
        request: Request<tonic::Streaming<control::BytesMessage>>,
    ) -> Answer<Self::SessionStream> {
        let hello =
            crate::session::Hello::read(request.metadata().as_ref()).map_err(|e| status(&e))?;
        Ok(Response::new(Box::pin(crate::tunnel::session(
            Arc::clone(&self.kit.sessions),
            hello,
            request.into_inner(),
        ))))
    }

    async fn disk_usage(
        &self,
        request: Request<control::DiskUsageRequest>,
    ) -> Answer<control::DiskUsageResponse> {
        let request = request.into_inner();
        let record = self.kit.usage(&request.filter).await.map_err(|e| status(&e))?;
        Ok(Response::new(control::DiskUsageResponse { record }))
    }

    async fn prune(&self, request: Request<control::PruneRequest>) -> Answer<Self::PruneStream> {
        let request = request.into_inner();
        let pruned = self.kit.prune(&request).await.map_err(|e| status(&e))?;
        Ok(Response::new(Box::pin(futures_util::stream::iter(pruned.into_iter().map(Ok)))))
    }

    async fn listen_build_history(
        &self,
        request: Request<control::BuildHistoryRequest>,
    ) -> Answer<Self::ListenBuildHistoryStream> {
        let request = request.into_inner();
        // Listened to first, so that nothing is missed in between.
        let follow = self.kit.history.follow();
        let (history, wanted) = (Arc::clone(&self.kit.history), request.clone());
        let events = blocking(move || history.events(&wanted)).await.map_err(|e| status(&e))?;
        let events = futures_util::stream::iter(events.into_iter().map(Ok));
        let mut response: Response<Self::ListenBuildHistoryStream> = match request.early_exit {
            true => Response::new(Box::pin(events)),
            false => Response::new(Box::pin(events.chain(later(follow, request.r#ref)))),
        };
        // Clients count from it how long builds under way have taken.
        let now = Timestamp::now().to_string();
        let now = now.parse().map_err(|_| Status::internal("malformed time"))?;
        response.metadata_mut().insert("buildkit-current-timestamp", now);
        Ok(response)
    }

    async fn update_build_history(
        &self,
        request: Request<control::UpdateBuildHistoryRequest>,
    ) -> Answer<control::UpdateBuildHistoryResponse> {
        let (history, request) = (Arc::clone(&self.kit.history), request.into_inner());
        blocking(move || history.update(&request)).await.map_err(|e| status(&e))?;
        Ok(Response::new(control::UpdateBuildHistoryResponse {}))
    }
}

/// The exporters of a request, in whichever form it names them.
fn exporters(request: &control::SolveRequest) -> Vec<control::Exporter> {
    match request.exporters.as_slice() {
        [] if !request.exporter_deprecated.is_empty() => vec![control::Exporter {
            r#type: request.exporter_deprecated.clone(),
            attrs: request.exporter_attrs_deprecated.clone(),
        }],
        list => list.to_vec(),
    }
}

/// What happens to builds from now on, or to the one called `name`.
fn later(
    follow: broadcast::Receiver<control::BuildHistoryEvent>,
    name: String,
) -> impl Stream<Item = Result<control::BuildHistoryEvent, Status>> + Send {
    futures_util::stream::unfold((follow, name), |(mut follow, name)| async move {
        loop {
            match follow.recv().await {
                Ok(event) => {
                    let own = event.record.as_ref().is_some_and(|r| r.r#ref == name);
                    if name.is_empty() || own {
                        return Some((Ok(event), (follow, name)));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let why = format!("{missed} events were missed: ask again");
                    return Some((Err(Status::data_loss(why)), (follow, name)));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

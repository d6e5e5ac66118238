//! `moby.buildkit.v1.frontend.LLBBridge`: what a front end asks for. With buildx the front end is the client
//! itself, which mostly hands the work to the Dockerfile front end that is built in.

use crate::{
    BuildKit, attest, capabilities, containers, control,
    desk::Desk,
    failure::{Failure, status},
    front,
    job::{Job, Outcome, Reference},
    proto::{self, control as wire, fsutil, gateway, pb},
    solve::{self, Out, blocking, read},
};
use base::{Digest, Error, Platform, Result};
use futures_util::Stream;
use std::{collections::HashMap, io::Read as _, path::Path, pin::Pin, sync::Arc};
use tonic::{Request, Response, Status};

type Answer<T> = std::result::Result<Response<T>, Status>;

/// Bytes of a file that a front end reads.
const FILE: u64 = 16 << 20;

/// The service, for one connection.
#[derive(Clone)]
pub(crate) struct Service {
    kit: Arc<BuildKit>,
    caller: Caller,
}

/// Who calls.
#[derive(Clone)]
enum Caller {
    /// A client, which names the build with each call.
    Client,
    /// A front end in a container, which has one build only.
    Container(Arc<Job>, Arc<Desk>),
}

impl Service {
    /// For a client.
    pub(crate) fn for_client(kit: &Arc<BuildKit>) -> Self {
        Self { kit: Arc::clone(kit), caller: Caller::Client }
    }

    /// For a front end in a container.
    pub(crate) fn for_desk(kit: &Arc<BuildKit>, job: &Arc<Job>, desk: &Arc<Desk>) -> Self {
        Self { kit: Arc::clone(kit), caller: Caller::Container(Arc::clone(job), Arc::clone(desk)) }
    }

    /// The build that a call belongs to, and what the caller has of it.
    async fn job<T>(
        &self,
        request: &Request<T>,
    ) -> std::result::Result<(Arc<Job>, Arc<Desk>), Status> {
        if let Caller::Container(job, desk) = &self.caller {
            return Ok((Arc::clone(job), Arc::clone(desk)));
        }
        let id = request.metadata().get("buildkit-controlapi-buildid");
        let id = id.and_then(|v| v.to_str().ok()).unwrap_or_default();
        if id.is_empty() {
            return Err(Status::invalid_argument("the call names no build"));
        }
        let job = self.kit.job(id).await.map_err(|e| status(&e))?;
        let desk = Arc::clone(&job.desk);
        Ok((job, desk))
    }
}

async fn out(job: &Arc<Job>, desk: &Desk, id: &str) -> std::result::Result<Option<Out>, Status> {
    let reference = desk.reference(id).map_err(|e| status(&e))?;
    solve::evaluate(job, &reference).await.map_err(|f| f.status())
}

/// A state for the front end.
fn given(desk: &Desk, reference: &Reference) -> Result<gateway::Ref> {
    Ok(match reference.out.is_none() && reference.definition.is_none() {
        true => gateway::Ref { id: String::new(), def: None },
        false => {
            gateway::Ref { id: desk.keep(reference.clone())?, def: reference.definition.clone() }
        }
    })
}

fn told(desk: &Desk, outcome: &Outcome) -> Result<gateway::Result> {
    let result = match &outcome.single {
        Some(reference) => gateway::result::Result::Ref(given(desk, reference)?),
        None => {
            let refs = outcome.several.iter();
            let refs = refs.map(|(name, r)| Ok((name.clone(), given(desk, r)?)));
            gateway::result::Result::Refs(gateway::RefMap { refs: refs.collect::<Result<_>>()? })
        }
    };
    let (metadata, result) = (outcome.metadata.clone(), Some(result));
    let mut attestations: HashMap<String, gateway::Attestations> = HashMap::new();
    for said in &outcome.said {
        let subject = |(name, digest): &(String, Vec<String>)| gateway::InTotoSubject {
            kind: gateway::InTotoSubjectKind::Raw as i32,
            name: name.clone(),
            digest: digest.clone(),
        };
        let kind = match said.bundle {
            true => gateway::AttestationKind::Bundle,
            false => gateway::AttestationKind::InToto,
        };
        let attestation = gateway::Attestation {
            kind: kind as i32,
            r#ref: Some(given(desk, &said.reference)?),
            path: said.path.clone(),
            in_toto_predicate_type: said.kind.clone(),
            in_toto_subjects: said.subjects.iter().map(subject).collect(),
            ..gateway::Attestation::default()
        };
        attestations.entry(said.platform.clone()).or_default().attestation.push(attestation);
    }
    Ok(gateway::Result { metadata, attestations, result })
}

/// What a front end may attest of its results.
const ATTESTATIONS: usize = 1_000;

/// One thing that a front end attests.
fn attested(desk: &Desk, platform: &str, given: gateway::Attestation) -> Result<attest::Said> {
    let bundle = match gateway::AttestationKind::try_from(given.kind) {
        Ok(gateway::AttestationKind::InToto) => false,
        Ok(gateway::AttestationKind::Bundle) => true,
        Err(_) => {
            return Err(Error::invalid(format!("attestations of kind {} are unknown", given.kind)));
        }
    };
    // The result itself is always what it is about.
    let raw = |s: &gateway::InTotoSubject| s.kind == gateway::InTotoSubjectKind::Raw as i32;
    let subjects = given.in_toto_subjects.into_iter().filter(raw);
    Ok(attest::Said {
        platform: platform.to_owned(),
        kind: given.in_toto_predicate_type,
        reference: desk.reference(&given.r#ref.unwrap_or_default().id)?,
        path: given.path,
        bundle,
        subjects: subjects.map(|s| (s.name, s.digest)).collect(),
    })
}

/// What a front end gives back.
fn returned(desk: &Desk, result: gateway::Result) -> Result<Outcome> {
    let mut outcome = Outcome { metadata: result.metadata, ..Outcome::default() };
    match result.result {
        None => {}
        Some(gateway::result::Result::Ref(reference)) => {
            outcome.single = Some(desk.reference(&reference.id)?);
        }
        Some(gateway::result::Result::RefDeprecated(id)) => {
            outcome.single = Some(desk.reference(&id)?);
        }
        Some(gateway::result::Result::Refs(map)) => {
            for (name, reference) in map.refs {
                outcome.several.push((name, desk.reference(&reference.id)?));
            }
        }
        Some(gateway::result::Result::RefsDeprecated(map)) => {
            for (name, id) in map.refs {
                outcome.several.push((name, desk.reference(&id)?));
            }
        }
    }
    outcome.several.sort_by(|a, b| a.0.cmp(&b.0));
    for (platform, all) in result.attestations {
        for attestation in all.attestation {
            outcome.said.push(attested(desk, &platform, attestation)?);
        }
    }
    if outcome.said.len() > ATTESTATIONS {
        return Err(Error::exhausted(format!(
            "the front end attests more than {ATTESTATIONS} things"
        )));
    }
    outcome.said.sort_by(|a, b| a.platform.cmp(&b.platform));
    Ok(outcome)
}

#[tonic::async_trait]
impl gateway::llb_bridge_server::LlbBridge for Service {
    type ExecProcessStream =
        Pin<Box<dyn Stream<Item = std::result::Result<gateway::ExecMessage, Status>> + Send>>;

    async fn ping(&self, _: Request<gateway::PingRequest>) -> Answer<gateway::PongResponse> {
        Ok(Response::new(gateway::PongResponse {
            frontend_api_caps: capabilities::list(capabilities::GATEWAY),
            llb_caps: capabilities::list(capabilities::LLB),
            workers: vec![control::worker(&self.kit)],
        }))
    }

    async fn solve(
        &self,
        request: Request<gateway::SolveRequest>,
    ) -> Answer<gateway::SolveResponse> {
        let (job, desk) = self.job(&request).await?;
        let request = request.into_inner();
        let outcome = if request.frontend.is_empty() {
            let mut reference = Reference { out: None, definition: request.definition.clone() };
            if request.evaluate {
                reference.out = solve::evaluate(&job, &reference).await.map_err(|f| f.status())?;
            } else if let Some(definition) = &request.definition {
                crate::graph::Graph::read(definition).map_err(|e| status(&e))?;
            }
            Outcome { single: Some(reference), ..Outcome::default() }
        } else {
            let asked = front::Asked {
                name: &request.frontend,
                opts: &request.frontend_opt,
                inputs: &request.frontend_inputs,
            };
            front::run(&self.kit, &job, &desk, asked).await.map_err(|f| f.status())?
        };
        let result = told(&desk, &outcome).map_err(|e| status(&e))?;
        Ok(Response::new(gateway::SolveResponse { r#ref: String::new(), result: Some(result) }))
    }

    async fn r#return(
        &self,
        request: Request<gateway::ReturnRequest>,
    ) -> Answer<gateway::ReturnResponse> {
        let (_, desk) = self.job(&request).await?;
        let request = request.into_inner();
        match (request.error, request.result) {
            (Some(error), _) => {
                desk.give(Err(Failure::told(error.code, error.message, error.details)));
            }
            (None, result) => {
                let outcome =
                    returned(&desk, result.unwrap_or_default()).map_err(|e| status(&e))?;
                desk.give(Ok(outcome));
            }
        }
        Ok(Response::new(gateway::ReturnResponse {}))
    }

    async fn inputs(
        &self,
        request: Request<gateway::InputsRequest>,
    ) -> Answer<gateway::InputsResponse> {
        let (_, desk) = self.job(&request).await?;
        Ok(Response::new(gateway::InputsResponse { definitions: desk.inputs.clone() }))
    }

    async fn evaluate(
        &self,
        request: Request<gateway::EvaluateRequest>,
    ) -> Answer<gateway::EvaluateResponse> {
        let (job, desk) = self.job(&request).await?;
        out(&job, &desk, &request.get_ref().r#ref).await?;
        Ok(Response::new(gateway::EvaluateResponse {}))
    }

    async fn read_file(
        &self,
        request: Request<gateway::ReadFileRequest>,
    ) -> Answer<gateway::ReadFileResponse> {
        let (job, desk) = self.job(&request).await?;
        let request = request.into_inner();
        let out = out(&job, &desk, &request.r#ref).await?;
        let data = read_file(&job, out.as_ref(), &request.file_path, request.range)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(gateway::ReadFileResponse { data }))
    }

    async fn read_dir(
        &self,
        request: Request<gateway::ReadDirRequest>,
    ) -> Answer<gateway::ReadDirResponse> {
        let (job, desk) = self.job(&request).await?;
        let request = request.into_inner();
        let out = out(&job, &desk, &request.r#ref).await?;
        let entries = read_dir(&job, out.as_ref(), &request.dir_path, &request.include_pattern)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(gateway::ReadDirResponse { entries }))
    }

    async fn stat_file(
        &self,
        request: Request<gateway::StatFileRequest>,
    ) -> Answer<gateway::StatFileResponse> {
        let (job, desk) = self.job(&request).await?;
        let request = request.into_inner();
        let out = out(&job, &desk, &request.r#ref).await?;
        let stat = stat_file(&job, out.as_ref(), &request.path).await.map_err(|e| status(&e))?;
        Ok(Response::new(gateway::StatFileResponse { stat: Some(stat) }))
    }

    async fn resolve_image_config(
        &self,
        request: Request<gateway::ResolveImageConfigRequest>,
    ) -> Answer<gateway::ResolveImageConfigResponse> {
        let (job, _) = self.job(&request).await?;
        let request = request.into_inner();
        let pull = request.resolve_mode == "pull";
        let (digest, config) = config(&job, &request.r#ref, request.platform.as_ref(), pull)
            .await
            .map_err(|e| status(&e))?;
        let r#ref = request.r#ref;
        Ok(Response::new(gateway::ResolveImageConfigResponse { digest, config, r#ref }))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<gateway::ResolveSourceMetaRequest>,
    ) -> Answer<gateway::ResolveSourceMetaResponse> {
        let (job, _) = self.job(&request).await?;
        let request = request.into_inner();
        let source = request.source.unwrap_or_default();
        let mut answer = gateway::ResolveSourceMetaResponse {
            source: Some(source.clone()),
            ..gateway::ResolveSourceMetaResponse::default()
        };
        if let Some(name) = source.identifier.strip_prefix("docker-image://") {
            let pull = request.resolve_mode == "pull";
            let (digest, config) = config(&job, name, request.platform.as_ref(), pull)
                .await
                .map_err(|e| status(&e))?;
            answer.image = Some(gateway::ResolveSourceImageResponse {
                digest,
                config,
                ..gateway::ResolveSourceImageResponse::default()
            });
        }
        Ok(Response::new(answer))
    }

    async fn warn(&self, request: Request<gateway::WarnRequest>) -> Answer<gateway::WarnResponse> {
        let (job, _) = self.job(&request).await?;
        let request = request.into_inner();
        job.progress.warn(wire::VertexWarning {
            vertex: request.digest,
            level: request.level,
            short: request.short,
            detail: request.detail,
            url: request.url,
            info: request.info,
            ranges: request.ranges,
        });
        Ok(Response::new(gateway::WarnResponse {}))
    }

    async fn new_container(
        &self,
        request: Request<gateway::NewContainerRequest>,
    ) -> Answer<gateway::NewContainerResponse> {
        let (job, desk) = self.job(&request).await?;
        let added = desk.containers.add(&job, &desk, request.into_inner()).await;
        added.map_err(|f| f.status())?;
        Ok(Response::new(gateway::NewContainerResponse {}))
    }

    async fn release_container(
        &self,
        request: Request<gateway::ReleaseContainerRequest>,
    ) -> Answer<gateway::ReleaseContainerResponse> {
        let (_, desk) = self.job(&request).await?;
        desk.containers.release(&request.get_ref().container_id).map_err(|e| status(&e))?;
        Ok(Response::new(gateway::ReleaseContainerResponse {}))
    }

    async fn exec_process(
        &self,
        request: Request<tonic::Streaming<gateway::ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        let (job, desk) = self.job(&request).await?;
        let answers = containers::serve(&job, &desk, request.into_inner());
        let stream = futures_util::stream::unfold(answers, |mut answers| async move {
            Some((answers.recv().await?, answers))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn read_file_container(
        &self,
        _: Request<gateway::ReadFileRequest>,
    ) -> Answer<gateway::ReadFileResponse> {
        Err(Status::unimplemented(
            "files of containers that run are not shown: read them of a state",
        ))
    }

    async fn read_dir_container(
        &self,
        _: Request<gateway::ReadDirRequest>,
    ) -> Answer<gateway::ReadDirResponse> {
        Err(Status::unimplemented(
            "files of containers that run are not shown: read them of a state",
        ))
    }

    async fn stat_file_container(
        &self,
        _: Request<gateway::StatFileRequest>,
    ) -> Answer<gateway::StatFileResponse> {
        Err(Status::unimplemented(
            "files of containers that run are not shown: read them of a state",
        ))
    }
}

/// Digest and config of an image.
async fn config(
    job: &Arc<Job>,
    name: &str,
    platform: Option<&pb::Platform>,
    pull: bool,
) -> Result<(String, Vec<u8>)> {
    let platform = platform.map_or_else(Platform::host, proto::platform_from);
    let config = front::metadata(job, name, &platform, pull).await?;
    let json = serde_json::to_vec(&config)
        .map_err(|e| Error::internal("cannot encode the image's config").caused_by(e))?;
    Ok((Digest::sha256(&json).to_string(), json))
}

async fn read_file(
    job: &Job,
    out: Option<&Out>,
    path: &str,
    range: Option<gateway::FileRange>,
) -> Result<Vec<u8>> {
    let reading = read(job, out).await?;
    let path = path.to_owned();
    blocking(move || {
        let fail = |e: std::io::Error| missing(&path, e);
        let mut file = reading.root.open_file(&path).map_err(|e| fail(e.into()))?;
        let mut length = FILE;
        if let Some(range) = range {
            let offset = u64::try_from(range.offset).unwrap_or_default();
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset)).map_err(fail)?;
            if range.length > 0 {
                length = length.min(range.length.unsigned_abs());
            }
        }
        let mut data = Vec::new();
        file.take(length).read_to_end(&mut data).map_err(fail)?;
        Ok(data)
    })
    .await
}

fn missing(path: &str, err: std::io::Error) -> Error {
    match err.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found(format!("open {path}: no such file or directory"))
        }
        _ => Error::io(format!("cannot read {path}"), err),
    }
}

fn stat_of(name: &str, stat: &sys::root::Stat, link: String) -> fsutil::Stat {
    fsutil::Stat {
        path: name.to_owned(),
        mode: sys::go_mode::of(stat.kind, stat.mode),
        uid: stat.uid,
        gid: stat.gid,
        size: i64::try_from(stat.size).unwrap_or(i64::MAX),
        mod_time: stat.mtime.seconds.saturating_mul(1_000_000_000) + i64::from(stat.mtime.nanos),
        linkname: link,
        devmajor: i64::from(stat.rdev.0),
        devminor: i64::from(stat.rdev.1),
        ..fsutil::Stat::default()
    }
}

async fn stat_file(job: &Job, out: Option<&Out>, path: &str) -> Result<fsutil::Stat> {
    let reading = read(job, out).await?;
    let path = path.to_owned();
    blocking(move || {
        let stat = reading.root.lstat(&path).map_err(|e| missing(&path, e.into()))?;
        let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let link = reading.root.readlink(&path).unwrap_or_default();
        Ok(stat_of(&name, &stat, link.to_string_lossy().into_owned()))
    })
    .await
}

async fn read_dir(
    job: &Job,
    out: Option<&Out>,
    path: &str,
    pattern: &str,
) -> Result<Vec<fsutil::Stat>> {
    let reading = read(job, out).await?;
    let (path, pattern) = (path.to_owned(), pattern.to_owned());
    blocking(move || {
        let dir = reading.root.open_dir(&path).map_err(|e| missing(&path, e.into()))?;
        let mut entries = Vec::new();
        for (name, _) in dir.entries().map_err(|e| missing(&path, e.into()))? {
            let text = name.to_string_lossy().into_owned();
            if !pattern.is_empty() && !build::go::path_match(&pattern, &text)? {
                continue;
            }
            let stat = dir.stat(&name).map_err(|e| missing(&path, e.into()))?;
            let link = dir.readlink(&name).unwrap_or_default();
            entries.push(stat_of(&text, &stat, link.to_string_lossy().into_owned()));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    })
    .await
}

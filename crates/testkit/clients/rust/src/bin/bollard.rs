//! bollard over its wide surface. Each section is run; the program ends with 1 when one of them failed.
//! NAME: what its objects are called after. REGISTRY: host:port of a registry that takes pushes. SUBNET: the first three
//! numbers of addresses that it may use.

use bollard::{
    Docker,
    auth::DockerCredentials,
    body_full,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    models::*,
    query_parameters::*,
};
use clients::{Failure, Outcome, check, equal, pack, section, unpack};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use std::{collections::HashMap, sync::LazyLock, time::Duration};
use tokio::io::AsyncWriteExt as _;

static NAME: LazyLock<String> = LazyLock::new(|| clients::variable("NAME"));
const SLEEP: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"];

fn named(part: &str) -> String {
    format!("{}-{part}", *NAME)
}

fn labels() -> Option<HashMap<String, String>> {
    Some([("client".to_owned(), NAME.clone())].into())
}

fn mine() -> HashMap<String, Vec<String>> {
    filter("label", &format!("client={}", *NAME))
}

fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    [(key.to_owned(), vec![value.to_owned()])].into()
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn container(command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: words(command),
        labels: labels(),
        ..Default::default()
    }
}

/// An error of the engine is expected, with this status and with one of these texts.
fn fails<T>(status: u16, texts: &[&str], result: Result<T, Error>) -> Outcome {
    match result {
        Err(Error::DockerResponseServerError { status_code, message }) => {
            equal(status_code, status)?;
            check(texts.iter().any(|text| message.contains(text)), &message)
        }
        Err(other) => Err(other.into()),
        Ok(_) => Err(Failure::new(format!("an error {status} is expected: {texts:?}"))),
    }
}

/// What a stream of output gives: standard output, or what a console shows, and standard error.
async fn output(
    mut stream: impl Stream<Item = Result<LogOutput, Error>> + Unpin,
) -> Result<(String, String), Error> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(part) = stream.try_next().await? {
        let to = if matches!(part, LogOutput::StdErr { .. }) { &mut err } else { &mut out };
        to.extend_from_slice(&part.into_bytes());
    }
    Ok((String::from_utf8_lossy(&out).into(), String::from_utf8_lossy(&err).into()))
}

fn texts(out: &str, err: &str) -> (String, String) {
    (out.to_owned(), err.to_owned())
}

async fn bytes<B: AsRef<[u8]>>(
    stream: impl Stream<Item = Result<B, Error>>,
) -> Result<Vec<u8>, Error> {
    stream
        .try_fold(Vec::new(), async |mut all, part| {
            all.extend_from_slice(part.as_ref());
            Ok(all)
        })
        .await
}

struct Client(Docker);

impl std::ops::Deref for Client {
    type Target = Docker;
    fn deref(&self) -> &Docker {
        &self.0
    }
}

impl Client {
    async fn created(
        &self,
        name: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<String, Error> {
        let options = name.map(|name| CreateContainerOptionsBuilder::new().name(name).build());
        Ok(self.create_container(options, body).await?.id)
    }

    async fn started(
        &self,
        name: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<String, Error> {
        let id = self.created(name, body).await?;
        self.start_container(&id, None::<StartContainerOptions>).await?;
        Ok(id)
    }

    /// Waits for the end; the exit code. bollard makes an error of any that is not 0.
    async fn ended(&self, id: &str) -> Result<i64, Error> {
        match self.wait_container(id, None::<WaitContainerOptions>).try_next().await {
            Ok(answer) => Ok(answer.map_or(-1, |answer| answer.status_code)),
            Err(Error::DockerContainerWaitError { code, .. }) => Ok(code),
            Err(err) => Err(err),
        }
    }

    async fn gone(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        self.remove_container(id, Some(options)).await
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, Error> {
        self.inspect_container(id, None::<InspectContainerOptions>).await
    }

    async fn said(&self, id: &str) -> Result<(String, String), Error> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).build();
        output(Box::pin(self.logs(id, Some(options)))).await
    }

    async fn download(&self, id: &str, path: &str) -> Result<Vec<u8>, Error> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        bytes(self.download_from_container(id, Some(options))).await
    }

    async fn upload(&self, id: &str, path: &str, tar: Vec<u8>) -> Result<(), Error> {
        let options = UploadToContainerOptionsBuilder::new().path(path).build();
        self.upload_to_container(id, Some(options), body_full(tar.into())).await
    }

    async fn removed(&self, image: &str) -> Result<(), Error> {
        self.remove_image(image, None::<RemoveImageOptions>, None).await.map(drop)
    }
}

async fn system(docker: &Client) -> Outcome {
    equal(docker.ping().await?, "OK".to_owned())?;
    let version = docker.version().await?;
    check(version.api_version.is_some_and(|v| v.starts_with("1.")), "API version")?;
    let info = docker.info().await?;
    equal(info.os_type.as_deref(), Some("linux"))?;
    check(info.ncpu > Some(0) && info.mem_total > Some(0), "processors and memory")?;
    let usage = docker.df(None::<DataUsageOptions>).await?;
    // Its fields are those of API 1.52; an engine that speaks an older one gives others.
    check(usage.build_cache_usage.is_none() || usage.image_usage.is_some(), "usage")
}

async fn run_with_output(docker: &Client) -> Outcome {
    let id =
        docker.started(None, container(&["sh", "-c", "echo out; echo err >&2; exit 3"])).await?;
    equal(docker.ended(&id).await?, 3)?;
    equal(docker.said(&id).await?, texts("out\n", "err\n"))?;
    let options = LogsOptionsBuilder::new().stdout(true).tail("2").timestamps(true).build();
    let (line, _) = output(Box::pin(docker.logs(&id, Some(options)))).await?;
    check(line.starts_with("20") && line.ends_with("Z out\n"), &line)?;
    docker.remove_container(&id, None::<RemoveContainerOptions>).await?;
    fails(404, &["No such container"], docker.inspect(&id).await)
}

async fn attach(docker: &Client) -> Outcome {
    let options = || {
        AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .build()
    };
    let body = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        ..container(&["cat"])
    };
    let id = docker.created(None, body).await?;
    let mut attached = docker.attach_container(&id, Some(options())).await?;
    docker.start_container(&id, None::<StartContainerOptions>).await?;
    attached.input.write_all(b"one\ntwo\n").await?;
    attached.input.shutdown().await?;
    equal(output(attached.output).await?, texts("one\ntwo\n", ""))?;
    equal(docker.ended(&id).await?, 0)?;
    docker.gone(&id).await?;
    let body =
        ContainerCreateBody { tty: Some(true), open_stdin: Some(true), ..container(&["sh"]) };
    let id = docker.created(None, body).await?;
    let mut attached = docker.attach_container(&id, Some(options())).await?;
    docker.start_container(&id, None::<StartContainerOptions>).await?;
    docker
        .resize_container_tty(&id, ResizeContainerTTYOptionsBuilder::new().h(33).w(101).build())
        .await?;
    attached.input.write_all(b"stty size\nexit 7\n").await?;
    attached.input.flush().await?;
    let (console, _) = output(attached.output).await?;
    check(console.contains("33 101\r\n"), &console)?;
    equal(docker.ended(&id).await?, 7)?;
    Ok(docker.gone(&id).await?)
}

async fn exec(docker: &Client) -> Outcome {
    let id = docker.started(None, container(SLEEP)).await?;
    let options = CreateExecOptions {
        cmd: words(&["sh", "-c", "cat; echo $A $PWD >&2; exit 4"]),
        env: words(&["A=b"]),
        working_dir: Some("/tmp".to_owned()),
        user: Some("nobody".to_owned()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(&id, options).await?.id;
    let StartExecResults::Attached { output: stream, mut input } =
        docker.start_exec(&exec, None).await?
    else {
        return Err(Failure::new("it should be attached"));
    };
    input.write_all(b"typed\n").await?;
    input.shutdown().await?;
    equal(output(stream).await?, texts("typed\n", "b /tmp\n"))?;
    let state = docker.inspect_exec(&exec).await?;
    equal(
        (state.exit_code, state.running, state.container_id),
        (Some(4), Some(false), Some(id.clone())),
    )?;
    let detached = CreateExecOptions { cmd: words(&["touch", "/made"]), ..Default::default() };
    let exec = docker.create_exec(&id, detached).await?.id;
    let options = StartExecOptions { detach: true, ..Default::default() };
    check(
        matches!(docker.start_exec(&exec, Some(options)).await?, StartExecResults::Detached),
        "detached",
    )?;
    while docker.inspect_exec(&exec).await?.running == Some(true) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    equal(docker.inspect_exec(&exec).await?.exit_code, Some(0))?;
    let top =
        docker.top_processes(&id, Some(TopOptionsBuilder::new().ps_args("-ef").build())).await?;
    let rows = top.processes.unwrap_or_default();
    check(rows.iter().flatten().any(|cell| cell.contains("sleep")), format!("{rows:?}"))?;
    fails(404, &["No such exec instance"], docker.inspect_exec(&"0".repeat(64)).await)?;
    Ok(docker.gone(&id).await?)
}

async fn life(docker: &Client) -> Outcome {
    let name = named("life");
    let limits = HostConfig { memory: Some(64 << 20), ..Default::default() };
    let body = ContainerCreateBody { host_config: Some(limits), ..container(SLEEP) };
    let id = docker.started(Some(&name), body.clone()).await?;
    fails(409, &["already in use"], docker.created(Some(&name), body).await)?;
    docker.pause_container(&id).await?;
    equal(docker.inspect(&id).await?.state.and_then(|s| s.paused), Some(true))?;
    docker.unpause_container(&id).await?;
    let update =
        ContainerUpdateBody { memory: Some(96 << 20), memory_swap: Some(-1), ..Default::default() };
    docker.update_container(&id, update).await?;
    equal(docker.inspect(&id).await?.host_config.and_then(|h| h.memory), Some(96 << 20))?;
    docker
        .rename_container(&id, RenameContainerOptionsBuilder::new().name(&named("renamed")).build())
        .await?;
    let filters = [mine(), filter("status", "running"), filter("name", &named("renamed"))];
    let filters = filters.into_iter().flatten().collect();
    let listed = docker
        .list_containers(Some(ListContainersOptionsBuilder::new().filters(&filters).build()))
        .await?;
    equal(listed[0].names.clone(), Some(vec![format!("/{}", named("renamed"))]))?;
    docker.restart_container(&id, Some(RestartContainerOptionsBuilder::new().t(5).build())).await?;
    let stop = || Some(StopContainerOptionsBuilder::new().t(5).build());
    docker.stop_container(&id, stop()).await?;
    // bollard takes 304, already stopped or started, for a success.
    docker.stop_container(&id, stop()).await?;
    let sized = docker
        .inspect_container(&id, Some(InspectContainerOptionsBuilder::new().size(true).build()))
        .await?;
    check(sized.size_root_fs > Some(0), "size")?;
    let state = sized.state.unwrap_or_default();
    equal((state.status, state.exit_code), (Some(ContainerStateStatusEnum::EXITED), Some(0)))?;
    docker.start_container(&id, None::<StartContainerOptions>).await?;
    fails(
        409,
        &["running", "force"],
        docker.remove_container(&id, None::<RemoveContainerOptions>).await,
    )?;
    let kill = || Some(KillContainerOptionsBuilder::new().signal("SIGKILL").build());
    docker.kill_container(&id, kill()).await?;
    equal(docker.ended(&id).await?, 137)?;
    fails(409, &["not running"], docker.kill_container(&id, kill()).await)?;
    Ok(docker.gone(&id).await?)
}

async fn files(docker: &Client) -> Outcome {
    let id = docker.created(None, container(SLEEP)).await?;
    let tar = pack(&[("a.txt", "alpha"), ("d/b.txt", "beta")])?;
    docker.upload(&id, "/tmp", tar.clone()).await?;
    equal(unpack(&docker.download(&id, "/tmp/a.txt").await?)?["a.txt"].as_str(), "alpha")?;
    let options = ContainerArchiveInfoOptionsBuilder::new().path("/tmp/a.txt").build();
    let stat = docker.get_container_archive_info(&id, Some(options)).await?;
    equal((stat.name.as_str(), stat.size), ("a.txt", 5))?;
    let changes = docker.container_changes(&id).await?.unwrap_or_default();
    check(changes.iter().any(|c| c.path == "/tmp/a.txt"), format!("{changes:?}"))?;
    let whole = unpack(&bytes(docker.export_container(&id)).await?)?;
    equal(whole["tmp/d/b.txt"].as_str(), "beta")?;
    fails(404, &["Could not find the file"], docker.download(&id, "/nowhere").await)?;
    fails(404, &["Could not find the file"], docker.upload(&id, "/nowhere", tar).await)?;
    let name = named("committed");
    let options = CommitContainerOptionsBuilder::new()
        .container(&id)
        .repo(&name)
        .tag("one")
        .changes("ENV X=y")
        .build();
    docker.commit_container(options, ContainerConfig::default()).await?;
    let env = docker
        .inspect_image(&format!("{name}:one"))
        .await?
        .config
        .and_then(|c| c.env)
        .unwrap_or_default();
    check(env.contains(&"X=y".to_owned()), format!("{env:?}"))?;
    docker.removed(&format!("{name}:one")).await?;
    Ok(docker.gone(&id).await?)
}

async fn statistics(docker: &Client) -> Outcome {
    let id = docker.started(None, container(SLEEP)).await?;
    let once = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let once = Box::pin(docker.stats(&id, Some(once))).try_next().await?.unwrap_or_default();
    check(once.memory_stats.and_then(|m| m.usage) > Some(0), "memory")?;
    let stream = docker.stats(&id, Some(StatsOptionsBuilder::new().stream(true).build()));
    let two: Vec<_> = stream.take(2).try_collect().await?;
    let total = |cpu: &Option<ContainerCpuStats>| {
        cpu.as_ref().and_then(|c| c.cpu_usage.as_ref()?.total_usage)
    };
    equal(total(&two[1].precpu_stats), total(&two[0].cpu_stats))?;
    Ok(docker.gone(&id).await?)
}

async fn logs_that_are_followed(docker: &Client) -> Outcome {
    let body = ContainerCreateBody {
        open_stdin: Some(true),
        ..container(&["sh", "-c", "echo first; read x; echo \"got $x\""])
    };
    let id = docker.started(None, body).await?;
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).build();
    let mut stream = Box::pin(docker.logs(&id, Some(options)));
    let first = stream.try_next().await?.map(|line| line.to_string());
    equal(first.as_deref(), Some("first\n"))?;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).build();
    let mut attached = docker.attach_container(&id, Some(options)).await?;
    attached.input.write_all(b"word\n").await?;
    attached.input.flush().await?;
    equal(output(stream).await?, texts("got word\n", ""))?;
    Ok(docker.gone(&id).await?)
}

async fn build(docker: &Client) -> Outcome {
    let name = named("built");
    let dockerfile = "FROM busybox\nARG WHO\nCOPY f /f\nRUN echo \"$WHO\" >> /f\nLABEL a=b\n";
    let options = BuildImageOptionsBuilder::new()
        .t(&format!("{name}:1"))
        .buildargs(&[("WHO", "me")].into())
        .build();
    let context = pack(&[("Dockerfile", dockerfile), ("f", "base\n")])?;
    let lines: Vec<_> =
        docker.build_image(options, None, Some(body_full(context.into()))).try_collect().await?;
    let told = lines
        .iter()
        .filter_map(|l| l.stream.as_deref())
        .any(|l| l.starts_with("Successfully built"));
    check(told, format!("{lines:?}"))?;
    let image = docker.inspect_image(&format!("{name}:1")).await?;
    equal(image.config.and_then(|c| c.labels?.get("a").cloned()).as_deref(), Some("b"))?;
    let body =
        ContainerCreateBody { image: Some(format!("{name}:1")), ..container(&["cat", "/f"]) };
    let run = docker.started(None, body).await?;
    equal(docker.said(&run).await?, texts("base\nme\n", ""))?;
    docker.gone(&run).await?;
    let failing = |dockerfile: &str| -> Result<_, Failure> {
        let options = BuildImageOptionsBuilder::new().forcerm(true).build();
        Ok(docker.build_image(
            options,
            None,
            Some(body_full(pack(&[("Dockerfile", dockerfile)])?.into())),
        ))
    };
    match failing("FROM busybox\nRUN exit 5\n")?.try_collect::<Vec<_>>().await {
        Err(Error::DockerStreamError { error }) => {
            check(error.contains("returned a non-zero code: 5"), error)?
        }
        other => return Err(Failure::new(format!("{other:?}"))),
    }
    let nonsense = failing("FROM busybox\nNONSENSE\n")?.try_collect::<Vec<_>>().await;
    fails(400, &["unknown instruction: NONSENSE"], nonsense)?;
    let saved = bytes(docker.export_image(&format!("{name}:1"))).await?;
    docker
        .tag_image(
            &format!("{name}:1"),
            Some(TagImageOptionsBuilder::new().repo(&name).tag("two").build()),
        )
        .await?;
    check(docker.image_history(&format!("{name}:1")).await?.len() >= 2, "history")?;
    let options = ListImagesOptionsBuilder::new().filters(&filter("reference", &name)).build();
    let listed = docker.list_images(Some(options)).await?;
    equal(listed.iter().map(|i| i.repo_tags.len()).collect::<Vec<_>>(), vec![2])?;
    docker.removed(&format!("{name}:1")).await?;
    docker.removed(&format!("{name}:two")).await?;
    fails(404, &["No such image"], docker.inspect_image(&format!("{name}:1")).await)?;
    let options = ImportImageOptionsBuilder::new().build();
    let loaded: Vec<_> =
        docker.import_image(options, body_full(saved.into()), None).try_collect().await?;
    check(
        loaded.iter().any(|l| l.stream.as_deref().is_some_and(|l| l.contains("Loaded image"))),
        format!("{loaded:?}"),
    )?;
    equal(docker.inspect_image(&format!("{name}:1")).await?.id, image.id)?;
    Ok(docker.removed(&format!("{name}:1")).await?)
}

async fn push_and_pull(docker: &Client) -> Outcome {
    let name = format!("{}/{}-rust", clients::variable("REGISTRY"), *NAME);
    docker
        .tag_image("busybox", Some(TagImageOptionsBuilder::new().repo(&name).tag("v1").build()))
        .await?;
    let credentials = DockerCredentials {
        username: Some("a".into()),
        password: Some("b".into()),
        ..Default::default()
    };
    let options = PushImageOptionsBuilder::new().tag("v1").build();
    let pushed: Vec<_> =
        docker.push_image(&name, Some(options), Some(credentials)).try_collect().await?;
    check(
        pushed
            .iter()
            .any(|l| l.status.as_deref().is_some_and(|s| s.starts_with("v1: digest: sha256:"))),
        format!("{pushed:?}"),
    )?;
    docker.removed(&format!("{name}:v1")).await?;
    let pull = |tag: &str| {
        let options = CreateImageOptionsBuilder::new().from_image(&name).tag(tag).build();
        docker.create_image(Some(options), None, None).try_collect::<Vec<_>>()
    };
    pull("v1").await?;
    let digests =
        docker.inspect_image(&format!("{name}:v1")).await?.repo_digests.unwrap_or_default();
    check(
        digests.iter().any(|d| d.starts_with(&format!("{name}@sha256:"))),
        format!("{digests:?}"),
    )?;
    let remote = docker.inspect_registry_image(&format!("{name}:v1"), None).await?;
    check(
        digests.iter().any(|d| d.ends_with(remote.descriptor.digest.as_deref().unwrap_or("-"))),
        format!("{remote:?}"),
    )?;
    fails(404, &["not found", "manifest unknown"], pull("no-such").await)?;
    Ok(docker.removed(&format!("{name}:v1")).await?)
}

async fn networks(docker: &Client) -> Outcome {
    let (name, subnet) = (named("net"), clients::variable("SUBNET"));
    let config = IpamConfig { subnet: Some(format!("{subnet}.0/28")), ..Default::default() };
    let request = NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".into()),
        labels: labels(),
        ipam: Some(Ipam { config: Some(vec![config]), ..Default::default() }),
        ..Default::default()
    };
    docker.create_network(request).await?;
    let on = |aliases: &[&str], address: Option<String>, command: &[&str]| {
        let ipam =
            address.map(|a| EndpointIpamConfig { ipv4_address: Some(a), ..Default::default() });
        let endpoint =
            EndpointSettings { aliases: words(aliases), ipam_config: ipam, ..Default::default() };
        ContainerCreateBody {
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some([(name.clone(), endpoint)].into()),
            }),
            host_config: Some(HostConfig {
                network_mode: Some(name.clone()),
                ..Default::default()
            }),
            ..container(command)
        }
    };
    let server = docker
        .started(Some(&named("server")), on(&["here"], Some(format!("{subnet}.9")), SLEEP))
        .await?;
    let client = docker.started(None, on(&[], None, &["ping", "-c", "1", "here"])).await?;
    equal(docker.ended(&client).await?, 0)?;
    docker.gone(&client).await?;
    let inspected = docker.inspect_network(&name, None::<InspectNetworkOptions>).await?;
    let address = inspected.containers.and_then(|c| c.get(&server)?.ipv4_address.clone());
    equal(address, Some(format!("{subnet}.9/28")))?;
    fails(403, &["has active endpoints"], docker.remove_network(&name).await)?;
    docker
        .disconnect_network(
            &name,
            NetworkDisconnectRequest { container: server.clone(), force: None },
        )
        .await?;
    let endpoint = EndpointSettings { aliases: words(&["again"]), ..Default::default() };
    docker
        .connect_network(
            &name,
            NetworkConnectRequest { container: server.clone(), endpoint_config: Some(endpoint) },
        )
        .await?;
    let networks = docker
        .inspect(&server)
        .await?
        .network_settings
        .and_then(|s| s.networks)
        .unwrap_or_default();
    check(networks[&name].aliases.iter().flatten().any(|a| a == "again"), "alias")?;
    let options = ListNetworksOptionsBuilder::new().filters(&mine()).build();
    equal(docker.list_networks(Some(options)).await?.len(), 1)?;
    docker.gone(&server).await?;
    let pruned = docker
        .prune_networks(Some(PruneNetworksOptionsBuilder::new().filters(&mine()).build()))
        .await?;
    equal(pruned.networks_deleted, Some(vec![name.clone()]))?;
    fails(404, &["not found"], docker.inspect_network(&name, None::<InspectNetworkOptions>).await)
}

async fn volumes(docker: &Client) -> Outcome {
    let name = named("vol");
    let request =
        VolumeCreateRequest { name: Some(name.clone()), labels: labels(), ..Default::default() };
    docker.create_volume(request).await?;
    let mount = |typ, source: Option<String>, target: &str| Mount {
        typ: Some(typ),
        source,
        target: Some(target.into()),
        ..Default::default()
    };
    let mounts = vec![
        mount(MountType::VOLUME, Some(name.clone()), "/v"),
        mount(MountType::TMPFS, None, "/t"),
    ];
    let host = HostConfig { mounts: Some(mounts), ..Default::default() };
    let id = docker
        .started(None, ContainerCreateBody { host_config: Some(host), ..container(SLEEP) })
        .await?;
    equal(docker.inspect(&id).await?.mounts.map(|m| m.len()), Some(2))?;
    fails(
        409,
        &["volume is in use"],
        docker.remove_volume(&name, None::<RemoveVolumeOptions>).await,
    )?;
    docker.gone(&id).await?;
    equal(Some(docker.inspect_volume(&name).await?.labels), labels())?;
    let options = ListVolumesOptionsBuilder::new().filters(&mine()).build();
    equal(docker.list_volumes(Some(options)).await?.volumes.map(|v| v.len()), Some(1))?;
    let filters = mine().into_iter().chain(filter("all", "true")).collect();
    let pruned = docker
        .prune_volumes(Some(PruneVolumesOptionsBuilder::new().filters(&filters).build()))
        .await?;
    equal(pruned.volumes_deleted, Some(vec![name.clone()]))?;
    fails(404, &["no such volume"], docker.inspect_volume(&name).await)
}

async fn events(docker: &Client) -> Outcome {
    let name = named("ev");
    let options =
        EventsOptionsBuilder::new().since("1").filters(&filter("container", &name)).build();
    let id = docker.started(Some(&name), container(&["true"])).await?;
    docker.ended(&id).await?;
    docker.gone(&id).await?;
    let mut stream = Box::pin(docker.events(Some(options)));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "destroy") {
        let event = stream.try_next().await?.ok_or_else(|| Failure::new("the stream ended"))?;
        let attributes = event.actor.and_then(|a| a.attributes).unwrap_or_default();
        equal(attributes.get("client"), Some(&*NAME))?;
        seen.extend(event.action);
    }
    equal(seen, ["create", "start", "die", "destroy"].map(str::to_owned).to_vec())
}

async fn health_checks_and_prune(docker: &Client) -> Outcome {
    let check_ = HealthConfig {
        test: words(&["CMD-SHELL", "test -e /tmp/ok"]),
        interval: Some(50_000_000),
        timeout: Some(5_000_000_000),
        retries: Some(100),
        ..Default::default()
    };
    let id = docker
        .started(None, ContainerCreateBody { healthcheck: Some(check_), ..container(SLEEP) })
        .await?;
    let health = async || -> Result<_, Error> {
        Ok(docker.inspect(&id).await?.state.and_then(|s| s.health?.status))
    };
    equal(health().await?, Some(HealthStatusEnum::STARTING))?;
    docker.upload(&id, "/tmp", pack(&[("ok", "")])?).await?;
    while health().await? != Some(HealthStatusEnum::HEALTHY) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    docker.stop_container(&id, Some(StopContainerOptionsBuilder::new().t(3).build())).await?;
    let pruned = docker
        .prune_containers(Some(PruneContainersOptionsBuilder::new().filters(&mine()).build()))
        .await?;
    equal(pruned.containers_deleted, Some(vec![id.clone()]))
}

async fn errors(docker: &Client) -> Outcome {
    let missing = ContainerCreateBody { image: Some("no-such-image".into()), ..Default::default() };
    fails(404, &["No such image: no-such-image:latest"], docker.created(None, missing).await)?;
    fails(
        400,
        &["Invalid container name"],
        docker.created(Some("a b"), container(&["true"])).await,
    )?;
    fails(404, &["No such image"], docker.removed("no-such-image").await)?;
    let options = ListContainersOptionsBuilder::new().filters(&filter("nonsense", "x")).build();
    fails(400, &["invalid filter"], docker.list_containers(Some(options)).await)?;
    let broken = docker.created(None, container(&["/no/such"])).await?;
    fails(
        400,
        &["no such file or directory"],
        docker.start_container(&broken, None::<StartContainerOptions>).await,
    )?;
    equal(docker.inspect(&broken).await?.state.and_then(|s| s.exit_code), Some(127))?;
    Ok(docker.gone(&broken).await?)
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let docker = Docker::connect_with_unix_defaults().expect("there is a socket");
    let docker = Client(docker.negotiate_version().await.expect("there is an engine"));
    let mut failed = 0;
    section("system", &mut failed, system(&docker)).await;
    section("run with output", &mut failed, run_with_output(&docker)).await;
    section("attach", &mut failed, attach(&docker)).await;
    section("exec", &mut failed, exec(&docker)).await;
    section("life of a container", &mut failed, life(&docker)).await;
    section("files up and down", &mut failed, files(&docker)).await;
    section("statistics", &mut failed, statistics(&docker)).await;
    section("logs that are followed", &mut failed, logs_that_are_followed(&docker)).await;
    section("build", &mut failed, build(&docker)).await;
    section("push and pull", &mut failed, push_and_pull(&docker)).await;
    section("networks", &mut failed, networks(&docker)).await;
    section("volumes", &mut failed, volumes(&docker)).await;
    section("events", &mut failed, events(&docker)).await;
    section("health checks and prune", &mut failed, health_checks_and_prune(&docker)).await;
    section("errors", &mut failed, errors(&docker)).await;
    let all = ListContainersOptionsBuilder::new().all(true).filters(&mine()).build();
    for left in docker.list_containers(Some(all)).await.unwrap_or_default() {
        let _ = docker.gone(left.id.as_deref().unwrap_or_default()).await;
    }
    std::process::ExitCode::from(u8::from(failed > 0))
}

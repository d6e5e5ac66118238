//! testcontainers for Rust: what its guide shows. NAME: what its objects are called after. REGISTRY: host:port of a registry
//! that takes pushes. COMPOSE: whether the compose plugin is to be found.

use clients::{Failure, Outcome, check, equal, section};
use futures_util::TryStreamExt as _;
use std::time::Duration;
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, Healthcheck, Image, ImageExt as _,
    ReuseDirective,
    bollard::{
        Docker,
        auth::DockerCredentials,
        query_parameters::{
            InspectNetworkOptions, PushImageOptionsBuilder, RemoveImageOptions,
            TagImageOptionsBuilder,
        },
    },
    compose::DockerCompose,
    core::{
        AccessMode, CmdWaitFor, ExecCommand, Host, IntoContainerPort as _, Mount, WaitFor,
        logs::LogFrame,
        wait::{ExitWaitStrategy, HttpWaitStrategy, LogWaitStrategy},
    },
    runners::AsyncRunner as _,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

const SERVE: [&str; 3] =
    ["sh", "-c", "mkdir /w; echo page > /w/index.html; echo begun; exec httpd -f -p 80 -h /w"];
const SLEEP: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"];

fn named(part: &str) -> String {
    format!("{}-{part}", clients::variable("NAME"))
}

fn busybox() -> GenericImage {
    GenericImage::new("busybox", "latest")
}

fn serving(wait: WaitFor) -> ContainerRequest<GenericImage> {
    busybox().with_exposed_port(80.tcp()).with_wait_for(wait).with_cmd(SERVE)
}

/// What a server on this machine says to `GET /`.
async fn get(port: u16) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
}

/// Runs a command: its exit code, and what it printed.
async fn run<I: Image>(
    container: &ContainerAsync<I>,
    command: ExecCommand,
) -> Result<(Option<i64>, String, String), Failure> {
    let mut result = container.exec(command.with_cmd_ready_condition(CmdWaitFor::exit())).await?;
    let out = String::from_utf8(result.stdout_to_vec().await?)?;
    let err = String::from_utf8(result.stderr_to_vec().await?)?;
    Ok((result.exit_code().await?, out, err))
}

fn said(code: i64, out: &str, err: &str) -> (Option<i64>, String, String) {
    (Some(code), out.to_owned(), err.to_owned())
}

async fn waits() -> Outcome {
    for wait in [
        WaitFor::message_on_stdout("begun"),
        WaitFor::log(LogWaitStrategy::stdout_or_stderr("begun").with_times(1)),
        WaitFor::http(
            HttpWaitStrategy::new("/").with_port(80.tcp()).with_expected_status_code(200u16),
        ),
        WaitFor::millis(10),
    ] {
        serving(wait).start().await?.rm().await?;
    }
    let check_ = Healthcheck::cmd_shell("wget -qO- http://127.0.0.1/")
        .with_interval(Duration::from_millis(100))
        .with_timeout(Duration::from_secs(5))
        .with_retries(100u32);
    let container = serving(WaitFor::healthcheck()).with_health_check(check_).start().await?;
    equal(get(container.get_host_port_ipv4(80.tcp()).await?).await?, "page\n".to_owned())?;
    container.rm().await?;
    let wait = WaitFor::exit(ExitWaitStrategy::new().with_exit_code(3));
    let once = busybox().with_wait_for(wait).with_cmd(["sh", "-c", "exit 3"]).start().await?;
    equal(once.exit_code().await?, Some(3))?;
    equal(once.is_running().await?, false)?;
    once.rm().await?;
    let never = serving(WaitFor::message_on_stdout("never"))
        .with_startup_timeout(Duration::from_millis(300));
    check(
        never.start().await.is_err_and(|err| err.to_string().contains("timeout")),
        "a timeout is expected",
    )
}

async fn exec_logs_files() -> Outcome {
    let folder = std::env::current_dir()?.join(named("rust"));
    std::fs::create_dir_all(folder.join("deep"))?;
    std::fs::write(folder.join("deep/leaf"), "leaf")?;
    let (send, mut received) = mpsc::unbounded_channel();
    let container = busybox()
        .with_wait_for(WaitFor::message_on_stderr("two"))
        .with_cmd(["sh", "-c", &format!("echo one; echo two >&2; {}", SLEEP[2])])
        .with_env_var("A", "b")
        .with_label("client", clients::variable("NAME"))
        .with_hostname("named")
        .with_working_dir("/tmp")
        .with_host("beta", Host::Addr([127, 0, 0, 9].into()))
        .with_cap_drop("NET_RAW")
        .with_shm_size(8 << 20)
        .with_ulimit("nofile", 100, Some(200))
        .with_mount(Mount::tmpfs_mount("/t"))
        .with_mount(
            Mount::bind_mount(folder.display().to_string(), "/bound")
                .with_access_mode(AccessMode::ReadOnly),
        )
        .with_copy_to("/in/a", b"content".to_vec())
        .with_copy_to("/in/tree", folder.clone())
        .with_log_consumer(move |frame: &LogFrame| {
            let _ = send.send(String::from_utf8_lossy(frame.bytes()).trim().to_owned());
        })
        .start()
        .await?;
    let mut lines = vec![received.recv().await, received.recv().await];
    lines.sort();
    equal(lines, vec![Some("one".to_owned()), Some("two".to_owned())])?;
    equal(container.stdout_to_vec().await?, b"one\n".to_vec())?;
    equal(container.stderr_to_vec().await?, b"two\n".to_vec())?;
    let script = ExecCommand::new([
        "sh",
        "-c",
        "echo $A $C $PWD $(hostname) $(ulimit -n); echo x >&2; exit 3",
    ]);
    equal(
        run(&container, script.with_env_vars([("C", "d")])).await?,
        said(3, "b d /tmp named 100\n", "x\n"),
    )?;
    let cat = ExecCommand::new(["cat", "/in/a", "/in/tree/deep/leaf", "/bound/deep/leaf"]);
    equal(run(&container, cat).await?, said(0, "contentleafleaf", ""))?;
    let (code, ..) = run(&container, ExecCommand::new(["touch", "/bound/f"])).await?;
    equal(code, Some(1))?;
    equal(container.copy_file_from("/in/a", Vec::new()).await?, b"content".to_vec())?;
    container.pause().await?;
    container.unpause().await?;
    container.stop_with_timeout(Some(5)).await?;
    equal(container.is_running().await?, false)?;
    container.start().await?;
    equal(container.is_running().await?, true)?;
    container.rm().await?;
    Ok(std::fs::remove_dir_all(folder)?)
}

async fn networks() -> Outcome {
    let network = named("net");
    let server = serving(WaitFor::message_on_stdout("begun"))
        .with_network(&network)
        .with_container_name(named("alpha"))
        .start()
        .await?;
    let client = busybox().with_network(&network).with_cmd(SLEEP).start().await?;
    let fetch = ExecCommand::new([
        "wget".to_owned(),
        "-qO-".to_owned(),
        format!("http://{}/", named("alpha")),
    ]);
    equal(run(&client, fetch).await?, said(0, "page\n", ""))?;
    check(server.get_bridge_ip_address().await?.is_ipv4(), "an address")?;
    client.rm().await?;
    server.rm().await?;
    // The network goes with the last container on it.
    let docker = Docker::connect_with_unix_defaults()?;
    while docker.inspect_network(&network, None::<InspectNetworkOptions>).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Images that are not here are pulled. Builds are left out: they ask for `POST /build?version=2`.
async fn images() -> Outcome {
    let docker = Docker::connect_with_unix_defaults()?;
    let name = format!("{}/{}", clients::variable("REGISTRY"), named("tc"));
    docker
        .tag_image("busybox", Some(TagImageOptionsBuilder::new().repo(&name).tag("1").build()))
        .await?;
    let options = PushImageOptionsBuilder::new().tag("1").build();
    docker
        .push_image(&name, Some(options), Some(DockerCredentials::default()))
        .try_collect::<Vec<_>>()
        .await?;
    let remove = async || {
        docker.remove_image(&format!("{name}:1"), None::<RemoveImageOptions>, None).await.map(drop)
    };
    remove().await?;
    let image =
        GenericImage::new(name.as_str(), "1").with_wait_for(WaitFor::message_on_stdout("pulled"));
    let container = image.with_cmd(["echo", "pulled"]).start().await?;
    container.rm().await?;
    let again =
        GenericImage::new(name.as_str(), "1").with_cmd(SLEEP).pull_image().await?.start().await?;
    again.rm().await?;
    remove().await?;
    let missing = format!("{}/{}", clients::variable("REGISTRY"), named("none"));
    let err =
        GenericImage::new(missing.as_str(), "1").start().await.err().map(|err| format!("{err:?}"));
    check(
        err.as_ref().is_some_and(|text| text.contains("404") || text.contains("not found")),
        format!("{err:?}"),
    )
}

async fn reuse() -> Outcome {
    let make = || {
        serving(WaitFor::message_on_stdout("begun"))
            .with_container_name(named("reused"))
            .with_reuse(ReuseDirective::Always)
            .start()
    };
    let first = make().await?;
    let second = make().await?;
    equal(first.id(), second.id())?;
    first.rm().await?;
    Ok(())
}

async fn compose() -> Outcome {
    if std::env::var_os("COMPOSE").is_none() {
        return Ok(());
    }
    let file = std::env::current_dir()?.join(named("compose.yaml"));
    std::fs::write(
        &file,
        r#"
services:
  web:
    image: busybox
    command: sh -c "mkdir /w; echo $${WHAT} > /w/index.html; echo begun; exec httpd -f -p 80 -h /w"
    environment: { WHAT: "${WHAT}" }
    ports: ["80"]
    stop_grace_period: 0s
    healthcheck: { test: [CMD, test, -e, /w/index.html], interval: 100ms }
  other:
    image: busybox
    command: sleep 600
    stop_grace_period: 0s
    depends_on: { web: { condition: service_healthy } }
"#,
    )?;
    let mut project = DockerCompose::with_local_client(&[&file][..])
        .with_project_name(named("compose").to_lowercase())
        .with_env("WHAT", "composed")
        .with_wait_for_service("web", WaitFor::message_on_stdout("begun"));
    project.up().await?;
    let web = project.service("web").ok_or_else(|| Failure::new("there is no web"))?;
    equal(get(web.get_host_port_ipv4(80.tcp()).await?).await?, "composed\n".to_owned())?;
    equal(project.services().len(), 2)?;
    project.down().await?;
    Ok(std::fs::remove_file(file)?)
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let mut failed = 0;
    section("waits", &mut failed, waits()).await;
    section("exec, logs, files", &mut failed, exec_logs_files()).await;
    section("networks", &mut failed, networks()).await;
    section("images", &mut failed, images()).await;
    section("reuse", &mut failed, reuse()).await;
    section("compose", &mut failed, compose()).await;
    std::process::ExitCode::from(u8::from(failed > 0))
}

//! `info`: the engine's state and abilities.

use super::inspect;
use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Given, Kind, Words, short},
    format::INSPECT_FORMAT_HELP,
    ui::Ui,
};
use api::model::Info;
use serde_json::json;
use std::io::Write;

pub(crate) const INFO: Command = Command {
    names: &["info", "system info"],
    usage: "",
    about: "Display system-wide information",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[&[short('f', "format", Kind::Text, INSPECT_FORMAT_HELP)]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let answer = ui.client().and_then(|client| Ok(client.get_value("/info", &Query::new())?));
    let version = env!("CARGO_PKG_VERSION");
    let format = given.text_or_empty("format");
    if !format.is_empty() {
        let mut value = answer?;
        value["ClientInfo"] = json!({
            "Debug": false, "Platform": {"Name": "Gantry"}, "Version": version, "Context": "default",
            "Plugins": [], "Warnings": null, "Os": "linux", "Arch": super::version::arch(),
        });
        if format == "json" {
            return Ok(writeln!(ui.out, "{value}")?);
        }
        return inspect::print(ui, &format, &[value]);
    }
    writeln!(
        ui.out,
        "Client: Gantry\n Version:    {version}\n Context:    default\n Debug Mode: false\n\nServer:"
    )?;
    match answer {
        Ok(value) => {
            let info: Info = api::decode_value(value)?;
            let mut text = String::new();
            server(&info, &mut text);
            ui.out.write_all(text.as_bytes())?;
            ui.out.flush()?;
            for warning in info.warnings.iter().flatten() {
                writeln!(ui.err, "{warning}")?;
            }
            Ok(())
        }
        Err(fail) => {
            ui.out.flush()?;
            Err(crate::error::Fail {
                message: format!("{}\nerrors pretty printing info", fail.message),
                ..fail
            })
        }
    }
}

fn server(info: &Info, out: &mut String) {
    let mut line = |depth: usize, name: &str, value: &str| {
        out.push_str(&format!("{}{name}: {value}\n", " ".repeat(depth)));
    };
    line(1, "Containers", &info.containers.to_string());
    line(2, "Running", &info.containers_running.to_string());
    line(2, "Paused", &info.containers_paused.to_string());
    line(2, "Stopped", &info.containers_stopped.to_string());
    line(1, "Images", &info.images.to_string());
    let mut some = |depth: usize, name: &str, value: &str| {
        if !value.is_empty() {
            line(depth, name, value);
        }
    };
    some(1, "Server Version", &info.server_version);
    some(1, "Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        some(2, name, value);
    }
    some(1, "Logging Driver", &info.logging_driver);
    some(1, "Cgroup Driver", &info.cgroup_driver);
    some(1, "Cgroup Version", &info.cgroup_version);
    plugins(info, out);
    let runtimes: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
    let mut some = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!(" {name}: {value}\n"));
        }
    };
    some("Swarm", &info.swarm.local_node_state);
    some("Runtimes", &runtimes.join(" "));
    some("Default Runtime", &info.default_runtime);
    some("Init Binary", &info.init_binary);
    some("containerd version", &info.containerd_commit.id);
    some("runc version", &info.runc_commit.id);
    if !info.init_binary.is_empty() {
        out.push_str(&format!(" init version: {}\n", info.init_commit.id));
    }
    security(info, out);
    machine(info, out);
}

fn plugins(info: &Info, out: &mut String) {
    out.push_str(" Plugins:\n");
    out.push_str(&format!("  Volume: {}\n", info.plugins.volume.join(" ")));
    out.push_str(&format!("  Network: {}\n", info.plugins.network.join(" ")));
    if let Some(names) = info.plugins.authorization.as_ref().filter(|a| !a.is_empty()) {
        out.push_str(&format!("  Authorization: {}\n", names.join(" ")));
    }
    out.push_str(&format!("  Log: {}\n", info.plugins.log.join(" ")));
}

fn security(info: &Info, out: &mut String) {
    if info.security_options.is_empty() {
        return;
    }
    out.push_str(" Security Options:\n");
    for option in &info.security_options {
        // name=seccomp,profile=builtin
        for field in option.split(',') {
            match field.split_once('=') {
                Some(("name", value)) => out.push_str(&format!("  {value}\n")),
                Some(("profile", value)) => out.push_str(&format!("   Profile: {value}\n")),
                _ => {}
            }
        }
    }
}

fn machine(info: &Info, out: &mut String) {
    let mut some = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!(" {name}: {value}\n"));
        }
    };
    some("Kernel Version", info.kernel_version.clone());
    some("Operating System", info.operating_system.clone());
    some("OSType", info.os_type.clone());
    some("Architecture", info.architecture.clone());
    some("CPUs", info.ncpu.to_string());
    some("Total Memory", base::units::bytes_size(info.mem_total as f64));
    some("Name", info.name.clone());
    some("ID", info.id.clone());
    some("Docker Root Dir", info.docker_root_dir.clone());
    some("Debug Mode", info.debug.to_string());
    some("HTTP Proxy", info.http_proxy.clone());
    some("HTTPS Proxy", info.https_proxy.clone());
    some("No Proxy", info.no_proxy.clone());
    if let Some(labels) = info.labels.as_ref().filter(|l| !l.is_empty()) {
        out.push_str(" Labels:\n");
        for label in labels {
            out.push_str(&format!("  {label}\n"));
        }
    }
    out.push_str(&format!(" Experimental: {}\n", info.experimental_build));
    let registries = &info.registry_config;
    out.push_str(" Insecure Registries:\n");
    for (name, _) in registries.index_configs.iter().filter(|(_, index)| !index.secure) {
        out.push_str(&format!("  {name}\n"));
    }
    for range in &registries.insecure_registry_cidrs {
        out.push_str(&format!("  {range}\n"));
    }
    if !registries.mirrors.is_empty() {
        out.push_str(" Registry Mirrors:\n");
        for mirror in &registries.mirrors {
            out.push_str(&format!("  {mirror}\n"));
        }
    }
    out.push_str(&format!(" Live Restore Enabled: {}\n", info.live_restore_enabled));
    if let Some(firewall) = info.firewall_backend.as_ref().filter(|f| !f.driver.is_empty()) {
        out.push_str(&format!(" Firewall Backend: {}\n", firewall.driver));
    }
    out.push('\n');
}

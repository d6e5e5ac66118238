//! `port`: where a container's ports are published.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Given, Words},
    ui::Ui,
};
use api::model::{ContainerInspect, PortBinding};
use std::io::Write;

pub(crate) const PORT: Command = Command {
    names: &["port", "container port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    count: Count::Between(1, 2),
    words: Words::Anywhere,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let name = &given.words[0];
    let path = format!("/containers/{}/json", part(name));
    let container: ContainerInspect = ui.client()?.get(&path, &Query::new())?;
    let ports = container.network_settings.ports.unwrap_or_default();
    let address = |b: &PortBinding| {
        let ip =
            if b.host_ip.contains(':') { format!("[{}]", b.host_ip) } else { b.host_ip.clone() };
        format!("{ip}:{}", b.host_port)
    };
    if let Some(wanted) = given.words.get(1) {
        let key = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
        let Some(bindings) = ports.get(&key).and_then(Option::as_ref).filter(|b| !b.is_empty())
        else {
            return Err(Fail::new(format!(
                "Error: No public port '{wanted}' published for {name}"
            )));
        };
        for binding in bindings {
            writeln!(ui.out, "{}", address(binding))?;
        }
        return Ok(());
    }
    let mut lines: Vec<(u32, String)> = Vec::new();
    for (port, bindings) in &ports {
        let number = port.split('/').next().and_then(|p| p.parse().ok()).unwrap_or(0);
        for binding in bindings.iter().flatten() {
            lines.push((number, format!("{port} -> {}", address(binding))));
        }
    }
    lines.sort();
    for (_, line) in lines {
        writeln!(ui.out, "{line}")?;
    }
    Ok(())
}

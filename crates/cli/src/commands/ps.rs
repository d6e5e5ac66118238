//! `ps`: lists containers.

use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    format::{self, FORMAT_HELP, List, Row},
    options::values,
    ui::Ui,
};
use api::model::{ContainerSummary, Port};
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "all", Kind::Bool, "Show all containers (default shows just running)"),
    short('f', "filter", Kind::Named("filter"), "Filter output based on conditions provided"),
    flag("format", Kind::Text, FORMAT_HELP),
    short(
        'n',
        "last",
        Kind::Int,
        "Show n last created containers (includes all states) (default -1)",
    ),
    short('l', "latest", Kind::Bool, "Show the latest created container (includes all states)"),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
    short('q', "quiet", Kind::Bool, "Only display container IDs"),
    short('s', "size", Kind::Bool, "Display total file sizes"),
];

pub(crate) const PS: Command = Command {
    names: &["ps", "container ls", "container list", "container ps"],
    usage: "",
    about: "List containers",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports:{{if .Ports}} {{.Ports}}{{end}}\n";

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let format = given.text("format").map_or_else(|| ui.config.ps_format.clone(), str::to_owned);
    // A template that shows sizes asks for them.
    let size = given.is("size") || format.contains(".Size");
    let last = match given.int("last").filter(|n| *n > 0) {
        None if given.is("latest") => Some(1),
        last => last,
    };
    let query = Query::new()
        .flag("all", given.is("all"))
        .int("limit", last)
        .flag("size", size)
        .filters(&values::filters(given.list("filter"))?);
    let list: Vec<ContainerSummary> = ui.client()?.get("/containers/json", &query)?;
    let full = given.is("no-trunc");
    if given.is("quiet") {
        for container in &list {
            let id = if full { container.id.clone() } else { format::short_id(&container.id) };
            writeln!(ui.out, "{id}")?;
        }
        return Ok(());
    }
    let rows: Vec<Row> = list.iter().map(|c| row(c, full)).collect();
    let table = if given.is("size") { TABLE_WITH_SIZE } else { TABLE };
    List { headings: HEADINGS, table, raw: RAW }.print(ui, &format, &rows)
}

/// A container as a row of texts.
pub(crate) fn row(container: &ContainerSummary, full: bool) -> Row {
    let short =
        |text: &str, width| if full { text.to_owned() } else { format::ellipsis(text, width) };
    let names: Vec<&str> = container
        .names
        .iter()
        .map(|n| n.trim_start_matches('/'))
        .filter(|n| full || !n.contains('/'))
        .collect();
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|m| short(if m.name.is_empty() { &m.source } else { &m.name }, 15))
        .collect();
    let networks = container.network_settings.as_ref().and_then(|s| s.networks.as_ref());
    let networks: Vec<&str> = networks.into_iter().flatten().map(|(n, _)| n.as_str()).collect();
    let local = container.mounts.iter().filter(|m| m.driver == "local").count();
    vec![
        ("ID", if full { container.id.clone() } else { format::short_id(&container.id) }),
        ("Names", names.join(",")),
        ("Image", image(container, full)),
        ("Command", format!("{:?}", short(&container.command, 20))),
        ("CreatedAt", format::go_time(container.created)),
        ("RunningFor", format::ago(container.created)),
        ("Ports", ports(&container.ports)),
        ("State", container.state.clone()),
        ("Status", container.status.clone()),
        ("Size", size(container)),
        ("Labels", format::labels(&container.labels)),
        ("Mounts", mounts.join(",")),
        ("LocalVolumes", local.to_string()),
        ("Networks", networks.join(",")),
        ("Platform", String::new()),
    ]
}

fn image(container: &ContainerSummary, full: bool) -> String {
    let image = &container.image;
    if image.is_empty() {
        return "<no image>".into();
    }
    if full {
        return image.clone();
    }
    if format::short_id(&container.image_id) == format::short_id(image) {
        return format::short_id(image);
    }
    image.split('@').next().unwrap_or(image).to_owned()
}

fn size(container: &ContainerSummary) -> String {
    let own = format::size(container.size_rw.unwrap_or(0));
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{own} (virtual {})", format::size(all)),
        _ => own,
    }
}

/// Ports with neighbours drawn together: `0.0.0.0:80-81->80-81/tcp, 90/udp`.
pub(crate) fn ports(list: &[Port]) -> String {
    let mut sorted: Vec<&Port> = list.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.r#type).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.r#type,
        ))
    });
    let address = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    // Address, protocol, first and last port of each group, in order of appearance.
    let mut groups: Vec<(String, String, u16, u16)> = Vec::new();
    let mut done = Vec::new();
    let mut moved = Vec::new();
    let show = |(ip, kind, first, last): &(String, String, u16, u16)| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if ip.is_empty() {
            format!("{range}/{kind}")
        } else {
            format!("{}:{range}->{range}/{kind}", address(ip))
        }
    };
    for port in sorted {
        let current = port.private_port;
        if !port.ip.is_empty() && port.public_port != current {
            moved.push(format!(
                "{}:{}->{current}/{}",
                address(&port.ip),
                port.public_port,
                port.r#type
            ));
            continue;
        }
        match groups.iter_mut().find(|g| g.0 == port.ip && g.1 == port.r#type) {
            None => groups.push((port.ip.clone(), port.r#type.clone(), current, current)),
            Some(group) if u32::from(group.3) + 1 == u32::from(current) => group.3 = current,
            Some(group) => {
                done.push(show(group));
                (group.2, group.3) = (current, current);
            }
        }
    }
    done.extend(groups.iter().map(show));
    done.extend(moved);
    done.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_drawn_together() {
        let port = |ip: &str, public_port, private_port| Port {
            ip: ip.into(),
            private_port,
            public_port,
            r#type: "tcp".into(),
        };
        let list = [
            port("0.0.0.0", 81, 81),
            port("0.0.0.0", 80, 80),
            port("::", 80, 80),
            port("0.0.0.0", 8080, 90),
            port("", 0, 443),
        ];
        assert_eq!(
            ports(&list),
            "0.0.0.0:80-81->80-81/tcp, [::]:80->80/tcp, 443/tcp, 0.0.0.0:8080->90/tcp"
        );
        assert_eq!(ports(&[]), "");
    }
}

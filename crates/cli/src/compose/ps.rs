//! `compose ps`, `ls`, `images`: what there is.

use super::{ANY, Compose, Sub, engine::by_labels};
use crate::{
    client::Query,
    commands::ps::ports,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    format::{self, FORMAT_HELP, List, Row},
    tabwriter,
};
use api::model::ContainerSummary;
use compose::labels;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

const PS_FLAGS: &[Flag] = &[
    short(
        'a',
        "all",
        Kind::Bool,
        "Show all stopped containers (including those created by the run command)",
    ),
    flag("filter", Kind::Text, "Filter services by a property (supported filters: status)"),
    flag("format", Kind::Text, FORMAT_HELP),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
    flag(
        "orphans",
        Kind::Bool,
        "Include orphaned services (not declared by project) (default true)",
    ),
    short('q', "quiet", Kind::Bool, "Only display IDs"),
    flag("services", Kind::Bool, "Display services"),
    flag(
        "status",
        Kind::List,
        "Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]",
    ),
];

pub(super) const PS: Sub = Sub {
    name: "ps",
    usage: " [OPTIONS] [SERVICE...]",
    about: "List containers",
    words: Words::Anywhere,
    count: ANY,
    flags: &[PS_FLAGS],
    run: ps,
};

const LS_FLAGS: &[Flag] = &[
    short('a', "all", Kind::Bool, "Show all stopped Compose projects"),
    flag("filter", Kind::Named("filter"), "Filter output based on conditions provided"),
    flag("format", Kind::Text, "Format the output. Values: [table | json]"),
    short('q', "quiet", Kind::Bool, "Only display project names"),
];

pub(super) const LS: Sub = Sub {
    name: "ls",
    usage: " [OPTIONS]",
    about: "List running compose projects",
    words: Words::Anywhere,
    count: (0, 0),
    flags: &[LS_FLAGS],
    run: ls,
};

const IMAGES_FLAGS: &[Flag] = &[
    flag("format", Kind::Text, "Format the output. Values: [table | json]"),
    short('q', "quiet", Kind::Bool, "Only display IDs"),
];

pub(super) const IMAGES: Sub = Sub {
    name: "images",
    usage: " [OPTIONS] [SERVICE...]",
    about: "List images used by the created containers",
    words: Words::Anywhere,
    count: ANY,
    flags: &[IMAGES_FLAGS],
    run: images,
};

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("Names", "NAME"),
    ("Project", "PROJECT"),
    ("Service", "SERVICE"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Health", "HEALTH"),
    ("ExitCode", "EXIT CODE"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];

const TABLE: &str =
    "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n";

pub(super) fn service_of(container: &ContainerSummary) -> &str {
    container.labels.get(labels::SERVICE).map(String::as_str).unwrap_or_default()
}

fn ps(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (project, name) = compose.project_or_name(&[])?;
    if let Some(project) = &project {
        project.known(&given.words)?;
    }
    let mut states: Vec<String> = given.list("status").to_vec();
    if let Some(filter) = given.text("filter").filter(|f| !f.is_empty()) {
        match filter.split_once('=') {
            Some(("status", state)) => states.push(state.to_owned()),
            Some((other, _)) => return Err(Fail::new(format!("unknown filter {other}"))),
            None => return Err(Fail::new("arguments to --filter should be in form KEY=VAL")),
        }
    }
    let all = given.is("all") || !states.is_empty();
    let engine = compose.engine()?;
    let declared: Option<BTreeSet<String>> = project
        .as_ref()
        .filter(|_| !given.is_or("orphans", true))
        .map(|p| p.service_names().into_iter().collect());
    let mut list = engine.containers(&name)?;
    list.retain(|c| {
        let service = service_of(c);
        let shown = all || matches!(c.state.as_str(), "running" | "paused" | "restarting");
        shown
            && (all || compose::is_regular(c))
            && (given.words.is_empty() || given.words.iter().any(|w| w == service))
            && declared.as_ref().is_none_or(|d| d.contains(service))
            && (states.is_empty() || states.contains(&c.state))
    });
    let out = &mut compose.ui.out;
    if given.is("quiet") {
        for container in &list {
            writeln!(out, "{}", container.id)?;
        }
        return Ok(());
    }
    if given.is("services") {
        let mut told = Vec::new();
        for container in &list {
            let service = service_of(container);
            if !told.contains(&service) {
                told.push(service);
                writeln!(out, "{service}")?;
            }
        }
        return Ok(());
    }
    let full = given.is("no-trunc");
    let ids: Vec<String> = list.iter().map(|c| c.id.clone()).collect();
    let inspected = engine.gather(&ids, |id| engine.inspect(id))?;
    let states: BTreeMap<String, (String, i64)> = inspected
        .into_iter()
        .map(|(id, c)| {
            let health = c.state.health.map(|h| h.status).unwrap_or_default();
            (id, (health, c.state.exit_code))
        })
        .collect();
    let format =
        given.text("format").map_or_else(|| compose.ui.config.ps_format.clone(), str::to_owned);
    if format == "json" {
        for container in &list {
            writeln!(
                compose.ui.out,
                "{}",
                as_json(container, &name, states.get(&container.id), full)
            )?;
        }
        return Ok(());
    }
    let rows: Vec<Row> = list.iter().map(|c| row(c, &name, states.get(&c.id), full)).collect();
    List { headings: HEADINGS, table: TABLE, raw: RAW }.print(compose.ui, &format, &rows)
}

fn row(
    container: &ContainerSummary,
    project: &str,
    state: Option<&(String, i64)>,
    full: bool,
) -> Row {
    let mut row = crate::commands::ps::row(container, full);
    let (health, code) = state.cloned().unwrap_or_default();
    let name = compose::name_of(container).to_owned();
    row.retain(|(k, _)| !["Names", "Ports", "Platform"].contains(k));
    row.extend([
        ("Name", name.clone()),
        ("Names", name),
        ("Project", project.to_owned()),
        ("Service", service_of(container).to_owned()),
        ("Health", health),
        ("ExitCode", code.to_string()),
        ("Ports", ports(&container.ports)),
    ]);
    row
}

fn as_json(
    container: &ContainerSummary,
    project: &str,
    state: Option<&(String, i64)>,
    full: bool,
) -> Value {
    let row = row(container, project, state, full);
    let mut out: serde_json::Map<String, Value> =
        row.into_iter().map(|(k, v)| (k.to_owned(), Value::String(v))).collect();
    let published: Vec<Value> = container
        .ports
        .iter()
        .map(|p| {
            json!({"URL": p.ip, "TargetPort": p.private_port, "PublishedPort": p.public_port, "Protocol": p.r#type})
        })
        .collect();
    out.insert("Publishers".into(), Value::Array(published));
    out.insert("ExitCode".into(), json!(state.map_or(0, |s| s.1)));
    out.sort_keys();
    Value::Object(out)
}

fn ls(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let mut wanted: Vec<String> = Vec::new();
    for filter in given.list("filter") {
        match filter.split_once('=') {
            Some(("name", value)) => wanted.push(value.to_owned()),
            _ => return Err(Fail::new(format!("invalid filter '{filter}'"))),
        }
    }
    let engine = compose.engine()?;
    let filters = by_labels(&[labels::PROJECT.to_owned(), labels::HASH.to_owned()]);
    let query = Query::new().flag("all", given.is("all")).filters(&filters);
    let list: Vec<ContainerSummary> = engine.client.get("/containers/json", &query)?;
    let mut projects: BTreeMap<String, Vec<&ContainerSummary>> = BTreeMap::new();
    for container in &list {
        let name = container.labels.get(labels::PROJECT).cloned().unwrap_or_default();
        if wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())) {
            projects.entry(name).or_default().push(container);
        }
    }
    if given.is("quiet") {
        for name in projects.keys() {
            writeln!(compose.ui.out, "{name}")?;
        }
        return Ok(());
    }
    let rows: Vec<(String, String, String)> = projects
        .into_iter()
        .map(|(name, all)| {
            let mut states: BTreeMap<&str, usize> = BTreeMap::new();
            let mut files: Vec<&str> = Vec::new();
            for container in all {
                *states.entry(container.state.as_str()).or_default() += 1;
                let listed = container.labels.get(labels::CONFIG_FILES).map(String::as_str);
                for file in listed.unwrap_or("N/A").split(',') {
                    if !files.contains(&file) {
                        files.push(file);
                    }
                }
            }
            let status: Vec<String> = states.iter().map(|(s, n)| format!("{s}({n})")).collect();
            (name, status.join(", "), files.join(","))
        })
        .collect();
    match given.text("format").unwrap_or("table") {
        "json" => {
            let all: Vec<Value> = rows
                .iter()
                .map(|(n, s, f)| json!({"Name": n, "Status": s, "ConfigFiles": f}))
                .collect();
            Ok(writeln!(compose.ui.out, "{}", Value::Array(all))?)
        }
        "table" | "" => {
            let mut lines = String::from("NAME\tSTATUS\tCONFIG FILES\n");
            for (name, status, files) in rows {
                lines.push_str(&format!("{name}\t{status}\t{files}\n"));
            }
            Ok(compose.ui.out.write_all(tabwriter::align_at_least(20, &lines).as_bytes())?)
        }
        other => Err(Fail::new(format!("format value {other:?} could not be parsed"))),
    }
}

fn images(compose: &mut Compose<'_>, given: &Given) -> Result<()> {
    let (_, name) = compose.project_or_name(&[])?;
    let engine = compose.engine()?;
    let mut list = engine.containers(&name)?;
    list.retain(|c| given.words.is_empty() || given.words.iter().any(|w| w == service_of(c)));
    let names: BTreeSet<String> = list.iter().map(|c| c.image.clone()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let found = engine.gather(&names, |n| engine.image(n))?;
    if given.is("quiet") {
        let ids: BTreeSet<&str> =
            found.values().map(|i| i.id.strip_prefix("sha256:").unwrap_or(&i.id)).collect();
        for id in ids {
            writeln!(compose.ui.out, "{id}")?;
        }
        return Ok(());
    }
    let mut lines = String::from("CONTAINER\tREPOSITORY\tTAG\tPLATFORM\tIMAGE ID\tSIZE\tCREATED\n");
    let mut objects = Vec::new();
    for container in &list {
        let Some(image) = found.get(&container.image) else { continue };
        let reference =
            container.image.parse::<base::Reference>().ok().map(base::Reference::or_latest);
        let repository = reference.as_ref().map(base::Reference::familiar_name).unwrap_or_default();
        let tag = reference.as_ref().and_then(|r| r.tag()).unwrap_or_default().to_owned();
        let variant =
            if image.variant.is_empty() { String::new() } else { format!("/{}", image.variant) };
        let platform = format!("{}/{}{variant}", image.os, image.architecture);
        let tagged = &image.metadata.last_tag_time;
        let tagged =
            if tagged.is_empty() || tagged.starts_with("0001") { &image.created } else { tagged };
        let now = base::Timestamp::now();
        let since = base::Timestamp::parse_relative(tagged, now).map(|t| now.since(t));
        let ago =
            since.map(|d| format!("{} ago", base::units::human_duration(d))).unwrap_or_default();
        objects.push(json!({
            "ID": image.id,
            "ContainerName": compose::name_of(container),
            "Repository": repository,
            "Tag": tag,
            "Platform": platform,
            "Size": image.size,
            "LastTagTime": tagged,
        }));
        let shown = |s: String| if s.is_empty() { "<none>".to_owned() } else { s };
        lines.push_str(&format!(
            "{}\t{}\t{}\t{platform}\t{}\t{}\t{ago}\n",
            compose::name_of(container),
            shown(repository),
            shown(tag),
            format::short_id(&image.id),
            format::size(image.size),
        ));
    }
    match given.text("format").unwrap_or("table") {
        "json" => Ok(writeln!(compose.ui.out, "{}", Value::Array(objects))?),
        "table" | "" => {
            Ok(compose.ui.out.write_all(tabwriter::align_at_least(20, &lines).as_bytes())?)
        }
        other => Err(Fail::new(format!("format value {other:?} could not be parsed"))),
    }
}

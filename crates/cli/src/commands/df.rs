//! `system df`: what takes space.

use super::{images, ps};
use crate::{
    client::Query,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    format::{self, FORMAT_HELP, List, Row},
    ui::Ui,
};
use api::model::DiskUsage;
use std::io::Write;

const FLAGS: &[Flag] = &[
    flag("format", Kind::Text, FORMAT_HELP),
    short('v', "verbose", Kind::Bool, "Show detailed information on space usage"),
];

pub(crate) const DF: Command = Command {
    names: &["system df"],
    usage: "",
    about: "Show docker disk usage",
    count: Count::None,
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

const LIST: List = List {
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    raw: "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let usage: DiskUsage = ui.client()?.get("/system/df", &Query::new())?;
    let format = given.text_or_empty("format");
    if given.is("verbose") {
        return verbose(ui, &usage);
    }
    LIST.print(
        ui,
        &format,
        &[images_row(&usage), containers_row(&usage), volumes_row(&usage), cache_row(&usage)],
    )
}

fn row(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Row {
    let mut text = format::total(reclaimable);
    if size > 0 {
        text.push_str(&format!(" ({}%)", reclaimable * 100 / size));
    }
    vec![
        ("Type", kind.to_owned()),
        ("TotalCount", total.to_string()),
        ("Active", active.to_string()),
        ("Size", format::total(size)),
        ("Reclaimable", text),
    ]
}

fn images_row(usage: &DiskUsage) -> Row {
    let images = usage.images.as_deref().unwrap_or_default();
    let used = images.iter().filter(|i| i.containers > 0);
    // What images in use have for themselves stays; what is shared counts with the rest.
    let kept: i64 = used
        .clone()
        .filter(|i| i.size != -1 && i.shared_size != -1)
        .map(|i| i.size - i.shared_size)
        .sum();
    row("Images", images.len(), used.count(), usage.layers_size, usage.layers_size - kept)
}

fn containers_row(usage: &DiskUsage) -> Row {
    let containers = usage.containers.as_deref().unwrap_or_default();
    let active =
        |state: &str| ["running", "paused", "restarting"].iter().any(|s| state.contains(s));
    let size = |c: &api::model::ContainerSummary| c.size_rw.unwrap_or(0);
    let all: i64 = containers.iter().map(size).sum();
    let idle: i64 = containers.iter().filter(|c| !active(&c.state)).map(size).sum();
    let used = containers.iter().filter(|c| active(&c.state)).count();
    row("Containers", containers.len(), used, all, idle)
}

fn volumes_row(usage: &DiskUsage) -> Row {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let data = |v: &api::model::Volume| v.usage_data.clone().unwrap_or_default();
    let all: i64 = volumes.iter().map(|v| data(v).size.max(0)).sum();
    let idle: i64 =
        volumes.iter().map(data).filter(|d| d.ref_count == 0).map(|d| d.size.max(0)).sum();
    let used = volumes.iter().filter(|v| data(v).ref_count > 0).count();
    row("Local Volumes", volumes.len(), used, all, idle)
}

fn cache_row(usage: &DiskUsage) -> Row {
    let cache = usage.build_cache.as_deref().unwrap_or_default();
    let own = cache.iter().filter(|c| !c.shared);
    let all: i64 = own.clone().map(|c| c.size).sum();
    let used: i64 = own.filter(|c| c.in_use).map(|c| c.size).sum();
    let mut row =
        row("Build Cache", cache.len(), cache.iter().filter(|c| c.in_use).count(), all, all - used);
    row[4].1 = format::total(all - used);
    row
}

fn verbose(ui: &mut Ui, usage: &DiskUsage) -> Result<()> {
    writeln!(ui.out, "Images space usage:\n")?;
    let rows: Vec<Row> =
        usage.images.iter().flatten().flat_map(|image| images::rows(image, false, false)).collect();
    List {
        headings: &[
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("ID", "IMAGE ID"),
            ("CreatedSince", "CREATED"),
            ("Size", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
            ("Containers", "CONTAINERS"),
        ],
        table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        raw: "",
    }
    .print(ui, "", &rows)?;
    writeln!(ui.out, "\nContainers space usage:\n")?;
    let rows: Vec<Row> = usage
        .containers
        .iter()
        .flatten()
        .map(|c| {
            let alone = api::model::ContainerSummary { size_root_fs: None, ..c.clone() };
            ps::row(&alone, false)
        })
        .collect();
    List {
        headings: &[
            ("ID", "CONTAINER ID"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Size", "SIZE"),
            ("RunningFor", "CREATED"),
            ("Status", "STATUS"),
            ("Names", "NAMES"),
        ],
        table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
        raw: "",
    }
    .print(ui, "", &rows)?;
    writeln!(ui.out, "\nLocal Volumes space usage:\n")?;
    let rows: Vec<Row> = usage
        .volumes
        .iter()
        .flatten()
        .map(|v| {
            let data = v.usage_data.clone().unwrap_or_default();
            vec![
                ("Name", v.name.clone()),
                ("Links", data.ref_count.to_string()),
                ("Size", format::total(data.size.max(0))),
            ]
        })
        .collect();
    List {
        headings: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
        table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
        raw: "",
    }
    .print(ui, "", &rows)?;
    let cache = usage.build_cache.as_deref().unwrap_or_default();
    let all: i64 = cache.iter().map(|c| c.size).sum();
    writeln!(ui.out, "\nBuild cache usage: {}\n", format::total(all))?;
    let rows: Vec<Row> = cache
        .iter()
        .map(|c| {
            let flag = |b: bool| b.to_string();
            vec![
                ("ID", c.id.chars().take(12).collect()),
                ("CacheType", c.r#type.clone()),
                ("Size", format::total(c.size)),
                ("CreatedSince", since(&c.created_at)),
                ("LastUsedSince", c.last_used_at.as_deref().map(since).unwrap_or_default()),
                ("UsageCount", c.usage_count.to_string()),
                ("Shared", flag(c.shared)),
            ]
        })
        .collect();
    List {
        headings: &[
            ("ID", "CACHE ID"),
            ("CacheType", "CACHE TYPE"),
            ("Size", "SIZE"),
            ("CreatedSince", "CREATED"),
            ("LastUsedSince", "LAST USED"),
            ("UsageCount", "USAGE"),
            ("Shared", "SHARED"),
        ],
        table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
        raw: "",
    }
    .print(ui, "", &rows)
}

fn since(time: &str) -> String {
    time.parse::<base::Timestamp>().map(|at| format::ago(at.unix())).unwrap_or_default()
}

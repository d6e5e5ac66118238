//! The daemon's own log: one line per event on standard error, in dockerd's form (`time= level= msg=`) or
//! as JSON; the level can be changed while it runs.

use base::Timestamp;
use std::fmt::{self, Write as _};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Registry,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

/// Changes the level of a log that is set up.
#[derive(Debug)]
pub(crate) struct Handle(reload::Handle<LevelFilter, Registry>);

impl Handle {
    /// From now on this level.
    pub(crate) fn set(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, which is at the very end.
        let _ = self.0.modify(|l| *l = level);
    }
}

/// Sets the log up; panics go there too.
pub(crate) fn set_up(level: LevelFilter, json: bool) -> Handle {
    let (filter, handle) = reload::Layer::new(level);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(Lines { json });
    // A second set-up, as in tests, keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
        tracing::error!(place, err = text, "panic");
    }));
    Handle(handle)
}

struct Lines {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level();
        out.write_str(&line(self.json, Timestamp::now(), *level, &fields))
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }
}

impl Fields {
    fn put(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            name => self.rest.push((name, text)),
        }
    }
}

fn line(json: bool, at: Timestamp, level: Level, fields: &Fields) -> String {
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let mut pairs =
        vec![("time", at.fixed_nano()), ("level", level.into()), ("msg", fields.message.clone())];
    pairs.extend(fields.rest.iter().cloned());
    if json {
        let map: serde_json::Map<String, serde_json::Value> =
            pairs.into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
        return format!("{}\n", serde_json::Value::Object(map));
    }
    let mut text = String::with_capacity(128);
    for (key, value) in pairs {
        let plain = !value.is_empty()
            && key != "time"
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/@^+:,".contains(&b));
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail. Quoting keeps one event on one line, whatever a client sent.
        let _ = match plain {
            true => write!(text, "{space}{key}={value}"),
            false => write!(text, "{space}{key}={value:?}"),
        };
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_dockerd_s_form_and_stay_one_line() {
        let fields = Fields {
            message: "image pulled".into(),
            rest: vec![("img", "busybox:latest".into()), ("err", "no\nway level=error".into())],
        };
        let at = Timestamp::from_unix(0, 5);
        assert_eq!(
            line(false, at, Level::WARN, &fields),
            "time=\"1970-01-01T00:00:00.000000005Z\" level=warning msg=\"image pulled\" img=busybox:latest err=\"no\\nway level=error\"\n"
        );
        assert_eq!(
            line(true, at, Level::INFO, &fields),
            "{\"time\":\"1970-01-01T00:00:00.000000005Z\",\"level\":\"info\",\"msg\":\"image pulled\",\"img\":\"busybox:latest\",\"err\":\"no\\nway level=error\"}\n"
        );
    }
}

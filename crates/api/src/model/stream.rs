//! Streams on the wire: events, and the progress messages of build, load, pull and push.
//!
//! Source: Docker Engine API 1.51, `swagger.yaml`, and what dockerd was seen to answer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One message of `GET /events`. The first three fields are for clients below 1.52.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    #[serde(rename = "Type")]
    pub r#type: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    pub scope: String,
    pub time: i64,
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    pub attributes: BTreeMap<String, String>,
}

/// One line of a progress stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JsonMessage {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far a step is; an empty one keeps a line's place on the screen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "super::is_zero")]
    pub current: i64,
    #[serde(skip_serializing_if = "super::is_zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// An error behind the first byte of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "super::is_zero")]
    pub code: i64,
    pub message: String,
}

impl JsonMessage {
    /// `{"stream": text}`.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// `{"status": text}`.
    pub fn status(text: impl Into<String>) -> Self {
        Self { status: text.into(), ..Self::default() }
    }

    /// `{"errorDetail": {...}, "error": text}`; a code of 0 is left out.
    pub fn error(text: impl Into<String>, code: i64) -> Self {
        let error = text.into();
        let detail = ErrorDetail { code, message: error.clone() };
        Self { error, error_detail: Some(detail), ..Self::default() }
    }

    /// `{"aux": value}`.
    pub fn aux(value: serde_json::Value) -> Self {
        Self { aux: Some(value), ..Self::default() }
    }

    /// The line as it goes over the wire, CRLF at its end.
    pub fn line(&self) -> Vec<u8> {
        // Strings and numbers only: this cannot fail, and an empty line would be skipped by every client.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &JsonMessage, want: &str) {
        assert_eq!(String::from_utf8(message.line()).unwrap(), format!("{want}\r\n"));
    }

    #[test]
    fn lines_have_docker_s_form() {
        check(
            &JsonMessage::stream("Step 1/2 : FROM <x>\n"),
            r#"{"stream":"Step 1/2 : FROM <x>\n"}"#,
        );
        check(
            &JsonMessage::error("no", 3),
            r#"{"errorDetail":{"code":3,"message":"no"},"error":"no"}"#,
        );
        check(&JsonMessage::error("no", 0), r#"{"errorDetail":{"message":"no"},"error":"no"}"#);
        let bare = JsonMessage {
            progress_detail: Some(ProgressDetail::default()),
            id: "abc".into(),
            ..JsonMessage::status("Waiting")
        };
        check(&bare, r#"{"status":"Waiting","progressDetail":{},"id":"abc"}"#);
    }
}

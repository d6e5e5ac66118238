use super::*;
use crate::model::{ContainerConfig, ExecConfig, HostConfig, TmpfsOptions};
use serde_json::{Value as Json, json};

fn config(text: &str) -> Result<ContainerConfig> {
    decode(text.as_bytes())
}

#[test]
fn keys_fold_and_unknown_ones_are_skipped() {
    let got = config(r#"{"tty":true,"OPENSTDIN":true,"Bogus":{"a":[1,{"b":null}]},"image":"x"}"#)
        .unwrap();
    assert!(got.tty && got.open_stdin);
    assert_eq!(got.image, "x");
}

#[test]
fn keys_of_maps_stay_as_they_are() {
    let got = config(r#"{"Labels":{"Tty":"a","tty":"b","x":null}}"#).unwrap().labels.unwrap();
    assert_eq!(got["Tty"], "a");
    assert_eq!(got["tty"], "b");
    assert_eq!(got["x"], "");
}

#[test]
fn a_field_that_comes_twice_counts_as_it_came_last() {
    let text = r#"{"tty":true,"Cmd":"a","Tty":false,"Labels":{"A":"1","a":"2"},"cmd":["b"],"Env":null,"Image":"x","image":"y"}"#;
    let check = |got: ContainerConfig| {
        assert!(!got.tty);
        assert_eq!(got.image, "y");
        assert_eq!(got.cmd, Some(vec!["b".to_owned()]));
        assert_eq!(got.labels.unwrap().len(), 2, "labels are no fields");
    };
    check(config(text).unwrap());
    check(decode_value(serde_json::from_str(text).unwrap()).unwrap());
    let host: HostConfig = decode(
        br#"{"Memory":1,"LogConfig":{"Type":"a","Config":{"x":"1"}},"logconfig":{"type":"b"},"memory":2}"#,
    )
    .unwrap();
    assert_eq!(host.memory, 2);
    assert_eq!(host.log_config.r#type, "b");
    assert_eq!(host.log_config.config.unwrap()["x"], "1", "an object is laid over the one before");
    let err = config(r#"{"Tty":true,"tty":"yes"}"#).unwrap_err().chain();
    assert!(err.contains("Tty"), "{err}");
}

#[test]
fn null_is_the_zero_value_everywhere() {
    assert_eq!(config("null").unwrap(), ContainerConfig::default());
    let all = serde_json::to_value(HostConfig::default()).unwrap();
    let nulls: Json = all.as_object().unwrap().keys().map(|k| (k.clone(), Json::Null)).collect();
    assert_eq!(decode_value::<HostConfig>(nulls).unwrap(), HostConfig::default());
    let host: HostConfig = decode(
        br#"{"LxcConf":null,"PortBindings":{"80/tcp":null,"81/tcp":[null]},"Binds":[null,"a"]}"#,
    )
    .unwrap();
    let ports = host.port_bindings.unwrap();
    assert_eq!(ports["80/tcp"], None);
    assert_eq!(ports["81/tcp"].as_ref().unwrap().len(), 1);
    assert_eq!(host.binds.unwrap(), ["", "a"]);
}

#[test]
fn a_string_stands_for_a_command_but_not_for_any_list() {
    assert_eq!(config(r#"{"Cmd":"ls -l"}"#).unwrap().cmd.unwrap(), ["ls -l"]);
    assert_eq!(config(r#"{"entrypoint":["a","b"]}"#).unwrap().entrypoint.unwrap(), ["a", "b"]);
    assert_eq!(config(r#"{"Cmd":null}"#).unwrap().cmd, None);
    assert_eq!(config(r#"{"Cmd":[]}"#).unwrap().cmd.unwrap(), [""; 0]);
    assert!(config(r#"{"Env":"A=b"}"#).is_err());
    assert!(config(r#"{"Cmd":{"a":1}}"#).is_err());
    assert!(config(r#"{"Cmd":[["a"]]}"#).is_err());
}

#[test]
fn fixed_arrays_may_be_short_long_or_null() {
    let size = |text: &str| decode::<ExecConfig>(text.as_bytes()).unwrap().console_size;
    assert_eq!(size(r#"{"ConsoleSize":[24,80]}"#), Some([24, 80]));
    assert_eq!(size(r#"{"ConsoleSize":[24]}"#), Some([24, 0]));
    assert_eq!(size(r#"{"ConsoleSize":[24,80,7,"x"]}"#), Some([24, 80]));
    assert_eq!(size(r#"{"ConsoleSize":null}"#), None);
    let host: HostConfig = decode(br#"{"ConsoleSize":null}"#).unwrap();
    assert_eq!(host.console_size, [0, 0]);
    let tmpfs: TmpfsOptions = decode(br#"{"Options":[["noexec"],["uid","7"],null]}"#).unwrap();
    assert_eq!(tmpfs.options.unwrap()[2], [""; 0]);
}

#[test]
fn wrong_types_and_malformed_text_are_refused_with_the_field() {
    let text = |json: &str| decode::<HostConfig>(json.as_bytes()).unwrap_err().chain();
    assert_eq!(
        text(r#"{"memory":"1g"}"#),
        r#"invalid JSON: Memory: invalid type: string "1g", expected i64 at line 1 column 14"#
    );
    assert!(text(r#"{"Memory":1.5}"#).starts_with("invalid JSON: Memory: "));
    assert!(
        text(r#"{"RestartPolicy":{"Name":7}}"#).starts_with("invalid JSON: RestartPolicy: Name: ")
    );
    assert_eq!(text(r#"{"Memory":"#), "invalid JSON: unexpected EOF");
    assert_eq!(text(""), "invalid JSON: unexpected EOF");
    assert_eq!(text("{} {}"), "unexpected content after JSON");
    for (wrong, why) in [
        ("{,}", "',' looking for beginning of object key string"),
        ("{invalid", "'i' looking for beginning of object key string"),
        ("{\"Memory\"\n;1}", "';' after object key"),
        ("{\"Memory\":1;}", "';' after object key:value pair"),
        ("{\"Memory\":?}", "'?' looking for beginning of value"),
        ("{\"Env\":[\"a\";]}", "';' after array element"),
    ] {
        assert_eq!(text(wrong), format!("invalid JSON: invalid character {why}"));
    }
    for bad in ["[]", "7", "\"x\"", "true"] {
        assert!(decode::<HostConfig>(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let deep = format!(r#"{{"x":{}}}"#, "[".repeat(100_000));
    assert!(config(&deep).is_err());
}

#[test]
fn values_keep_their_own_form() {
    let got: Json = decode(br#"{"A":null,"a":[1,"x",{"B":1.5}]}"#).unwrap();
    assert_eq!(got, json!({"A":null,"a":[1,"x",{"B":1.5}]}));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Turns the letters of every struct key up or down by `coins`, leaves map keys alone.
    fn fold(value: &Json, coins: &mut impl Iterator<Item = bool>) -> Json {
        match value {
            Json::Object(map) => map
                .iter()
                .map(|(key, value)| {
                    let turned = key
                        .chars()
                        .map(|c| match coins.next() {
                            Some(true) => c.to_ascii_uppercase(),
                            _ => c.to_ascii_lowercase(),
                        })
                        .collect::<String>();
                    let is_map = key == "Labels" || key == "ExposedPorts";
                    (turned, if is_map { value.clone() } else { fold(value, coins) })
                })
                .collect(),
            other => other.clone(),
        }
    }

    prop_compose! {
        fn any_config()(
            tty: bool, hostname in "[a-z]{0,5}", image in ".{0,8}",
            env in proptest::option::of(proptest::collection::vec(".{0,6}", 0..3)),
            labels in proptest::option::of(proptest::collection::btree_map("[a-zA-Z]{1,4}", ".{0,4}", 0..3)),
            cmd in proptest::option::of(proptest::collection::vec(".{0,6}", 0..3)),
            timeout: Option<i64>,
        ) -> ContainerConfig {
            ContainerConfig { tty, hostname, image, env, labels, cmd, stop_timeout: timeout, ..Default::default() }
        }
    }

    proptest! {
        #[test]
        fn any_case_of_keys_decodes_to_the_same(config in any_config(), coins in proptest::collection::vec(any::<bool>(), 64)) {
            let value = serde_json::to_value(&config).unwrap();
            let folded = fold(&value, &mut coins.into_iter().cycle());
            prop_assert_eq!(decode_value::<ContainerConfig>(folded.clone()).unwrap(), config.clone());
            let text = serde_json::to_vec(&folded).unwrap();
            prop_assert_eq!(decode::<ContainerConfig>(&text).unwrap(), config);
        }

        #[test]
        fn a_null_field_is_an_absent_one(config in any_config(), at: prop::sample::Index) {
            let mut value = serde_json::to_value(&config).unwrap();
            let map = value.as_object_mut().unwrap();
            let key = map.keys().nth(at.index(map.len())).unwrap().clone();
            let mut without = map.clone();
            without.shift_remove(&key);
            map.insert(key, Json::Null);
            prop_assert_eq!(
                decode_value::<ContainerConfig>(value).unwrap(),
                decode_value::<ContainerConfig>(Json::Object(without)).unwrap()
            );
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<HostConfig>(&bytes);
        }

        #[test]
        fn any_json_like_text_is_decoded_or_refused(text in r#"[{}\[\]":,a-zA-Z0-9 .-]{0,120}"#) {
            let _ = decode::<HostConfig>(text.as_bytes());
        }
    }
}

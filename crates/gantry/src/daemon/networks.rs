//! Settings of networks: IPv6 and ranges of the default bridge, options of new networks.

use super::settings::Given;
use base::{Error, Result};
use engine::config::Networking;
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr};

/// Reads all of them.
///
/// # Errors
/// `Invalid` for what is no address or subnet of its family.
pub(crate) fn read(given: &Given<'_>) -> Result<Networking> {
    let text = |name: &str| given.text(name).unwrap_or_default().to_owned();
    let networking = Networking {
        ipv6: given.switch("ipv6", false),
        bip6: text("bip6"),
        fixed_cidr: text("fixed-cidr"),
        fixed_cidr6: text("fixed-cidr-v6"),
        gateway: text("default-gateway"),
        gateway6: text("default-gateway-v6"),
        host_gateways: given.list("host-gateway-ip"),
        obey_firewall: given.one_of("firewall", &["docker", "obey"])? == "obey",
        default_options: options(given.0.get("default-network-opt"))?,
    };
    for (flag, value, ipv6) in [
        ("bip6", &networking.bip6, true),
        ("fixed-cidr", &networking.fixed_cidr, false),
        ("fixed-cidr-v6", &networking.fixed_cidr6, true),
    ] {
        let good = value.split_once('/').is_some_and(|(address, prefix)| {
            let most = if ipv6 { 128 } else { 32 };
            is_address(address, ipv6) && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
        });
        if !value.is_empty() && !good {
            return Err(bad(
                flag,
                value,
                if ipv6 { "want fd00:1::/64" } else { "want 172.17.1.0/24" },
            ));
        }
    }
    for (flag, value, ipv6) in [
        ("default-gateway", &networking.gateway, false),
        ("default-gateway-v6", &networking.gateway6, true),
    ] {
        if !value.is_empty() && !is_address(value, ipv6) {
            return Err(bad(flag, value, "want an address"));
        }
    }
    if let Some(value) = networking.host_gateways.iter().find(|a| a.parse::<IpAddr>().is_err()) {
        return Err(bad("host-gateway-ip", value, "want an address"));
    }
    let v6 = !networking.bip6.is_empty() || !networking.fixed_cidr6.is_empty();
    Ok(Networking { ipv6: networking.ipv6 || v6, ..networking })
}

fn bad(flag: &str, value: &str, why: &str) -> Error {
    Error::invalid(format!("invalid --{flag}: {value:?}: {why}"))
}

fn is_address(text: &str, ipv6: bool) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6() == ipv6)
}

/// Flags are `DRIVER=OPTION=VALUE`, the file holds an object of objects.
fn options(value: Option<&Value>) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let wrong =
        |what: &Value| bad("default-network-opt", &what.to_string(), "want DRIVER=OPTION=VALUE");
    let mut all = BTreeMap::<String, BTreeMap<String, String>>::new();
    match value {
        None => {}
        Some(Value::Array(list)) => {
            for item in list {
                let mut parts = item.as_str().unwrap_or_default().splitn(3, '=');
                let (Some(driver), Some(key), Some(text)) =
                    (parts.next(), parts.next(), parts.next())
                else {
                    return Err(wrong(item));
                };
                all.entry(driver.into()).or_default().insert(key.into(), text.into());
            }
        }
        Some(Value::Object(drivers)) => {
            for (driver, own) in drivers {
                for (key, text) in own.as_object().ok_or_else(|| wrong(own))? {
                    let text = text.as_str().ok_or_else(|| wrong(text))?;
                    all.entry(driver.clone()).or_default().insert(key.clone(), text.into());
                }
            }
        }
        Some(other) => return Err(wrong(other)),
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_of_networks_come_by_flag_and_file() {
        let expected = BTreeMap::from([(
            "bridge".to_owned(),
            BTreeMap::from([("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())]),
        )]);
        let flags = json!(["bridge=com.docker.network.driver.mtu=1400"]);
        assert_eq!(options(Some(&flags)).unwrap(), expected);
        let file = json!({"bridge": {"com.docker.network.driver.mtu": "1400"}});
        assert_eq!(options(Some(&file)).unwrap(), expected);
        for wrong in
            [json!(["bridge"]), json!({"bridge": "x"}), json!({"bridge": {"a": 1}}), json!(1)]
        {
            assert!(options(Some(&wrong)).is_err(), "{wrong}");
        }
    }
}

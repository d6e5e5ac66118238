//! What is done inside a container's network namespace when its link is there: addresses, routes, settings.
//!
//! Runs on a thread that has entered the namespace ([`sys::netns::within`]).
//! Source: Moby `daemon/libnetwork/osl` (behaviour), rtnetlink(7).

use crate::{Attach, Mac, Subnet};
use base::{Error, Result};
use std::{collections::BTreeMap, net::IpAddr};
use sys::{
    netlink::{LOOPBACK, Request, Route},
    netns::set_sysctl,
};

/// Option: settings of the link, `net.ipv4.conf.IFNAME.log_martians=1,...`.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
/// Option of an endpoint: name of its link inside.
pub const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// A link inside, and what it gets.
#[derive(Clone, Debug)]
pub(crate) struct Inside<'a> {
    pub interface: &'a str,
    pub mac: Mac,
    pub addresses: Vec<Subnet>,
    /// Addresses that are the link's alone.
    pub link_local: &'a [Subnet],
    /// Default routes; empty when another network has them.
    pub gateways: Vec<IpAddr>,
    /// Default routes that need no gateway, IPv4 and IPv6.
    pub by_link: [bool; 2],
    pub sysctls: Vec<(String, String)>,
}

fn kernel(error: sys::netlink::Error) -> Error {
    let io = std::io::Error::from(error.errno);
    Error::io(error.to_string(), io)
}

/// Gives the link what is its own and sets it up.
pub(crate) fn settle(route: &mut Route, inside: &Inside<'_>) -> Result<()> {
    let all = || inside.addresses.iter().chain(inside.link_local);
    let ipv6 = all().any(|a| a.is_ipv6());
    let setting = |name: &str, value: &str| {
        // Where the kernel has no IPv6 there is nothing to switch off.
        let _ = set_sysctl(&format!("ipv6/conf/{}/{name}", inside.interface), value);
    };
    // A container takes only the IPv6 addresses that it is given, none by itself or advertised.
    setting("disable_ipv6", if ipv6 { "0" } else { "1" });
    if ipv6 {
        setting("accept_ra", "0");
        setting("autoconf", "0");
    }
    let link = route.index(inside.interface).map_err(kernel)?.unwrap_or_default();
    let mut requests = vec![Request::set_up(LOOPBACK)];
    requests.extend(all().map(|a| Request::add_address(link, a.address(), a.prefix())));
    requests.push(Request::set_up(link));
    requests.extend(routes(link, &inside.gateways, inside.by_link));
    route.run(&requests).map_err(kernel)?;
    for (name, value) in &inside.sysctls {
        set_sysctl(name, value).map_err(|e| {
            Error::invalid(format!(
                "cannot set sysctl net.{} to {value:?} on {}",
                name.replace('/', "."),
                inside.interface
            ))
            .caused_by(e)
        })?;
    }
    Ok(())
}

fn routes(link: u32, gateways: &[IpAddr], by_link: [bool; 2]) -> Vec<Request> {
    let by_gateway = gateways.iter().map(|gateway| Request::add_default_route(link, *gateway));
    let direct = [false, true].into_iter().filter(|ipv6| by_link[usize::from(*ipv6)]);
    by_gateway.chain(direct.map(|ipv6| Request::add_default_link_route(link, ipv6))).collect()
}

/// Leads the default routes by another link, or nowhere without one.
///
/// # Errors
/// Of the kernel.
pub(crate) fn reroute(to: Option<(&str, &[IpAddr], [bool; 2])>) -> Result<()> {
    let mut route = Route::open().map_err(kernel)?;
    for ipv6 in [false, true] {
        match route.run(&[Request::delete_default_route(ipv6)]) {
            Err(error) if !error.is_missing() => return Err(kernel(error)),
            _ => {}
        }
    }
    let Some((interface, gateways, by_link)) = to else { return Ok(()) };
    let link = route.index(interface).map_err(kernel)?.unwrap_or_default();
    route.run(&routes(link, gateways, by_link)).map_err(kernel)
}

/// Reads the settings that an endpoint asks for, as names below `/proc/sys/net`.
///
/// # Errors
/// `Invalid` for anything but settings of the link itself.
pub(crate) fn sysctls(
    options: &BTreeMap<String, String>,
    interface: &str,
) -> Result<Vec<(String, String)>> {
    let Some(text) = options.get(SYSCTLS) else { return Ok(Vec::new()) };
    let bad = |setting: &str, why: &str| {
        Error::invalid(format!("invalid value {setting:?} in {SYSCTLS}: {why}"))
    };
    text.split(',')
        .filter(|setting| !setting.is_empty())
        .map(|setting| {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| bad(setting, "want net.ipv4.conf.IFNAME.NAME=VALUE"))?;
            let parts: Vec<&str> = name.split('.').collect();
            // compat(docker 27): its command line turns options into small letters.
            let ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind @ ("conf" | "neigh"), "IFNAME" | "ifname", rest] =
                parts[..]
            else {
                return Err(bad(
                    setting,
                    "only net.ipv4.*.IFNAME.*, net.ipv6.*.IFNAME.* and net.mpls.*.IFNAME.* can be set, where IFNAME stands for the interface",
                ));
            };
            if rest.is_empty() || rest.contains('/') {
                return Err(bad(setting, "not the name of a setting"));
            }
            Ok((format!("{family}/{kind}/{interface}/{rest}"), value.to_owned()))
        })
        .collect()
}

/// Checks the options of an endpoint before anything is made.
///
/// # Errors
/// `Invalid` for sysctls or names that cannot be.
pub(crate) fn check(wish: &Attach<'_>) -> Result<()> {
    sysctls(wish.options, wish.interface).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>> {
        sysctls(&BTreeMap::from([(SYSCTLS.to_owned(), text.to_owned())]), "eth3")
    }

    #[test]
    fn settings_are_those_of_the_link_alone() {
        let got =
            read("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.retrans_time_ms=9");
        let expected =
            [("ipv4/conf/eth3/log_martians", "1"), ("ipv6/neigh/eth3/retrans_time_ms", "9")];
        assert_eq!(got.unwrap(), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        for bad in [
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.IFNAME.log_martians",
            "net.ipv4.conf.IFNAME.a/../../x=1",
            "kernel.conf.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

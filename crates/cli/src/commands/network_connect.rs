//! `network connect` and `network disconnect`: a container comes to a network, or leaves it.

use crate::{
    client::part,
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag, short},
    options::values,
    ui::Ui,
};
use api::model::{EndpointIpamConfig, EndpointSettings, NetworkConnect};

const FLAGS: &[Flag] = &[
    flag("alias", Kind::Strings, "Add network-scoped alias for the container"),
    flag("driver-opt", Kind::Strings, "driver options for the network"),
    flag("gw-priority", Kind::Int, "Highest gw-priority provides the default gateway"),
    flag("ip", Kind::Text, "IPv4 address (e.g., \"172.30.100.104\")"),
    flag("ip6", Kind::Text, "IPv6 address (e.g., \"2001:db8::33\")"),
    flag("link", Kind::List, "Add link to another container"),
    flag("link-local-ip", Kind::Strings, "Add a link-local address for the container"),
];

pub(crate) const NETWORK_CONNECT: Command = Command {
    names: &["network connect"],
    usage: "NETWORK CONTAINER",
    about: "Connect a container to a network",
    count: Count::Exactly(2),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run: connect,
};

pub(crate) const NETWORK_DISCONNECT: Command = Command {
    names: &["network disconnect"],
    usage: "NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    count: Count::Exactly(2),
    words: Words::Anywhere,
    flags: &[&[short(
        'f',
        "force",
        Kind::Bool,
        "Force the container to disconnect from a network",
    )]],
    run: disconnect,
};

fn connect(ui: &mut Ui, given: &Given) -> Result<()> {
    let local = given.some_list("link-local-ip");
    let (ipv4, ipv6) = (given.text_or_empty("ip"), given.text_or_empty("ip6"));
    let ipam =
        (!ipv4.is_empty() || !ipv6.is_empty() || local.is_some()).then_some(EndpointIpamConfig {
            ipv4_address: ipv4,
            ipv6_address: ipv6,
            link_local_ips: local,
        });
    let settings = EndpointSettings {
        ipam_config: ipam,
        links: given.some_list("link"),
        aliases: given.some_list("alias"),
        driver_opts: values::some_map(given.list("driver-opt")),
        gw_priority: given.int("gw-priority").unwrap_or(0),
        ..EndpointSettings::default()
    };
    let body = NetworkConnect {
        container: given.words[1].clone(),
        endpoint_config: Some(settings),
        force: false,
    };
    Ok(ui.client()?.post_only(&format!("/networks/{}/connect", part(&given.words[0])), &body)?)
}

fn disconnect(ui: &mut Ui, given: &Given) -> Result<()> {
    let body = NetworkConnect {
        container: given.words[1].clone(),
        endpoint_config: None,
        force: given.is("force"),
    };
    Ok(ui.client()?.post_only(&format!("/networks/{}/disconnect", part(&given.words[0])), &body)?)
}

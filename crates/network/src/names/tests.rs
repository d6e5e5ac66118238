use super::*;

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|w| (*w).to_owned()).collect()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect()
}

#[test]
fn hosts_has_dockers_lines_in_dockers_order() {
    let text = hosts(&Hosts {
        hostname: "web",
        domainname: "",
        addresses: &["172.17.0.2".parse().unwrap()],
        extra: &[("db".into(), "10.0.0.9".parse().unwrap())],
        ipv6: true,
    });
    let expected = "127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::\tip6-localnet\n\
        ff00::\tip6-mcastprefix\n\
        ff02::1\tip6-allnodes\n\
        ff02::2\tip6-allrouters\n\
        10.0.0.9\tdb\n\
        172.17.0.2\tweb\n";
    assert_eq!(text, expected);
}

#[test]
fn hosts_with_a_domain_and_without_addresses() {
    let spec = Hosts {
        hostname: "web",
        domainname: "example.org",
        addresses: &[],
        extra: &[],
        ipv6: false,
    };
    assert_eq!(hosts(&spec), "127.0.0.1\tlocalhost\n");
    let addresses = ["172.17.0.2".parse().unwrap()];
    let text = hosts(&Hosts { addresses: &addresses, ..spec });
    assert!(text.ends_with("172.17.0.2\tweb.example.org web\n"));
    assert_eq!(
        host_hosts("1.2.3.4 a", &[("b".into(), "::1".parse().unwrap())]),
        "1.2.3.4 a\n::1\tb\n"
    );
}

#[test]
fn extra_hosts() {
    let gateway = Some("172.17.0.1".parse().unwrap());
    let ok = |text: &str| parse_extra_host(text, gateway).map(|(n, a)| format!("{n} {a}")).unwrap();
    assert_eq!(ok("db:10.0.0.9"), "db 10.0.0.9");
    assert_eq!(ok("db=10.0.0.9"), "db 10.0.0.9");
    assert_eq!(ok("six:::1"), "six ::1");
    assert_eq!(ok("six=[::1]"), "six ::1");
    assert_eq!(ok("host.docker.internal:host-gateway"), "host.docker.internal 172.17.0.1");
    for bad in ["", "db", "db:", ":1.2.3.4", "db:1.2.3", "a b:1.2.3.4", "a\nb:1.2.3.4"] {
        assert!(parse_extra_host(bad, gateway).is_err(), "{bad:?}");
    }
    assert!(parse_extra_host("a:host-gateway", None).is_err());
}

#[test]
fn resolver_leaves_out_what_a_container_cannot_reach() {
    let host = "nameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fd00::1\nsearch a.example b.example\noptions edns0 trust-ad\n";
    let text = resolv_conf(host, &Resolver::default()).unwrap();
    assert_eq!(
        lines(&text),
        ["nameserver 10.0.0.2", "search a.example b.example", "options edns0 trust-ad"]
    );
    for unreachable in
        ["nameserver 127.0.0.1\n", "", "nameserver ::1\n", "nameserver\n", "\u{0}\u{0}"]
    {
        let text = resolv_conf(unreachable, &Resolver::default()).unwrap();
        assert_eq!(lines(&text), ["nameserver 8.8.8.8", "nameserver 8.8.4.4"], "{unreachable:?}");
    }
}

#[test]
fn wishes_win_over_the_host() {
    let host = "nameserver 10.0.0.2\nsearch a.example\noptions edns0\n";
    let (servers, search, options) =
        (words(&["127.0.0.1", "::1"]), words(&["."]), words(&["ndots:2"]));
    let wish = Resolver { servers: &servers, search: &search, options: &options };
    let expected = ["nameserver 127.0.0.1", "nameserver ::1", "options ndots:2"];
    assert_eq!(lines(&resolv_conf(host, &wish).unwrap()), expected);
    assert_eq!(lines(&host_resolv_conf(host, &wish).unwrap()), expected);
    assert_eq!(host_resolv_conf(host, &Resolver::default()).unwrap(), host);
    let only_search = Resolver { search: &words(&["c.example"]), ..Resolver::default() };
    let text = host_resolv_conf("nameserver 127.0.0.53\n", &only_search).unwrap();
    assert_eq!(lines(&text), ["nameserver 127.0.0.53", "search c.example"]);
}

#[test]
fn wishes_cannot_write_lines_of_their_own() {
    for bad in ["x\nnameserver 6.6.6.6", "a b", "", "\t"] {
        let bad = words(&[bad]);
        assert!(resolv_conf("", &Resolver { search: &bad, ..Resolver::default() }).is_err());
        assert!(resolv_conf("", &Resolver { options: &bad, ..Resolver::default() }).is_err());
        assert!(host_resolv_conf("", &Resolver { servers: &bad, ..Resolver::default() }).is_err());
    }
}

#[test]
fn the_servers_behind_systemd_resolved_are_found() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    assert_eq!(host_resolver_file(root.path()), "");
    write("etc/resolv.conf", "nameserver 127.0.0.53\n");
    assert_eq!(host_resolver_file(root.path()), "nameserver 127.0.0.53\n");
    write("run/systemd/resolve/resolv.conf", "nameserver 10.0.0.2\n");
    assert_eq!(host_resolver_file(root.path()), "nameserver 10.0.0.2\n");
    write("etc/resolv.conf", "nameserver 127.0.0.53\nnameserver 10.9.9.9\n");
    assert!(host_resolver_file(root.path()).contains("10.9.9.9"));
}

#[test]
fn on_user_defined_networks_the_own_server_is_asked_and_asks_others() {
    let host =
        "nameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver fd00::53\nsearch a.example\n";
    let all = Outward { forwards: true, ipv6: false };
    let (text, settings) = embedded_resolv_conf(host, &Resolver::default(), all).unwrap();
    assert!(text.ends_with("nameserver 127.0.0.11\nsearch a.example\noptions ndots:0\n"), "{text}");
    let asked: Vec<_> =
        settings.servers.iter().map(|s| (s.address.to_string(), s.from_host)).collect();
    let expected = [("127.0.0.1", true), ("192.0.2.1", false), ("fd00::53", true)];
    assert_eq!(asked, expected.map(|(a, h)| (a.to_owned(), h)));
    assert!(!settings.keep_single_labels);
    let (servers, options) = (["9.9.9.9".to_owned()], ["ndots:2".to_owned(), "rotate".to_owned()]);
    let wish = Resolver { servers: &servers, options: &options, ..Resolver::default() };
    let (text, settings) = embedded_resolv_conf(host, &wish, all).unwrap();
    assert!(text.ends_with("options ndots:2 rotate\n"), "{text}");
    assert!(settings.keep_single_labels && settings.servers.len() == 1);
    let rotate = ["rotate".to_owned()];
    let wish = Resolver { options: &rotate, ..Resolver::default() };
    let (text, _) = embedded_resolv_conf("", &wish, all).unwrap();
    assert!(text.ends_with("options rotate ndots:0\n"), "{text}");
    let (_, settings) = embedded_resolv_conf("", &Resolver::default(), all).unwrap();
    assert_eq!(settings.servers.len(), 2, "the public ones");
    let inside = Outward { forwards: false, ..all };
    let (_, settings) = embedded_resolv_conf(host, &Resolver::default(), inside).unwrap();
    assert!(settings.servers.is_empty());
}

//! Links of the default network, names of the host, and many ports at once.

use std::{net::TcpListener, time::Duration};
use testkit::{Cx, cases, suite::Case};

pub const CASES: &[Case] = cases![
    links_are_lines_and_variables,
    a_link_follows_its_container,
    links_that_cannot_be,
    host_gateway_is_the_host,
    ten_thousand_ports_in_one_go,
    a_taken_port_names_its_holder,
];

fn links_are_lines_and_variables(cx: &Cx<'_>) {
    let db = cx.sleeper("db", &["--expose", "5432", "-e", "SECRET=x y"]);
    let address = cx.inspect(&db)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    let link = format!("{db}:my-store");
    let text = cx.busybox(
        &["--link", &link, "-e", "MY_STORE_PORT_5432_TCP_PROTO=own"],
        &["sh", "-c", "cat /etc/hosts; env"],
    );
    let hosts = text.lines().find(|l| l.contains("my-store")).unwrap();
    assert!(hosts.starts_with(&address) && hosts.ends_with(&db), "{text}");
    for line in [
        format!("MY_STORE_PORT=tcp://{address}:5432"),
        format!("MY_STORE_PORT_5432_TCP_ADDR={address}"),
        "MY_STORE_PORT_5432_TCP_PORT=5432".to_owned(),
        "MY_STORE_PORT_5432_TCP_PROTO=own".to_owned(),
        "MY_STORE_ENV_SECRET=x y".to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let web = cx.sleeper("web", &["--link", &link]);
    assert_eq!(cx.inspect(&web)["HostConfig"]["Links"][0], format!("/{db}:/{web}/my-store"));
}

fn a_link_follows_its_container(cx: &Cx<'_>) {
    let db = cx.sleeper("db", &[]);
    let web = cx.sleeper("web", &["--link", &db]);
    let old = cx.inspect(&db)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    // Its address is another's when it comes back.
    cx.docker(&["stop", "-t", "0", &db]).ok();
    let _taker = cx.until("another has its address", || {
        let name = cx.sleeper("x", &[]);
        let got = cx.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .unwrap()
            == old;
        if !got {
            cx.docker(&["rm", "-f", &name]).ok();
        }
        got.then_some(name)
    });
    cx.docker(&["start", &db]).ok();
    let new = cx.inspect(&db)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(old, new);
    let hosts = cx.docker(&["exec", &web, "cat", "/etc/hosts"]);
    let line = hosts.ok().lines().find(|l| l.contains(&db)).unwrap().to_owned();
    assert!(line.starts_with(&format!("{new}\t")), "{line}");
}

fn links_that_cannot_be(cx: &Cx<'_>) {
    cx.run(&["--link", "no-such"], &["true"])
        .fails_with(125, &["could not get container for no-such"]);
    let db = cx.name("db");
    cx.docker(&["create", "--name", &db, "busybox", "true"]).ok();
    cx.run(&["--link", &db], &["true"]).fails_with(125, &["non running container"]);
    cx.run(&["--network", "host", "--link", &db], &["true"]).fails_with(125, &["links"]);
}

fn host_gateway_is_the_host(cx: &Cx<'_>) {
    let gateway = cx.api().get("/networks/bridge").json()["IPAM"]["Config"][0]["Gateway"]
        .as_str()
        .unwrap()
        .to_owned();
    let listener = TcpListener::bind((gateway.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"host\n").unwrap();
    });
    let said = cx.busybox(&["--add-host", "home:host-gateway"], &["nc", "-w", "5", "home", &port]);
    assert_eq!(said, "host");
    server.join().unwrap();
}

fn ten_thousand_ports_in_one_go(cx: &Cx<'_>) {
    // Below the range that the system takes ports from by itself.
    let range = "20000-29999:20000-29999";
    let a = cx.name("a");
    cx.docker(&[
        "create",
        "--name",
        &a,
        "-p",
        range,
        "busybox",
        "sh",
        "-c",
        "nc -l -p 24567 -e echo served; sleep 600",
    ])
    .ok();
    cx.docker(&["start", &a]).ok();
    cx.until("a port in the middle serves", || {
        let address = "127.0.0.1:24567".parse().unwrap();
        let mut stream =
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
        (text == "served\n").then_some(())
    });
    let ports = cx.inspect(&a)["NetworkSettings"]["Ports"].clone();
    assert_eq!(ports.as_object().unwrap().len(), 10_000);
    assert!(TcpListener::bind("0.0.0.0:29999").is_err());
    cx.docker(&["rm", "-f", &a]).ok();
    TcpListener::bind("0.0.0.0:29999").map(drop).unwrap();
}

fn a_taken_port_names_its_holder(cx: &Cx<'_>) {
    let a = cx.sleeper("a", &["-p", "80"]);
    let told = cx.docker(&["port", &a, "80"]).ok().to_owned();
    let port = told.rsplit(':').next().unwrap();
    let refused = cx.run(&["-p", &format!("{port}:80")], &["true"]);
    refused.fails_with(125, &["port is already allocated", &format!("container {a}")]);
    let own = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = own.local_addr().unwrap().port().to_string();
    let refused = cx.run(&["-p", &format!("{port}:80")], &["true"]);
    refused.fails_with(125, &["address already in use", &format!("pid {}", std::process::id())]);
}

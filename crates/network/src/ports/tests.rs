use super::*;
use std::{net::TcpListener, os::fd::AsFd};

const ANY: Taker<'static> = Taker {
    name: "web",
    defaults: &[IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)],
    translates: [true; 2],
};
const BOTH: &[IpAddr] =
    &[IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];

fn inside(work: impl FnOnce() + Send) {
    let namespace = sys::netns::create().unwrap();
    sys::netns::within(namespace.as_fd(), || {
        let mut route = sys::netlink::Route::open().unwrap();
        let lo = route.link("lo").unwrap().unwrap();
        route.run(&[sys::netlink::Request::set_up(lo.index)]).unwrap();
        work();
    })
    .unwrap();
}

fn wish(key: &str, ip: &str, port: &str) -> Publish {
    Publish::parse(key, ip, port).unwrap()
}

fn take(ports: &Ports, wishes: &[Publish]) -> Result<Vec<u16>, String> {
    take_with(ports, wishes, ANY)
}

fn take_with(ports: &Ports, wishes: &[Publish], taker: Taker<'_>) -> Result<Vec<u16>, String> {
    let taken = ports.take(wishes, taker).map_err(|e| e.to_string())?;
    Ok(taken.iter().map(|p| p.host_port).collect())
}

#[test]
fn conflicts_are_told_in_dockers_words() {
    inside(|| {
        let ports = Ports::new(50000..=50010);
        assert_eq!(
            take(&ports, &[wish("80/tcp", "", "80"), wish("80/udp", "", "80")]),
            Ok(vec![80, 80])
        );
        assert_eq!(
            take(&ports, &[wish("81/tcp", "127.0.0.1", "80")]),
            Err("Bind for 127.0.0.1:80 failed: port is already allocated (by container web)".into())
        );
        let _other = TcpListener::bind("127.0.0.1:90").unwrap();
        assert_eq!(
            take(&ports, &[wish("90/tcp", "", "90")]),
            Err(format!(
                "listen tcp4 0.0.0.0:90: bind: address already in use (by process {} with pid {})",
                std::fs::read_to_string("/proc/self/comm").unwrap().trim_end(),
                std::process::id()
            ))
        );
        assert_eq!(
            take(&ports, &[wish("90/tcp", "203.0.113.1", "91")]),
            Err("listen tcp4 203.0.113.1:91: bind: cannot assign requested address".into())
        );
        let error = ports.take(&[wish("90/tcp", "[::1]", "91")], ANY).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(ports.count(), 2);
    });
}

#[test]
fn a_failed_request_holds_nothing() {
    inside(|| {
        let ports = Ports::new(50000..=50010);
        let wishes = [wish("1/tcp", "", "1000"), wish("2/tcp", "", ""), wish("3/tcp", "", "1000")];
        assert!(take(&ports, &wishes).is_err());
        assert_eq!(ports.count(), 0);
        TcpListener::bind("0.0.0.0:1000").unwrap();
    });
}

#[test]
fn different_addresses_share_a_port() {
    inside(|| {
        let ports = Ports::new(50000..=50010);
        let both = [wish("80/tcp", "127.0.0.1", "80"), wish("80/tcp", "127.0.0.2", "80")];
        let taken = ports.take(&both, ANY).unwrap();
        assert!(take(&ports, &[wish("80/tcp", "", "80")]).is_err());
        ports.release(&taken[..1]);
        assert!(take(&ports, &[wish("80/tcp", "127.0.0.2", "80")]).is_err());
        assert!(take(&ports, &[wish("80/tcp", "127.0.0.1", "80")]).is_ok());
    });
}

#[test]
fn ranges_and_free_ports_pass_over_what_is_taken_and_run_out() {
    inside(|| {
        let ports = Ports::new(50000..=50002);
        let _other = TcpListener::bind("0.0.0.0:50001").unwrap();
        let any = || wish("80/tcp", "", "");
        let first = ports.take(&[any()], ANY).unwrap();
        assert_eq!(first[0].host_port, 50000);
        ports.release(&first);
        // Not the one that was just given back.
        assert_eq!(take(&ports, &[any()]), Ok(vec![50002]));
        assert_eq!(take(&ports, &[any()]), Ok(vec![50000]));
        assert_eq!(take(&ports, &[any()]), Err("all ports are allocated".into()));
        assert_eq!(take(&ports, &[wish("80/udp", "", "0")]), Ok(vec![50000]));
        assert_eq!(take(&ports, &[wish("80/tcp", "", "50000-50003")]), Ok(vec![50003]));
    });
}

#[test]
fn a_port_of_an_earlier_life_stays_published_even_when_another_has_it() {
    inside(|| {
        let ports = Ports::new(50000..=50002);
        let mut port = ports.take(&[wish("80/tcp", "", "80")], ANY).unwrap().remove(0);
        ports.release(std::slice::from_ref(&port));
        ports.adopt(&port, "web").unwrap();
        assert!(TcpListener::bind("0.0.0.0:80").is_err());
        let _other = TcpListener::bind("0.0.0.0:81").unwrap();
        port.host_port = 81;
        assert!(ports.adopt(&port, "web").is_err());
        assert_eq!(ports.count(), 2);
    });
}

#[test]
fn a_network_of_both_families_publishes_the_same_port_on_both() {
    inside(|| {
        let ports = Ports::new(50000..=50002);
        let taker = Taker { defaults: BOTH, ..ANY };
        let all = ports.take(&[wish("80/tcp", "", "80"), wish("81/tcp", "", "")], taker).unwrap();
        let told: Vec<_> = all.iter().map(|p| format!("{}:{}", p.host_ip, p.host_port)).collect();
        assert_eq!(told, ["0.0.0.0:80", ":::80", "0.0.0.0:50000", ":::50000"]);
        // Taken in one family, a free one is sought for both.
        let _other = TcpListener::bind("[::1]:50001").unwrap();
        assert_eq!(take_with(&ports, &[wish("82/tcp", "", "")], taker), Ok(vec![50002, 50002]));
        let error = take_with(&ports, &[wish("83/tcp", "", "50001")], taker).unwrap_err();
        assert!(error.starts_with("listen tcp6 [::]:50001: bind: address already in use"));
        ports.release(&all);
        assert_eq!(ports.count(), 2);
    });
}

#[test]
fn where_nothing_is_translated_no_port_of_the_host_is_taken() {
    inside(|| {
        let ports = Ports::new(50000..=50002);
        let taker = Taker { defaults: BOTH, translates: [true, false], ..ANY };
        assert_eq!(take_with(&ports, &[wish("80/tcp", "", "80")], taker), Ok(vec![80, 0]));
        assert_eq!(ports.count(), 1);
    });
}

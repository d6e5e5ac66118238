use super::*;
use crate::netns;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

const PORTS: Map = Map {
    set: Set { name: "ports", key_type: (12 << 6) | 13, key_bytes: 8 },
    value_type: (7 << 6) | 13,
    value_bytes: 8,
};

fn fresh() -> (OwnedFd, Nft) {
    let namespace = netns::create().unwrap();
    let nft = netns::within(namespace.as_fd(), || Nft::open(Family::Ipv4)).unwrap().unwrap();
    (namespace, nft)
}

fn element(n: u32) -> Element {
    let key = [6_u32.to_ne_bytes(), n.to_ne_bytes()].concat();
    Element { key, value: Some(vec![10, 0, 0, 1, 0, 80, 0, 0]) }
}

fn table() -> Batch {
    let mut batch = Batch::new(Family::Ipv4);
    batch.renew_table("t");
    batch.add_map("t", &PORTS);
    batch.add_set("t", &Set { name: "some", key_type: 7, key_bytes: 4 });
    batch.add_chain("t", &Chain { name: "publish", base: None });
    batch.add_chain("t", &Chain { name: "pre", base: Some(("nat", Hook::Prerouting, -100)) });
    batch.add_chain("t", &Chain { name: "post", base: Some(("nat", Hook::Postrouting, 100)) });
    batch.add_chain("t", &Chain { name: "forward", base: Some(("filter", Hook::Forward, 0)) });
    let r = Register;
    batch.add_rule(
        "t",
        "pre",
        &[
            Expr::DestinationKind(r(0)),
            Expr::Cmp(r(0), Cmp::Eq, 2_u32.to_ne_bytes().to_vec()),
            Expr::Verdict(Verdict::Jump("publish".into())),
        ],
    );
    batch.add_rule(
        "t",
        "publish",
        &[
            Expr::Meta(Meta::Transport, r(0)),
            Expr::TransportHeader(2, 2, r(1)),
            Expr::Map(r(0), "ports".into(), r(8)),
            Expr::Dnat(r(8), r(9)),
        ],
    );
    let rule: Vec<_> = Expr::output("eth0", Cmp::Ne)
        .into_iter()
        .chain(Expr::source(&[10, 0, 0, 0], &[255, 0, 0, 0]))
        .chain([Expr::Masquerade])
        .collect();
    batch.add_rule("t", "post", &rule);
    let rule: Vec<_> =
        Expr::ct(Ct::State, 6).into_iter().chain([Expr::Verdict(Verdict::Accept)]).collect();
    batch.add_rule("t", "forward", &rule);
    let set = [
        Expr::Network(12, 4, r(0)),
        Expr::InSet(r(0), "some".into()),
        Expr::Verdict(Verdict::Drop),
    ];
    batch.add_rule("t", "forward", &set);
    batch
}

#[test]
fn a_table_is_made_listed_and_read_by_the_tool_as_meant() {
    let (namespace, mut nft) = fresh();
    let mut batch = table();
    batch.add_elements("t", "ports", &[element(0x5000)]);
    nft.commit(&batch).unwrap();
    assert_eq!(nft.tables().unwrap(), ["t"]);
    let mut rules = nft.rules("t").unwrap();
    rules.sort();
    assert_eq!(rules, ["forward", "forward", "post", "pre", "publish"]);
    let listed = netns::within(namespace.as_fd(), || {
        std::process::Command::new("nft").args(["list", "table", "ip", "t"]).output()
    });
    // The tool is only for looking; without it the rest of the test stands.
    let Ok(Ok(output)) = listed else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "type inet_proto . inet_service : ipv4_addr . inet_service",
        "elements = { tcp . 80 : 10.0.0.1 . 80 }",
        "fib daddr type local jump publish",
        "dnat ip to meta l4proto . th dport map @ports",
        "oifname != \"eth0\" ip saddr 10.0.0.0/8 masquerade",
        "ct state established,related accept",
        "ip saddr @some drop",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn elements_come_go_and_are_listed() {
    let (_namespace, mut nft) = fresh();
    nft.commit(&table()).unwrap();
    let mut all: Vec<_> = (0..5000).map(element).collect();
    let mut batch = Batch::new(Family::Ipv4);
    batch.add_elements("t", "ports", &all);
    nft.commit(&batch).unwrap();
    let mut there = nft.elements("t", "ports").unwrap().unwrap();
    there.sort();
    all.sort();
    assert_eq!(there, all);
    let mut batch = Batch::new(Family::Ipv4);
    batch.delete_elements("t", "ports", &all[1..]);
    nft.commit(&batch).unwrap();
    assert_eq!(nft.elements("t", "ports").unwrap().unwrap(), all[..1]);
    assert_eq!(nft.elements("t", "nothing").unwrap(), None);
    assert_eq!(nft.elements("no", "nothing").unwrap(), None);
}

#[test]
fn a_batch_happens_whole_or_not_at_all_and_names_what_failed() {
    let (_namespace, mut nft) = fresh();
    nft.commit(&table()).unwrap();
    let mut batch = Batch::new(Family::Ipv4);
    batch.add_elements("t", "ports", &[element(1)]);
    batch.delete_elements("t", "ports", &[element(2)]);
    batch.add_elements("t", "ports", &[element(3)]);
    let error = nft.commit(&batch).unwrap_err();
    assert_eq!(error.errno, Errno::NOENT);
    assert_eq!(error.to_string(), "delete 1 elements of t ports");
    assert_eq!(nft.elements("t", "ports").unwrap().unwrap(), []);
    // The next batch is not confused by what is left of the failed one.
    let mut batch = Batch::new(Family::Ipv4);
    batch.add_elements("t", "ports", &[element(1)]);
    nft.commit(&batch).unwrap();
    nft.commit(&Batch::new(Family::Ipv4)).unwrap();
}

#[test]
fn a_table_is_renewed_in_one_step() {
    let (_namespace, mut nft) = fresh();
    for _ in 0..3 {
        nft.commit(&table()).unwrap();
        assert_eq!(nft.rules("t").unwrap().len(), 5);
    }
    let mut batch = Batch::new(Family::Ipv4);
    batch.delete_table("t");
    nft.commit(&batch).unwrap();
    assert!(nft.rules("t").unwrap().is_empty());
    assert_eq!(nft.commit(&batch).unwrap_err().errno, Errno::NOENT);
}

#[test]
fn a_watcher_hears_what_is_taken_from_its_table() {
    let (namespace, mut nft) = fresh();
    nft.commit(&table()).unwrap();
    let mut watch = netns::within(namespace.as_fd(), Nft::watch).unwrap().unwrap();
    let mut batch = Batch::new(Family::Ipv4);
    batch.renew_table("other");
    nft.commit(&batch).unwrap();
    let mut batch = Batch::new(Family::Ipv4);
    batch.delete_table("t");
    nft.commit(&batch).unwrap();
    while !watch.wait_for_change(&["t".to_owned()]).unwrap() {}
}

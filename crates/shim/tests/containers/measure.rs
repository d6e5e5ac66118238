//! Figures, on demand: `cargo test -p gantry-shim --test containers -- --ignored --nocapture measure`.
//! Nothing is asserted about time; medians are printed.

use crate::rig::{Rig, read};
use runtime::shim::Target;
use std::{fs, time::Instant};

const ROUNDS: usize = 60;

fn median(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}

fn say(what: &str, times: Vec<f64>) {
    let (median, least) = median(times);
    println!("{what}: median {median:.2} ms, least {least:.2} ms");
}

#[tokio::test]
#[ignore = "figures, not a test"]
async fn measure_starts() {
    let (mut spawn, mut release, mut whole, mut exec) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let rig = Rig::args(&["true"]);
        let began = Instant::now();
        let (shim, _) = rig.spawn().await.unwrap();
        spawn.push(began.elapsed().as_secs_f64() * 1e3);
        shim.release().await.unwrap();
        release.push(began.elapsed().as_secs_f64() * 1e3);
        shim.wait(&Target::Init).await.unwrap();
        whole.push(began.elapsed().as_secs_f64() * 1e3);
        rig.gone().await;
    }
    say("spawn (process exists)", spawn);
    say("spawn + release (program runs)", release);
    say("spawn + release + wait (`true` has ended)", whole);
    let rig = Rig::args(&["sleep", "1000"]);
    let (shim, _attach) = rig.start().await.unwrap();
    for n in 0..ROUNDS {
        let began = Instant::now();
        let running = rig.exec(&shim, &format!("e{n}"), &rig.process("true")).await.unwrap();
        read(&mut running.attach.unwrap()).await;
        exec.push(began.elapsed().as_secs_f64() * 1e3);
    }
    say("exec of `sh -c true` to its last byte", exec);
    shim.signal(&Target::Init, 9).await.unwrap();
    rig.gone().await;
}

#[tokio::test]
#[ignore = "figures, not a test"]
async fn measure_memory() {
    for init in [false, true] {
        let mut rig = Rig::args(&["sleep", "1000"]);
        rig.spec.init = init;
        let (shim, _attach) = rig.start().await.unwrap();
        let state = shim.state().await.unwrap();
        let of = |pid: u32| -> u64 {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let lines = rollup.lines().filter(|l| l.starts_with("Private_"));
            lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
        };
        let first = if init { of(state.pid) } else { 0 };
        println!("private memory, init {init}: shim {} kB, docker-init {first} kB", of(state.shim));
        shim.signal(&Target::Init, 9).await.unwrap();
        rig.gone().await;
    }
}

#[tokio::test]
#[ignore = "figures, not a test"]
async fn measure_output() {
    let mut rig = Rig::sh(
        "yes 'a line of a log as programs write them, some sixty-four bytes..' | head -n 430000",
    );
    for log in [false, true] {
        rig.log = log;
        let began = Instant::now();
        let (shim, _) = rig.spawn().await.unwrap();
        shim.release().await.unwrap();
        shim.wait(&Target::Init).await.unwrap();
        println!("28 MB of lines, log {log}: {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    }
    rig.gone().await;
}

//! `update`: other limits for a container that is there.

use super::{
    Cx,
    arguments::Given,
    create::read_limited,
    state::{Container, Status},
};
use crate::container::Step;
use runtime::shim::StartError;
use sys::cgroup::{BlockIo, Cpu, Memory, Pids, Resources};

/// Longest description of limits.
const LONGEST: u64 = 4 << 20;

/// `gantry-shim update`.
pub(super) fn update(cx: &Cx, given: &Given) -> Step<i32> {
    let container = Container::find(cx, given.id()?)?;
    if container.status() == Status::Stopped {
        return Err(StartError::setup("container not running"));
    }
    let resources = match given.value("resources") {
        Some(path) => {
            let bytes = read_limited(path, LONGEST)?;
            let mut all: Resources = serde_json::from_slice(&bytes)
                .map_err(|e| StartError::setup(format!("cannot read the resources: {e}")))?;
            // Devices stay as the container was made with, as with runc.
            all.devices.clear();
            all
        }
        None => from_options(given)?,
    };
    container
        .group()?
        .update(&resources)
        .map(|()| 0)
        .map_err(|e| StartError::setup(base::error::chain(&e)))
}

fn from_options(given: &Given) -> Step<Resources> {
    let bytes = |name: &str| -> Step<Option<i64>> {
        let Some(text) = given.value(name) else { return Ok(None) };
        if text == "-1" {
            return Ok(Some(-1));
        }
        let bad = || StartError::setup(format!("invalid value {text:?} for {name}"));
        base::units::parse_bytes(text).map(Some).map_err(|_| bad())
    };
    let text = |name: &str| given.value(name).map(str::to_owned);
    let shares = match given.number("cpu-share")? {
        Some(shares) => Some(shares),
        None => given.number("cpu-shares")?,
    };
    let memory = Memory {
        limit: bytes("memory")?,
        reservation: bytes("memory-reservation")?,
        swap: bytes("memory-swap")?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares,
        quota: given.number("cpu-quota")?,
        burst: given.number("cpu-burst")?,
        period: given.number("cpu-period")?,
        realtime_runtime: given.number("cpu-rt-runtime")?,
        realtime_period: given.number("cpu-rt-period")?,
        cpus: text("cpuset-cpus"),
        mems: text("cpuset-mems"),
    };
    let weight = given.number("blkio-weight")?;
    Ok(Resources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: given.number("pids-limit")?.map(|limit| Pids { limit }),
        block_io: weight.map(|w| BlockIo { weight: Some(w), ..BlockIo::default() }),
        ..Resources::default()
    })
}

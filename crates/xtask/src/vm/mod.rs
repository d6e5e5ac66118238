//! `cargo xtask vm`: the end-to-end suite inside an emulated machine with Debian's kernel and pure cgroup v2.
//!
//! Flow: fetch the kernel's package (kept in the target folder), build the suite, write an initial file
//! system with the modules that are needed to reach the host's files, share those read-only by virtiofs,
//! boot under QEMU without KVM, and pass on what the suite prints and its exit code. The guest has two
//! processors, a layer in memory over the host's files, no network and no disk: nothing outlives it.
//! Cases of SELinux get a boot of their own, with a small policy in force instead of AppArmor.
//! Arguments: those of the suite (words that names must hold; those of SELinux's cases begin with `selinux`),
//! `--minutes N` (default 60, for each boot) before them.
//! Needs `scripts/setup --tests` and root.

mod cpio;
mod kernel;
mod policy;

use crate::shell::{number, project, say, target};
use anyhow::{Context as _, Result, bail, ensure};
use kernel::Kernel;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What the guest's last line begins with.
const END: &str = "gantry-vm: exit ";
/// Memory of the guest; its files are in there too.
const MEMORY: &str = "4G";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let minutes = number(args, "--minutes", 60)?;
    let words = match args.iter().position(|a| a == "--minutes") {
        Some(at) => &args[(at + 2).min(args.len())..],
        None => args,
    };
    let folder = target().join("testkit/vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let kernel = Kernel::fetch(&folder)?;
    let suite = suite()?;
    let mut failed = Vec::new();
    for Boot { policy, words } in boots(words) {
        let policy = if policy { Some(policy::compile(&folder)?) } else { None };
        let script = folder.join("run.sh");
        fs::write(&script, guest_script(&suite, &words, policy.as_deref()))
            .with_context(|| format!("write {}", script.display()))?;
        let initial = folder.join("initial.cpio");
        fs::write(&initial, initial_files(&kernel, &script)?)
            .with_context(|| format!("write {}", initial.display()))?;
        // Of the modules that keep labels there can be one.
        let module = if policy.is_some() { "selinux" } else { "apparmor" };
        let code = Machine::boot(&folder, &kernel, &initial, module)?
            .end(Instant::now() + Duration::from_secs(minutes * 60))?;
        if code != 0 {
            failed.push(format!("the suite ended with code {code} in the guest with {module}"));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// A boot, and which cases run in it.
#[derive(Debug, PartialEq, Eq)]
struct Boot {
    /// Whether SELinux has a policy.
    policy: bool,
    words: Vec<String>,
}

/// The boots that cases need whose names hold one of `words`; without words all do.
fn boots(words: &[String]) -> Vec<Boot> {
    const SELINUX: &str = "selinux";
    if words.is_empty() {
        let all = Boot { policy: false, words: Vec::new() };
        return vec![all, Boot { policy: true, words: vec![SELINUX.to_owned()] }];
    }
    let (labelled, usual): (Vec<_>, Vec<_>) =
        words.iter().cloned().partition(|word| word.starts_with(SELINUX));
    [(false, usual), (true, labelled)]
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(policy, words)| Boot { policy, words })
        .collect()
}

/// Builds the daemon, the shim and the suite; gives the suite's program.
fn suite() -> Result<PathBuf> {
    let build = project().join("scripts/build");
    let status = Command::new(&build).arg("debug").status().context("run scripts/build")?;
    ensure!(status.success(), "scripts/build failed");
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet", "--workspace", "--test", "e2e", "--no-run"]);
    cargo.args(["--message-format", "json"]).current_dir(project()).stderr(Stdio::inherit());
    let output = cargo.output().context("run cargo")?;
    ensure!(output.status.success(), "the suite was not built");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let mut built = messages.filter(|m| m["target"]["name"] == "e2e");
    let path = built.find_map(|m| m["executable"].as_str().map(PathBuf::from));
    path.context("cargo does not say where the suite is")
}

/// What the guest runs once it has the host's files; before that it loads `policy`, in the one write that the kernel wants,
/// and puts it in force.
fn guest_script(suite: &Path, words: &[String], policy: Option<&Path>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
    let load = policy.map(|policy| {
        let policy = quoted(&policy.display().to_string());
        format!(
            "mount -t selinuxfs selinuxfs /sys/fs/selinux\ndd if={policy} of=/sys/fs/selinux/load bs=16M status=none\necho 1 >/sys/fs/selinux/enforce\n"
        )
    });
    format!(
        "{}cd {}\nCARGO_TARGET_DIR={} {} {}\necho \"{END}$?\"\nbusybox poweroff -f\n",
        load.unwrap_or_default(),
        quoted(&project().display().to_string()),
        quoted(&target().display().to_string()),
        quoted(&suite.display().to_string()),
        words.join(" "),
    )
}

/// The initial file system: busybox, the first program, and the modules that it loads.
fn initial_files(kernel: &Kernel, script: &Path) -> Result<Vec<u8>> {
    let mut files = cpio::Writer::default();
    for dir in ["bin", "dev", "host", "memory", "modules", "proc", "root", "sys"] {
        files.dir(dir);
    }
    let busybox = fs::read("/bin/busybox").context("read /bin/busybox (busybox-static)")?;
    files.file("bin/busybox", 0o755, &busybox);
    for (n, module) in
        kernel.modules_for(&["virtio_pci", "virtiofs", "overlay"])?.iter().enumerate()
    {
        let name = module.file_name().context("a module has a name")?.to_string_lossy();
        let bytes = fs::read(module).with_context(|| format!("read {}", module.display()))?;
        files.file(&format!("modules/{n:02}-{name}"), 0o644, &bytes);
    }
    let relative = |path: &Path| path.display().to_string().trim_start_matches('/').to_owned();
    let init = include_str!("init.sh")
        .replace("$MODULES", &relative(&kernel.modules))
        .replace("$FOLDERS", &format!("{} {}", relative(&project()), relative(&target())))
        .replace("$SCRIPT", &format!("/{}", relative(script)));
    files.file("init", 0o755, init.as_bytes());
    Ok(files.finish())
}

/// A guest that runs, and the process that shares the host's files with it.
struct Machine {
    share: Child,
    guest: Child,
}

impl Machine {
    fn boot(folder: &Path, kernel: &Kernel, initial: &Path, module: &str) -> Result<Self> {
        let socket = folder.join("share.sock");
        _ = fs::remove_file(&socket);
        let log = fs::File::create(folder.join("share.log")).context("make share.log")?;
        let mut share = Command::new("/usr/lib/qemu/virtiofsd");
        share.arg(format!("--socket-path={}", socket.display()));
        for option in ["source=/", "cache=always", "sandbox=chroot", "no_posix_lock"] {
            share.args(["-o", option]);
        }
        share.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let share = share.spawn().context("start virtiofsd (qemu-system-common)")?;
        let mut guest = Command::new("qemu-system-x86_64");
        guest.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", MEMORY, "-nodefaults"]);
        guest.args(["-display", "none", "-no-reboot", "-serial", "stdio"]);
        guest.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initial);
        let options = "console=ttyS0 quiet loglevel=0 panic=-1 cgroup_no_v1=all";
        guest.arg("-append").arg(format!("{options} security={module}"));
        guest.arg("-object");
        guest.arg(format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"));
        guest.args(["-numa", "node,memdev=memory"]);
        guest.arg("-chardev").arg(format!("socket,id=share,path={}", socket.display()));
        guest.args(["-device", "vhost-user-fs-pci,chardev=share,tag=host"]);
        guest.stdin(Stdio::null()).stdout(Stdio::piped());
        // The share listens once its socket is there.
        let began = Instant::now();
        while !socket.exists() && began.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(10));
        }
        let mut machine = Self { share, guest: guest.spawn().context("start qemu-system-x86_64")? };
        if let Ok(Some(status)) = machine.share.try_wait() {
            let said = fs::read_to_string(folder.join("share.log")).unwrap_or_default();
            bail!("virtiofsd ended ({status}): {}", said.trim());
        }
        Ok(machine)
    }

    /// Passes on what the guest prints, until its end or `limit`; gives the suite's exit code.
    fn end(mut self, limit: Instant) -> Result<i32> {
        let output = self.guest.stdout.take().context("the guest has an output")?;
        let (line, lines) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for text in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if line.send(String::from_utf8_lossy(&text).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        let mut code = None;
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(text) => match text.strip_prefix(END) {
                    Some(number) => code = number.parse().ok(),
                    None => say(&text),
                },
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    bail!("the guest did not end in time: give it more --minutes")
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        code.context("the guest ended without the suite's end: it crashed or did not boot")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in [&mut self.guest, &mut self.share] {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_of_selinux_have_a_boot_of_their_own() {
        let of = |words: &[&str]| -> Vec<(bool, String)> {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            boots(&words).into_iter().map(|b| (b.policy, b.words.join(" "))).collect()
        };
        assert_eq!(of(&[]), [(false, String::new()), (true, "selinux".into())]);
        assert_eq!(of(&["exec::"]), [(false, "exec::".into())]);
        assert_eq!(of(&["selinux::options"]), [(true, "selinux::options".into())]);
        let both = [(false, "apparmor health".into()), (true, "selinux".into())];
        assert_eq!(of(&["apparmor", "selinux", "health"]), both);
    }
}

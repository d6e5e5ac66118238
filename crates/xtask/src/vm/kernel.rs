//! Debian's cloud kernel: its package fetched once, unpacked in the target folder, installed nowhere.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The package that names the newest one.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel and its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// The folder of its modules, `.../lib/modules/RELEASE`.
    pub(crate) modules: PathBuf,
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// The kernel below `folder`, fetched if it is not there.
    pub(crate) fn fetch(folder: &Path) -> Result<Self> {
        let root = folder.join("kernel");
        if Self::at(&root).is_err() {
            _ = fs::remove_dir_all(&root);
            let half = folder.join("kernel.new");
            _ = fs::remove_dir_all(&half);
            fs::create_dir_all(&half).context("make a folder for the kernel")?;
            let depends = said(Command::new("apt-cache").args(["depends", PACKAGE]))?;
            let name = depends.lines().find_map(|l| l.trim().strip_prefix("Depends: linux-image-"));
            let name = name.with_context(|| format!("{PACKAGE} names no kernel"))?;
            said(
                Command::new("apt-get")
                    .args(["download", "-q", &format!("linux-image-{name}")])
                    .current_dir(&half),
            )?;
            let package = fs::read_dir(&half)?.flatten().map(|e| e.path()).next();
            let package = package.context("apt-get downloaded nothing")?;
            said(Command::new("dpkg-deb").arg("-x").arg(&package).arg(half.join("root")))?;
            said(Command::new("depmod").arg("-b").arg(half.join("root")).arg(name))?;
            fs::rename(half.join("root"), &root).context("put the kernel into its place")?;
            _ = fs::remove_dir_all(&half);
        }
        Self::at(&root)
    }

    fn at(root: &Path) -> Result<Self> {
        let all = root.join("lib/modules");
        let entry = fs::read_dir(&all).with_context(|| format!("read {}", all.display()))?;
        let modules = entry.flatten().map(|e| e.path()).next().context("there are no modules")?;
        let release = modules.file_name().context("a release")?.to_string_lossy().into_owned();
        let image = root.join(format!("boot/vmlinuz-{release}"));
        ensure!(image.exists(), "{} is missing", image.display());
        ensure!(modules.join("modules.dep").exists(), "the modules have no list");
        let root = fs::canonicalize(root).context("find the kernel's folder")?;
        let modules = fs::canonicalize(modules).context("find the modules")?;
        Ok(Self { image, modules, root, release })
    }

    /// Files of modules, each after those that it needs.
    pub(crate) fn modules_for(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            let mut command = Command::new("modprobe");
            command.arg("-d").arg(&self.root).args(["-S", &self.release, "--show-depends", name]);
            for line in said(&mut command)?.lines() {
                let file = line.strip_prefix("insmod ").map(|f| PathBuf::from(f.trim()));
                if let Some(file) = file.filter(|f| !files.contains(f)) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// Output of a command that must succeed.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! Small disks for a daemon's data: they fill up, run out of inodes, and lose their power.
//!
//! A memory disk where it is only about space; ext4 in a file where it is about what was synced. Mounted below a
//! folder of their own and unmounted when dropped.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    dir: TempDir,
    /// The file behind ext4.
    image: Option<PathBuf>,
    /// What `mount -o` is told of it.
    options: String,
    mounted: bool,
}

/// Name of the file that takes up space.
const FILLER: &str = "filler";

impl Disk {
    /// A disk of memory with so many MiB and inodes.
    ///
    /// # Errors
    /// This machine mounts none.
    pub fn memory(mib: u32, inodes: u32) -> Result<Self> {
        let mut disk = Self::new(None)?;
        let options = format!("size={mib}m,nr_inodes={inodes},mode=0711");
        let root = disk.root();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "gantry-test"]).arg(&root))?;
        disk.mounted = true;
        Ok(disk)
    }

    /// An ext4 file system of so many MiB in a file.
    ///
    /// # Errors
    /// This machine has no loop device left or no `mkfs.ext4`.
    pub fn ext4(mib: u64) -> Result<Self> {
        let mut disk = Self::new(Some("image"))?;
        let image = disk.image.clone().context("an image was asked for")?;
        fs::File::create(&image)?.set_len(mib << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        disk.mount()?;
        Ok(disk)
    }

    /// A file system of so many MiB in a file, which holds projects to their quotas: `xfs` or `ext4`.
    ///
    /// # Errors
    /// This machine has no loop device left, no tool to make it, or a kernel without such quotas.
    pub fn with_projects(kind: &str, mib: u64) -> Result<Self> {
        let mut disk = Self::new(Some("image"))?;
        let image = disk.image.clone().context("an image was asked for")?;
        fs::File::create(&image)?.set_len(mib << 20)?;
        let mut make = Command::new(format!("mkfs.{kind}"));
        match kind {
            "xfs" => make.arg("-q"),
            _ => make.args(["-q", "-F", "-O", "project,quota", "-E", "quotatype=prjquota"]),
        };
        run(make.arg(&image))?;
        disk.options = "loop,prjquota".to_owned();
        disk.mount()?;
        Ok(disk)
    }

    fn new(image: Option<&str>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("gtk-disk-").tempdir()?;
        fs::create_dir(dir.path().join("mnt"))?;
        let image = image.map(|name| dir.path().join(name));
        Ok(Self { dir, image, options: "loop".to_owned(), mounted: false })
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Mounts what was unmounted.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn mount(&mut self) -> Result<()> {
        let image = self.image.clone().context("mount a disk of memory again")?;
        run(Command::new("mount").args(["-o", &self.options]).arg(image).arg(self.root()))?;
        self.mounted = true;
        Ok(())
    }

    /// Takes its power away: what was not synced is lost, and nothing more reaches it.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn cut(&mut self) -> Result<()> {
        // FS_IOC_SHUTDOWN without a flush of the journal.
        let cut = "import fcntl,os,sys; fcntl.ioctl(os.open(sys.argv[1],os.O_RDONLY),0x8004587d,b'\\2\\0\\0\\0')";
        run(Command::new("python3").args(["-c", cut]).arg(self.root()))
    }

    /// Gives power back after [`Disk::cut`], when nobody uses the disk any more; checks the file system.
    ///
    /// # Errors
    /// Of the kernel, or when the file system is damaged.
    pub fn after_cut(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()?;
        self.unmount()?;
        let image = self.image.clone().context("cut a disk of memory")?;
        run(Command::new("e2fsck").args(["-f", "-n"]).arg(image)).context("after a power cut")?;
        self.mount()
    }

    /// Unmounts it; who uses it still keeps it.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn unmount(&mut self) -> Result<()> {
        run(Command::new("umount").arg("-l").arg(self.root()))?;
        self.mounted = false;
        Ok(())
    }

    /// Fills it but for so many KiB.
    ///
    /// # Errors
    /// Of the disk, other than being full.
    pub fn fill(&self, leave_kib: u64) -> Result<()> {
        let path = self.root().join(FILLER);
        let mut file = fs::File::options().create(true).append(true).open(&path)?;
        let block = vec![0x5a; 64 << 10];
        loop {
            match file.write(&block) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => break,
                Err(e) => return Err(e).context("fill the disk"),
            }
        }
        let full = file.metadata()?.len();
        file.set_len(full.saturating_sub(leave_kib << 10))?;
        Ok(())
    }

    /// Takes all inodes but so many.
    ///
    /// # Errors
    /// Of the disk, other than being full.
    pub fn use_inodes(&self, leave: usize) -> Result<()> {
        let dir = self.root().join(format!("{FILLER}.d"));
        fs::create_dir_all(&dir)?;
        let mut made = 0_usize;
        loop {
            match fs::File::create(dir.join(made.to_string())) {
                Ok(_) => made += 1,
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => break,
                Err(e) => return Err(e).context("take inodes"),
            }
        }
        for n in made.saturating_sub(leave)..made {
            fs::remove_file(dir.join(n.to_string()))?;
        }
        Ok(())
    }

    /// Gives space and inodes back.
    ///
    /// # Errors
    /// Of the disk.
    pub fn free(&self) -> Result<()> {
        for path in [self.root().join(FILLER), self.root().join(format!("{FILLER}.d"))] {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path)?,
                Ok(_) => fs::remove_file(&path)?,
                Err(_) => {}
            }
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            _ = self.unmount();
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Files and folders below `dir`, for what must be the same before and after; the filler does not count.
pub fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut queue = vec![dir.to_owned()];
    while let Some(next) = queue.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(FILLER) {
                continue;
            }
            let path = entry.path();
            found.push(path.strip_prefix(dir).unwrap_or(&path).display().to_string());
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                queue.push(path);
            }
        }
    }
    found.sort();
    found
}

//! Architectures: the kernel's audit numbers, their system call tables, and who may enter through whom.
//!
//! The tables are the kernel's `number name` lists (Linux 6.18), one file each in `syscalls/`.

use base::{Error, Result};
use std::collections::BTreeMap;

/// A system call entry of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, also through `int 0x80` from 64-bit code.
    I386,
    /// 64-bit x86 with 32-bit pointers: numbers with bit 30 set.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
}

/// The bit that tells x32 numbers from x86-64 ones.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// The architecture this program runs on.
    ///
    /// # Errors
    /// `NotImplemented` where we have no table.
    pub fn native() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => Err(Error::not_implemented(format!("seccomp is not supported on {other}"))),
        }
    }

    /// `AUDIT_ARCH_*`.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xC000_003E,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xC000_00B7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// All entries that a process on this architecture has.
    pub fn entries(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64, Self::I386, Self::X32],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::I386 => &[Self::I386],
            Self::X32 => &[Self::X32],
            Self::Arm => &[Self::Arm],
        }
    }

    /// Whether arguments are 64 bits wide.
    pub(super) fn wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::X32 | Self::Aarch64)
    }

    /// As profiles name it in conditions (Go's words).
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::I386 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// `SCMP_ARCH_X86_64`.
    pub(super) fn scmp_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::I386 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// From `SCMP_ARCH_X86_64`; `None` for machines that cannot be entered from here.
    pub(super) fn from_scmp(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X86" => Some(Self::I386),
            "SCMP_ARCH_X32" => Some(Self::X32),
            "SCMP_ARCH_AARCH64" => Some(Self::Aarch64),
            "SCMP_ARCH_ARM" => Some(Self::Arm),
            _ => None,
        }
    }

    /// Number and name of each system call.
    pub fn syscalls(self) -> impl Iterator<Item = (u32, &'static str)> {
        let table = match self {
            Self::X86_64 => include_str!("syscalls/x86_64"),
            Self::I386 => include_str!("syscalls/i386"),
            Self::X32 => include_str!("syscalls/x32"),
            Self::Aarch64 => include_str!("syscalls/aarch64"),
            Self::Arm => include_str!("syscalls/arm"),
        };
        let bit = if self == Self::X32 { X32_BIT } else { 0 };
        table.lines().filter_map(move |line| {
            let (number, name) = line.split_once(' ')?;
            Some((number.parse::<u32>().ok()? | bit, name))
        })
    }

    /// Numbers by name.
    pub(super) fn numbers(self) -> BTreeMap<&'static str, u32> {
        self.syscalls().map(|(number, name)| (name, number)).collect()
    }
}

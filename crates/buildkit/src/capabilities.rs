//! What this builder can do, as clients ask for it: capabilities of the gateway and of LLB, emulators.

use crate::proto::apicaps::ApiCap;

/// Capabilities of the gateway.
pub(crate) const GATEWAY: &[&str] = &[
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "return",
    "returnmap",
    "readdir",
    "statfile",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "gateway.solve.metadata",
    "frontend.caps",
    "gateway.exec",
    "gateway.exec.extrahosts",
    "gateway.exec.secretenv",
    "gateway.exec.signals",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.warnings",
    "attestations",
    "source.metaresolver",
];

/// Capabilities of LLB.
pub(crate) const LLB: &[&str] = &[
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.git.checksum",
    "source.http",
    "source.http.checksum",
    "source.http.perm",
    // The protocol's own spelling.
    "soruce.http.uidgid",
    "source.ocilayout",
    "source.buildop.llbfilename",
    "exec.meta.base",
    "exec.meta.cgroup.parent",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.meta.removemountstubs.recursive",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.cgroup",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.rm.wildcard",
    "file.copy.includeexcludepatterns",
    "file.rm.nofollowsymlink",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.modestring",
    "file.symlink.create",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "meta.exportcache",
    "mergeop",
    "diffop",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "exporter.multiple",
];

/// Emulators of qemu-user, with the architectures that they run.
pub(crate) const EMULATORS: &[(&str, &str, &str)] = &[
    ("qemu-x86_64", "amd64", ""),
    ("qemu-aarch64", "arm64", ""),
    ("qemu-arm", "arm", "v7"),
    ("qemu-riscv64", "riscv64", ""),
    ("qemu-ppc64le", "ppc64le", ""),
    ("qemu-s390x", "s390x", ""),
    ("qemu-i386", "386", ""),
];

/// Whether the kernel hands programs to this emulator.
pub(crate) fn emulates(name: &str) -> bool {
    let entry = std::path::Path::new("/proc/sys/fs/binfmt_misc").join(name);
    std::fs::read_to_string(entry).is_ok_and(|text| text.starts_with("enabled"))
}

/// Whether programs of this architecture run here.
pub(crate) fn runs(architecture: &str) -> bool {
    let host = base::Platform::host().architecture;
    architecture == host
        || (host == "amd64" && architecture == "386")
        || EMULATORS.iter().any(|(name, arch, _)| *arch == architecture && emulates(name))
}

/// Names as the protocol lists them.
pub(crate) fn list(names: &[&str]) -> Vec<ApiCap> {
    let cap = |name: &&str| ApiCap { id: (*name).to_owned(), enabled: true, ..ApiCap::default() };
    names.iter().map(cap).collect()
}

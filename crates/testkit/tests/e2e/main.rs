//! The docker CLI and raw HTTP against a daemon of its own: what people and programs see.
//!
//! One file per area, each with its list of cases. Validate expectations against a real dockerd with
//! `GANTRY_TEST_DAEMON=/usr/sbin/dockerd cargo test --workspace --test e2e`; where Gantry differs on
//! purpose the case asks `cx.is_gantry()` and says why.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]
#![allow(clippy::semicolon_if_nothing_returned, reason = "tables of closures are read as lists")]

mod apparmor;
mod attach_tty;
mod attach_ws;
mod attacks;
mod attacks_api;
mod attacks_bombs;
mod attacks_build;
mod attacks_layers;
mod attacks_network;
mod attacks_runtime;
mod attacks_users;
mod authorization;
mod bad_input;
mod build;
mod buildx;
mod cli_20_10;
mod clients;
mod clocks;
mod compose;
mod compose_python;
mod containers;
mod crash_points;
mod daemon;
mod daemon_settings;
mod disk_faults;
mod docker_manners;
mod exec;
mod fidelity;
mod files;
mod gantry_compose;
mod gantry_compose_work;
mod golden;
mod golden_versions;
mod health;
mod images;
mod isolation;
mod levels;
mod lifecycle;
mod limits;
mod links;
mod live_restore;
mod load;
mod log_drivers;
mod log_plugins;
mod logs;
mod managed_plugins;
mod metrics;
mod mounts;
mod names;
mod neighbours;
mod network_plugins;
mod network_ports;
mod networks;
mod networks_ipv6;
mod oci_runtime;
mod oci_runtime_podman;
mod oci_runtime_users;
mod pki;
mod pressure;
mod projects;
mod quotas;
mod races;
mod registry;
mod registry_faults;
mod run_options;
mod runtimes;
mod sdk_docker_py;
mod sdk_testcontainers;
mod security;
mod selinux;
mod stats;
mod userns;
mod volume_plugins;
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    testkit::suite::run(&[
        daemon::CASES,
        images::CASES,
        build::CASES,
        buildx::CASES,
        buildx::attest::CASES,
        buildx::cache::CASES,
        buildx::checks::CASES,
        buildx::collect::CASES,
        buildx::contexts::CASES,
        buildx::endpoint::CASES,
        buildx::explain::CASES,
        buildx::frontends::CASES,
        buildx::history::CASES,
        buildx::mounts::CASES,
        buildx::outputs::CASES,
        buildx::own::CASES,
        buildx::platforms::CASES,
        registry::CASES,
        registry_faults::CASES,
        containers::CASES,
        run_options::CASES,
        logs::CASES,
        log_drivers::CASES,
        log_plugins::CASES,
        exec::CASES,
        apparmor::CASES,
        selinux::CASES,
        attach_tty::CASES,
        attach_ws::CASES,
        files::CASES,
        fidelity::CASES,
        stats::CASES,
        health::CASES,
        mounts::CASES,
        limits::CASES,
        levels::CASES,
        lifecycle::CASES,
        volumes::CASES,
        volume_plugins::CASES,
        managed_plugins::CASES,
        network_plugins::CASES,
        network_ports::CASES,
        networks::CASES,
        networks_ipv6::CASES,
        links::CASES,
        names::CASES,
        live_restore::CASES,
        runtimes::CASES,
        oci_runtime::CASES,
        oci_runtime_podman::CASES,
        oci_runtime_users::CASES,
        bad_input::CASES,
        isolation::CASES,
        attacks::CASES,
        attacks_runtime::CASES,
        attacks_users::CASES,
        attacks_layers::CASES,
        attacks_bombs::CASES,
        attacks_build::CASES,
        attacks_api::CASES,
        attacks_network::CASES,
        quotas::CASES,
        races::CASES,
        crash_points::CASES,
        disk_faults::CASES,
        load::CASES,
        pressure::CASES,
        clocks::CASES,
        cli_20_10::CASES,
        compose::CASES,
        compose_python::CASES,
        gantry_compose::CASES,
        gantry_compose_work::CASES,
        projects::CASES,
        sdk_docker_py::CASES,
        sdk_testcontainers::CASES,
        clients::CASES,
        docker_manners::CASES,
        neighbours::CASES,
        security::CASES,
        userns::CASES,
        authorization::CASES,
        daemon_settings::CASES,
        metrics::CASES,
        golden::CASES,
        golden_versions::CASES,
    ])
}

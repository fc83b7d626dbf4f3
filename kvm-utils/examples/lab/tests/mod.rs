//! The tests, one file per subject.

/// Tests of the tracer: each is run with raw and with classic tracepoints, as `NAME-raw` and `NAME-tracepoint`.
macro_rules! tracer_tests {
    ($($name:literal, $timeout_s:literal, $run:ident;)*) => {
        pub const RAW: &[crate::registry::Test] = &[$(crate::registry::Test {
            name: concat!($name, "-raw"),
            needs_idle_kvm: false,
            timeout_s: $timeout_s,
            run: |context| crate::tracer::test(context, crate::tracer::Source::Raw, $run),
        }),*];
        pub const CLASSIC: &[crate::registry::Test] = &[$(crate::registry::Test {
            name: concat!($name, "-tracepoint"),
            needs_idle_kvm: false,
            timeout_s: $timeout_s,
            run: |context| crate::tracer::test(context, crate::tracer::Source::Classic, $run),
        }),*];
    };
}

mod compare;
mod drilldown_cpuid;
mod drilldown_fault;
mod drilldown_halt;
mod drilldown_hypercall;
mod drilldown_io;
mod drilldown_irq;
mod drilldown_msr;
mod drilldown_rip;
mod drilldown_time;
mod exit_events;
mod exits_recorded;
mod export;
mod guest;
mod host_bench;
mod host_bench_targets;
mod kvm_bench;
mod placement;
mod reach;
mod recipes;
mod recording;
mod robustness;
mod top;
mod tracer_attach;
mod tracer_counts;
mod tracer_filters;
mod tracer_host;
mod tracer_lifetime;
mod tracer_linux;
mod tracer_migration;
mod two_vms;

pub use reach::Extent;

use crate::{registry::Test, tracer::has_module_btf};

/// Every test that this kernel and machine allow, in the order in which they are run.
pub fn all() -> impl Iterator<Item = &'static Test> {
    let mut groups = vec![guest::TESTS, two_vms::TESTS, placement::TESTS, robustness::TESTS];
    let mut tracer = vec![
        (tracer_counts::RAW, tracer_counts::CLASSIC),
        (tracer_lifetime::RAW, tracer_lifetime::CLASSIC),
        (tracer_filters::RAW, tracer_filters::CLASSIC),
        (tracer_attach::RAW, tracer_attach::CLASSIC),
        (tracer_linux::RAW, tracer_linux::CLASSIC),
        (tracer_host::RAW, tracer_host::CLASSIC),
        (drilldown_io::RAW, drilldown_io::CLASSIC),
        (drilldown_msr::RAW, drilldown_msr::CLASSIC),
        (drilldown_cpuid::RAW, drilldown_cpuid::CLASSIC),
        (drilldown_hypercall::RAW, drilldown_hypercall::CLASSIC),
        (drilldown_fault::RAW, drilldown_fault::CLASSIC),
        (drilldown_rip::RAW, drilldown_rip::CLASSIC),
        (drilldown_time::RAW, drilldown_time::CLASSIC),
        (drilldown_halt::RAW, drilldown_halt::CLASSIC),
        (drilldown_irq::RAW, drilldown_irq::CLASSIC),
        (recording::RAW, recording::CLASSIC),
        (exit_events::RAW, exit_events::CLASSIC),
        (export::RAW, export::CLASSIC),
        (exits_recorded::RAW, exits_recorded::CLASSIC),
        (host_bench::RAW, host_bench::CLASSIC),
        (kvm_bench::RAW, kvm_bench::CLASSIC),
        (compare::RAW, compare::CLASSIC),
        (tracer_host::RELOAD_RAW, tracer_host::RELOAD_CLASSIC),
    ];
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() >= 2) {
        groups.push(placement::TWO_CPUS);
        groups.extend([kvm_bench::TWO_CPUS, host_bench::TWO_CPUS]);
        tracer.push((tracer_migration::RAW, tracer_migration::CLASSIC));
        tracer.push((host_bench_targets::RAW, host_bench_targets::CLASSIC));
    }
    if drilldown_irq::has_devices() {
        tracer.push((drilldown_irq::DEVICES_RAW, drilldown_irq::DEVICES_CLASSIC));
    }
    let raw = has_module_btf();
    for (with_raw, classic) in tracer {
        if raw {
            groups.push(with_raw);
        }
        groups.push(classic);
    }
    groups.push(drilldown_time::AUTO);
    groups.push(export::TESTS);
    if raw {
        groups.push(drilldown_msr::PATHS);
    }
    groups.push(compare::TESTS);
    groups.push(recipes::TESTS);
    groups.push(tracer_linux::NAMES);
    groups.push(recording::TESTS);
    groups.push(top::TESTS);
    groups.push(host_bench::TESTS);
    groups.into_iter().flatten()
}

/// Those of [`all`] that are within this extent.
pub fn within(extent: Extent) -> impl Iterator<Item = &'static Test> {
    let raw = has_module_btf();
    all().filter(move |test| extent.has(test, raw))
}

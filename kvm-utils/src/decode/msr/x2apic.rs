//! The local APIC's registers in x2APIC mode, from 0x800: the offset in the xAPIC's page, shifted right by four.
//!
//! Intel SDM vol. 3, "Local APIC Register Address Map Supported by x2APIC". From 0x840, AMD's extended ones: APM vol. 2,
//! "x2APIC Register Address Space".

use x86::msr;

use super::{Run, Set, row, run};

pub(super) const SET: Set = Set {
    registers: &[
        row(msr::IA32_X2APIC_APICID, "x2APIC_ID"),
        row(msr::IA32_X2APIC_VERSION, "x2APIC_VERSION"),
        row(msr::IA32_X2APIC_TPR, "x2APIC_TPR"),
        row(msr::IA32_X2APIC_PPR, "x2APIC_PPR"),
        row(msr::IA32_X2APIC_EOI, "x2APIC_EOI"),
        row(msr::IA32_X2APIC_LDR, "x2APIC_LDR"),
        row(msr::IA32_X2APIC_SIVR, "x2APIC_SVR"),
        row(msr::IA32_X2APIC_ESR, "x2APIC_ESR"),
        row(msr::IA32_X2APIC_LVT_CMCI, "x2APIC_LVT_CMCI"),
        row(msr::IA32_X2APIC_ICR, "x2APIC_ICR"),
        row(msr::IA32_X2APIC_LVT_TIMER, "x2APIC_LVT_TIMER"),
        row(msr::IA32_X2APIC_LVT_THERMAL, "x2APIC_LVT_THERMAL"),
        row(msr::IA32_X2APIC_LVT_PMI, "x2APIC_LVT_PMI"),
        row(msr::IA32_X2APIC_LVT_LINT0, "x2APIC_LVT_LINT0"),
        row(msr::IA32_X2APIC_LVT_LINT1, "x2APIC_LVT_LINT1"),
        row(msr::IA32_X2APIC_LVT_ERROR, "x2APIC_LVT_ERROR"),
        row(msr::IA32_X2APIC_INIT_COUNT, "x2APIC_INIT_COUNT"),
        row(msr::IA32_X2APIC_CUR_COUNT, "x2APIC_CUR_COUNT"),
        row(msr::IA32_X2APIC_DIV_CONF, "x2APIC_DIV_CONF"),
        row(msr::IA32_X2APIC_SELF_IPI, "x2APIC_SELF_IPI"),
        row(0x840, "x2APIC_EXT_FEATURE"),
        row(0x841, "x2APIC_EXT_CTRL"),
        row(0x842, "x2APIC_SEOI"),
    ],
    runs: RUNS,
};

const RUNS: &[Run] = &[
    run(msr::IA32_X2APIC_ISR0, 1, 8, "x2APIC_ISR", ""),
    run(msr::IA32_X2APIC_TMR0, 1, 8, "x2APIC_TMR", ""),
    run(msr::IA32_X2APIC_IRR0, 1, 8, "x2APIC_IRR", ""),
    run(0x848, 1, 8, "x2APIC_IER", ""),
    run(0x850, 1, 4, "x2APIC_EXT_LVT", ""),
];

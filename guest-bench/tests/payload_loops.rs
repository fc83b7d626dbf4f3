//! Disassembles the guest and checks that each counted loop contains the instruction meant, once, and no other that
//! can trap. Counting tests on real kernels rest on this.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::process::Command;

use kvm_bench::payload;
use kvm_bench::protocol::Op;

const ELF: &str = concat!(env!("OUT_DIR"), "/payload.elf");

/// Instructions that exit, or may, under some KVM configuration. Moves to and from memory are not among them: only
/// the operands of `mmio_*` and `touch` point outside warm memory.
const TRAPPING: &[&str] = &[
    "cpuid", "in", "out", "ins", "outs", "rdmsr", "wrmsr", "vmcall", "vmmcall", "hlt", "wbinvd", "wbnoinvd",
    "invd", "xsetbv", "ud2", "rdpmc", "rdtscp", "pause", "monitor", "mwait", "invlpg", "int3", "int", "lgdt",
    "lidt", "sgdt", "sidt", "lldt", "ltr", "str", "sldt", "smsw", "lmsw", "clts", "rdrand", "rdseed",
    "invpcid", "rsm", "iretq",
];

/// Each function of the guest with its instructions as (mnemonic, operands).
fn functions() -> BTreeMap<String, Vec<(String, String)>> {
    let output = Command::new("objdump")
        .args(["--disassemble", "--disassembler-options=intel", "--no-show-raw-insn", "--wide", ELF])
        .output()
        .expect("objdump is needed for this test: install binutils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut functions = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(symbol) = line.strip_suffix(">:").and_then(|line| line.split_once('<')) {
            name = symbol.1.to_owned();
        } else if let Some((_, instruction)) = line.split_once(":\t") {
            let instruction = instruction.trim();
            let (mnemonic, operands) =
                instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
            let entry: &mut Vec<_> = functions.entry(name.clone()).or_default();
            entry.push((mnemonic.to_owned(), operands.trim().to_owned()));
        }
    }
    functions
}

fn traps((mnemonic, operands): &(String, String)) -> bool {
    let special = |register: &str| matches!(register.trim().get(..2), Some("cr" | "dr"));
    let mnemonic = if mnemonic == "rep" { operands.split(' ').next().unwrap_or_default() } else { mnemonic };
    TRAPPING.contains(&mnemonic) || (mnemonic == "mov" && operands.split(',').any(special))
}

/// The traps in one pass of the loop, in order; for memory accesses the access itself.
fn expected(op: Op) -> (&'static str, &'static [&'static str]) {
    match op {
        Op::Cpuid => ("op_cpuid", &["cpuid"]),
        Op::PortIn => ("op_port_in", &["in al,dx"]),
        Op::PortOut => ("op_port_out", &["out dx,al"]),
        Op::MmioRead => ("op_mmio_read", &[]),
        Op::MmioWrite => ("op_mmio_write", &[]),
        Op::Rdmsr => ("op_rdmsr", &["rdmsr"]),
        Op::Wrmsr => ("op_wrmsr", &["wrmsr"]),
        Op::Vmcall => ("op_vmcall", &["vmcall"]),
        Op::Vmmcall => ("op_vmmcall", &["vmmcall"]),
        Op::HltTimer => ("op_hlt_timer", &["wrmsr", "hlt"]),
        Op::HltMessage => ("op_hlt_message", &["hlt"]),
        Op::Touch => ("op_touch", &[]),
        Op::Cr0Write => ("op_cr0_write", &["mov cr0,rax"]),
        Op::Cr4Write => ("op_cr4_write", &["mov cr4,rax"]),
        Op::Cr4Read => ("op_cr4_read", &["mov rax,cr4"]),
        Op::Dr7Read => ("op_dr7_read", &["mov r12,dr7", "cpuid"]),
        Op::Wbinvd => ("op_wbinvd", &["wbinvd"]),
        Op::Invd => ("op_invd", &["invd"]),
        Op::Xsetbv => ("op_xsetbv", &["xsetbv"]),
        Op::Ud2 => ("op_ud2", &["ud2"]),
        Op::SpinCpuid => ("op_spin_cpuid", &["cpuid"]),
        Op::SpinQuiet => ("op_spin_quiet", &[]),
        Op::SendIpi => ("op_send_ipi", &["wrmsr"]),
        Op::AwaitInterrupts => ("op_await_interrupts", &[]),
        Op::PortInString => ("op_port_in_string", &["rep ins BYTE PTR es:[rdi],dx"]),
        Op::PortOutString => ("op_port_out_string", &["rep outs dx,BYTE PTR ds:[rsi]"]),
    }
}

#[test]
fn every_loop_holds_its_instruction_and_no_other_that_traps() {
    let functions = functions();
    for op in Op::ALL {
        let (name, wanted) = expected(op);
        let body = functions.get(name).unwrap_or_else(|| panic!("the guest has no {name}"));
        let found: Vec<String> = body
            .iter()
            // behind it is only the linker's padding
            .take_while(|(mnemonic, _)| mnemonic != "ret")
            .filter(|instruction| traps(instruction))
            .map(|(mnemonic, operands)| format!("{mnemonic} {operands}").trim().to_owned())
            .collect();
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn memory_loops_access_their_operand_once() {
    let functions = functions();
    for (name, access) in [
        ("op_mmio_read", "mov eax,DWORD PTR [r10]"),
        ("op_mmio_write", "mov DWORD PTR [r10],eax"),
        ("op_touch", "mov BYTE PTR [r10],0x1"),
    ] {
        let body = &functions[name];
        let found: Vec<String> = body
            .iter()
            .map(|(mnemonic, operands)| format!("{mnemonic} {operands}"))
            .filter(|text| text.contains("[r10"))
            .collect();
        assert_eq!(found, [access], "{name}");
    }
}

/// KVM flavours that run CPL 0 in their instruction emulator do not know SSE.
#[test]
fn the_guest_uses_no_vector_registers() {
    for (name, body) in functions() {
        assert!(!body.iter().any(|(_, operands)| operands.contains("xmm")), "{name}");
    }
}

#[test]
fn image_starts_where_it_is_entered() {
    assert_eq!(payload::ENTRY, payload::LOAD_ADDRESS);
    assert!(payload::IMAGE.len() as u64 <= payload::MEMORY_SIZE);
    // `xor ebp, ebp`, the first instruction of _start
    assert_eq!(&payload::IMAGE[..2], [0x31, 0xed]);
}

#[test]
fn operation_numbers_round_trip() {
    for op in Op::ALL {
        assert_eq!(Op::from_number(op as u32), Some(op));
    }
    assert_eq!(Op::from_number(0), None);
    assert_eq!(Op::from_number(Op::ALL.len() as u32 + 1), None);
}

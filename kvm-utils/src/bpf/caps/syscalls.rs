//! bpf(2) and perf_event_open(2), as far as they are needed to ask what the kernel allows.
//!
//! Structures are the beginnings of those in include/uapi/linux/{bpf,perf_event}.h; the kernel takes a shorter one as
//! if the rest were zero.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

/// errno.
pub(super) type Errno = i32;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// BPF_F_MMAPABLE.
pub(super) const MAPPABLE: u32 = 1 << 10;

/// enum bpf_prog_type.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum ProgramType {
    Kprobe = 2,
    Tracepoint = 5,
    RawTracepoint = 17,
}

/// struct bpf_insn.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | (source << 4), offset, immediate }
}

/// Opcodes, Documentation/bpf/standardization/instruction-set.rst.
const MOV_IMM: u8 = 0xb7;
const MOV_REG: u8 = 0xbf;
const ADD_IMM: u8 = 0x07;
const STORE_IMM_32: u8 = 0x62;
const ATOMIC_64: u8 = 0xdb;
const LOAD_IMM_64: u8 = 0x18;
const JUMP_IF_ZERO: u8 = 0x15;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// src_reg of a LOAD_IMM_64 whose immediate is a map's descriptor.
const PSEUDO_MAP_FD: u8 = 1;
/// Helpers, enum bpf_func_id.
const MAP_LOOKUP_ELEM: i32 = 1;
const PROBE_READ_KERNEL: i32 = 113;

/// Returns 0.
pub(super) fn nothing() -> Vec<Instruction> {
    vec![instruction(MOV_IMM, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]
}

/// Calls bpf_probe_read_kernel on address 0, which fails harmlessly, and returns 0.
pub(super) fn read_kernel() -> Vec<Instruction> {
    let mut program = vec![
        instruction(MOV_REG, 1, 10, 0, 0),
        instruction(ADD_IMM, 1, 0, 0, -8),
        instruction(MOV_IMM, 2, 0, 0, 8),
        instruction(MOV_IMM, 3, 0, 0, 0),
        instruction(CALL, 0, 0, 0, PROBE_READ_KERNEL),
    ];
    program.extend(nothing());
    program
}

/// Adds 1 to the first element of the array `map` of u64.
pub(super) fn count_in(map: &OwnedFd) -> Vec<Instruction> {
    let mut program = vec![
        instruction(STORE_IMM_32, 10, 0, -4, 0),
        instruction(MOV_REG, 2, 10, 0, 0),
        instruction(ADD_IMM, 2, 0, 0, -4),
        instruction(LOAD_IMM_64, 1, PSEUDO_MAP_FD, 0, map.as_raw_fd()),
        instruction(0, 0, 0, 0, 0),
        instruction(CALL, 0, 0, 0, MAP_LOOKUP_ELEM),
        instruction(JUMP_IF_ZERO, 0, 0, 2, 0),
        instruction(MOV_IMM, 1, 0, 0, 1),
        instruction(ATOMIC_64, 0, 1, 0, 0),
    ];
    program.extend(nothing());
    program
}

fn errno() -> Errno {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}

/// # Safety
/// `attribute` must be laid out as `command` expects, and each address in it must be valid for what it is used for.
unsafe fn bpf<T>(command: libc::c_long, attribute: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: the attribute lives through the call and its true size is told; the rest is the caller's promise.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) } {
        -1 => Err(errno()),
        result => Ok(result),
    }
}

fn own(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(fd).map_err(|_| libc::EBADF)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an array of `entries` elements of `value_size` bytes.
pub(super) fn create_array(value_size: u32, entries: u32, flags: u32) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Attribute {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }
    let mut attribute = Attribute {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries: entries,
        map_flags: flags,
    };
    // SAFETY: the structure is the beginning of BPF_MAP_CREATE's and holds no address.
    own(unsafe { bpf(BPF_MAP_CREATE, &mut attribute) }?)
}

/// The first element of an array of u64.
pub(super) fn first_element(map: &OwnedFd) -> Result<u64, Errno> {
    #[repr(C)]
    struct Attribute {
        map_fd: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let key = 0u32;
    let mut value = 0u64;
    let mut attribute = Attribute {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const key).expose_provenance() as u64,
        value: (&raw mut value).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: key and value have the sizes the map was made with, and live through the call.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attribute) }?;
    // SAFETY: a plain local; volatile because the compiler does not know that the call wrote it.
    Ok(unsafe { (&raw const value).read_volatile() })
}

/// Loads a program.
pub(super) fn load(kind: ProgramType, instructions: &[Instruction]) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Attribute {
        kind: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    // bpf_probe_read_kernel is for programs under a licence that is compatible with the GPL.
    let license = c"Dual MIT/GPL";
    let mut attribute = Attribute {
        kind: kind as u32,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| libc::E2BIG)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: instructions (with their true count) and licence live through the call; the kernel only reads them.
    own(unsafe { bpf(BPF_PROG_LOAD, &mut attribute) }?)
}

/// Attaches a program to a raw tracepoint until the descriptor is dropped.
pub(super) fn attach_raw(tracepoint: &CStr, program: &OwnedFd) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Attribute {
        name: u64,
        program: u32,
        padding: u32,
    }
    let mut attribute = Attribute {
        name: tracepoint.as_ptr().expose_provenance() as u64,
        program: program.as_raw_fd().cast_unsigned(),
        padding: 0,
    };
    // SAFETY: the name is a C string that lives through the call; the kernel only reads it.
    own(unsafe { bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attribute) }?)
}

/// struct perf_event_attr, up to PERF_ATTR_SIZE_VER1.
#[repr(C)]
#[derive(Default)]
struct PerfAttribute {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
    config2: u64,
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// The `disabled` bit.
const DISABLED: u64 = 1;
/// _IOW('$', 8, __u32).
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

fn perf_event_open(mut attribute: PerfAttribute) -> Result<OwnedFd, Errno> {
    attribute.size = size_of::<PerfAttribute>() as u32;
    attribute.flags = DISABLED;
    let (any_process, cpu, group) = (-1 as libc::pid_t, 0 as libc::c_int, -1 as libc::c_int);
    // SAFETY: the attribute lives through the call and tells its true size; addresses in it are the callers' and live
    // as long.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut attribute,
            any_process,
            cpu,
            group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd == -1 { Err(errno()) } else { own(fd) }
}

/// Attaches a program to the classic tracepoint of this id, without switching it on, until the descriptor is dropped.
pub(super) fn attach_tracepoint(id: u64, program: &OwnedFd) -> Result<OwnedFd, Errno> {
    let event =
        perf_event_open(PerfAttribute { kind: PERF_TYPE_TRACEPOINT, config: id, ..Default::default() })?;
    set_program(event, program)
}

/// Attaches a program to a kprobe at the start of `function`, without switching it on, until the descriptor is dropped.
/// `pmu` is the number in /sys/bus/event_source/devices/kprobe/type.
pub(super) fn attach_kprobe(pmu: u32, function: &CStr, program: &OwnedFd) -> Result<OwnedFd, Errno> {
    let event = perf_event_open(PerfAttribute {
        kind: pmu,
        config1: function.as_ptr().expose_provenance() as u64,
        ..Default::default()
    })?;
    set_program(event, program)
}

fn set_program(event: OwnedFd, program: &OwnedFd) -> Result<OwnedFd, Errno> {
    // SAFETY: this request takes a descriptor by value.
    let result =
        unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_fd().as_raw_fd()) };
    if result == -1 { Err(errno()) } else { Ok(event) }
}

/// _IO(KVMIO, 0x00).
const KVM_GET_API_VERSION: libc::c_ulong = 0xAE00;

/// The version of KVM's interface, which is 12 (Documentation/virt/kvm/api.rst).
pub(super) fn kvm_api_version(device: impl AsFd) -> Result<i32, Errno> {
    // SAFETY: this request takes no argument.
    match unsafe { libc::ioctl(device.as_fd().as_raw_fd(), KVM_GET_API_VERSION, 0) } {
        -1 => Err(errno()),
        version => Ok(version),
    }
}

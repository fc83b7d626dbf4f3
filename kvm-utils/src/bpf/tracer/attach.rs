//! Attaching the programs to their places.

use aya::{
    Ebpf,
    programs::{KProbe, RawTracePoint, TracePoint},
};

use super::TracerError;
use crate::bpf::{
    cause::cause,
    event::{Event, How},
    hook::Function,
    object::{VCPU_DESTROY_SYMBOL, VCPU_RUN_SYMBOL, program},
};

pub(super) fn attach_raw(
    ebpf: &mut Ebpf,
    name: &'static str,
    target: &'static str,
) -> Result<(), TracerError> {
    let program: &mut RawTracePoint = get(ebpf, name)?;
    program.load().map_err(|e| TracerError::Program { program: name, source: Box::new(e) })?;
    program.attach(target).map_err(|e| TracerError::Attach { target, source: Box::new(e) })?;
    Ok(())
}

pub(super) fn attach_tracepoint(
    ebpf: &mut Ebpf,
    name: &'static str,
    group: &str,
    target: &'static str,
) -> Result<(), TracerError> {
    let program: &mut TracePoint = get(ebpf, name)?;
    program.load().map_err(|e| TracerError::Program { program: name, source: Box::new(e) })?;
    program.attach(group, target).map_err(|e| TracerError::Attach { target, source: Box::new(e) })?;
    Ok(())
}

pub(super) fn attach_event(ebpf: &mut Ebpf, event: &'static Event, how: How) -> Result<(), TracerError> {
    let [raw, classic] = event.programs;
    match how {
        How::Raw => attach_raw(ebpf, raw, event.name),
        How::Classic => attach_tracepoint(ebpf, classic, event.group(), event.name),
    }
}

pub(super) fn attach_entry(ebpf: &mut Ebpf, raw: bool) -> Result<(), TracerError> {
    if raw {
        attach_raw(ebpf, program::KVM_ENTRY_RAW, "kvm_entry")
    } else {
        attach_tracepoint(ebpf, program::KVM_ENTRY_TP, "kvm", "kvm_entry")
    }
}

/// Attaches to the first of the function's names that this kernel has.
pub(super) fn attach_function(ebpf: &mut Ebpf, function: &'static Function) -> Result<(), TracerError> {
    let [name] = function.programs;
    let program: &mut KProbe = get(ebpf, name)?;
    program.load().map_err(|e| TracerError::Program { program: name, source: Box::new(e) })?;
    let mut refused = None;
    for symbol in function.symbols {
        match program.attach(symbol, 0) {
            Ok(_) => return Ok(()),
            Err(e) => refused = Some((*symbol, e)),
        }
    }
    let (target, source) = refused.ok_or(TracerError::Object(name))?;
    Err(TracerError::Attach { target, source: Box::new(source) })
}

pub(super) fn attach_destroy(ebpf: &mut Ebpf) -> Result<(), TracerError> {
    let name = program::VCPU_DESTROY;
    let program: &mut KProbe = get(ebpf, name)?;
    program.load().map_err(|e| TracerError::Program { program: name, source: Box::new(e) })?;
    program.attach(VCPU_DESTROY_SYMBOL, 0).map_err(|e| TracerError::NoDestroyHook(Box::new(e)))?;
    Ok(())
}

/// Attaches where `KVM_RUN` begins; where that cannot be, gives the sentence that says what is lacking.
pub(super) fn attach_run(ebpf: &mut Ebpf) -> Result<Option<String>, TracerError> {
    let program: &mut KProbe = get(ebpf, program::VCPU_RUN)?;
    let attached = program.load().and_then(|()| program.attach(VCPU_RUN_SYMBOL, 0));
    Ok(attached.err().map(|error| {
        format!(
            "this kernel does not tell when KVM_RUN begins (no kprobe on {VCPU_RUN_SYMBOL}: {}): time from there to the \
             entry into the guest is the VMM's here, and a vCPU that halts again after a signal counts as blocked \
             elsewhere",
            cause(&error)
        )
    }))
}

fn get<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, TracerError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    ebpf.program_mut(name).and_then(|p| p.try_into().ok()).ok_or(TracerError::Object(name))
}

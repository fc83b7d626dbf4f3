//! What programs on the raw tracepoints `kvm_exit` and `kvm_entry` need: which argument is what, and where in the
//! vCPU's structs the rest lies.

use super::LayoutError;
use super::btf::{Btf, BtfError, Member, Param, TypeId, Value};
use super::error::Argument;
use super::files::{BtfFiles, Module};
use crate::decode::Isa;

/// Positions among the arguments of the raw tracepoint `kvm_exit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitArgs {
    /// `struct kvm_vcpu *`.
    pub vcpu: u32,
    /// The instruction set, 4 bytes; see [`Isa`].
    pub isa: u32,
    /// The exit reason, 4 bytes, where it is passed by value (up to 5.15).
    pub reason: Option<u32>,
}

/// Byte offsets within `struct kvm_vcpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuLayout {
    /// `struct kvm *kvm`: tells VMs apart.
    pub kvm: u32,
    /// `int vcpu_id`, 4 bytes.
    pub vcpu_id: u32,
    /// `int vcpu_idx`, 4 bytes, where the kernel has it: the vCPU's place in the order of creation.
    pub vcpu_idx: Option<u32>,
    /// `u64 stat.exits`, KVM's own count of the vCPU's exits, where the kernel has it.
    pub stat_exits: Option<u32>,
}

/// Where the exit reason is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonAt {
    /// An argument of the tracepoint.
    Argument(u32),
    /// VMX: a `u32` that many bytes after the start of the `struct kvm_vcpu`, which is the first part of the vendor's
    /// vCPU.
    InVcpu {
        /// Bytes from the `struct kvm_vcpu`.
        offset: u32,
    },
    /// SVM: in the VMCB to which the vendor's vCPU points.
    InVmcb {
        /// Bytes from the `struct kvm_vcpu` to the pointer to the VMCB.
        vmcb: u32,
        /// Bytes from the start of the VMCB to the exit code.
        exit_code: u32,
        /// Bytes of the exit code, 4 or 8 (from 7.0). The event reports the low 4, which come first.
        size: u32,
    },
}

/// Everything that raw tracepoint programs must be told about this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitLayout {
    /// Arguments of `kvm_exit`.
    pub exit: ExitArgs,
    /// Position of the `struct kvm_vcpu *` among the arguments of `kvm_entry`; none where it gets only the vCPU's
    /// number (up to 5.4).
    pub entry_vcpu: Option<u32>,
    /// The vCPU.
    pub vcpu: VcpuLayout,
    /// Where Intel's reason is, or why that is not known (usually: kvm_intel is not loaded).
    pub vmx: Result<ReasonAt, LayoutError>,
    /// Where AMD's reason is, or why that is not known (usually: kvm_amd is not loaded).
    pub svm: Result<ReasonAt, LayoutError>,
}

impl ExitLayout {
    /// Finds it all in the BTF of a kernel and its modules.
    ///
    /// # Errors
    /// [`LayoutError`] that names the file, struct or member that is missing. A missing vendor is an error only if the
    /// other one is missing as well.
    pub fn find(files: &BtfFiles) -> Result<Self, LayoutError> {
        let layout = Self::without_reasons(files)?;
        if let (Err(vmx), Err(svm)) = (&layout.vmx, &layout.svm) {
            return Err(LayoutError::NoVendor { vmx: Box::new(vmx.clone()), svm: Box::new(svm.clone()) });
        }
        Ok(layout)
    }

    /// As [`Self::find`], for programs that ask for no reasons: both vendors may be missing.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn without_reasons(files: &BtfFiles) -> Result<Self, LayoutError> {
        let base = files.base()?;
        let kvm = Module::new("kvm", &base, files.kvm.as_ref())?;

        let exit = arguments(&kvm, "kvm_exit", "btf_trace_kvm_exit")?;
        let entry = arguments(&kvm, "kvm_entry", "btf_trace_kvm_entry")?;
        let (exit_args, vcpu_type) = exit_args(&exit)?;
        let entry_vcpu = entry.iter().position(Parameter::is_vcpu).map(index);
        let vcpu = vcpu_layout(&kvm, vcpu_type)?;

        let reason =
            |name, bytes, find: fn(&Module<'_>) -> Result<ReasonAt, LayoutError>| match exit_args.reason {
                Some(argument) => Ok(ReasonAt::Argument(argument)),
                None => Module::new(name, &base, bytes).and_then(|module| find(&module)),
            };
        let vmx = reason("kvm_intel", files.kvm_intel.as_ref(), vmx_reason);
        let svm = reason("kvm_amd", files.kvm_amd.as_ref(), svm_reason);
        Ok(Self { exit: exit_args, entry_vcpu, vcpu, vmx, svm })
    }

    /// Where the reason of an exit of that instruction set is; none for one that is neither Intel's nor AMD's, unless the
    /// reason is an argument.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn reason(&self, isa: Isa) -> Option<Result<ReasonAt, &LayoutError>> {
        match (isa, self.exit.reason) {
            (_, Some(argument)) => Some(Ok(ReasonAt::Argument(argument))),
            (Isa::Vmx, None) => Some(self.vmx.as_ref().copied()),
            (Isa::Svm, None) => Some(self.svm.as_ref().copied()),
            (Isa::Other(_), None) => None,
        }
    }
}

/// An argument of a raw tracepoint.
struct Parameter<'a> {
    name: &'a str,
    value: Value<'a>,
}

impl Parameter<'_> {
    fn is_vcpu(&self) -> bool {
        matches!(self.value, Value::Pointer { to: "kvm_vcpu", .. })
    }

    fn is_u32(&self) -> bool {
        self.value == Value::Integer { size: 4 }
    }

    fn described(&self) -> Argument {
        match self.value {
            Value::Pointer { to, .. } => Argument::Pointer(to.into()),
            Value::Integer { size } => Argument::Integer(size),
            Value::Other => Argument::Other,
        }
    }
}

/// Arguments of a tracepoint as a raw program gets them: without the `void *__data` of its typedef.
fn arguments<'a>(
    kvm: &Module<'a>,
    event: &'static str,
    typedef: &str,
) -> Result<Vec<Parameter<'a>>, LayoutError> {
    let missing = |source| LayoutError::NoPrototype { event, files: kvm.described(), source };
    let btf = kvm.btf();
    let parameter = |param: &Param<'a>| Ok(Parameter { name: param.name, value: btf.value(param.ty)? });
    let all: Vec<_> = btf
        .func_proto_of_typedef(typedef)
        .and_then(|params| params.iter().map(parameter).collect())
        .map_err(missing)?;
    let mut all = all.into_iter();
    match all.next() {
        Some(Parameter { value: Value::Pointer { to: "void", .. }, .. }) => Ok(all.collect()),
        first => Err(LayoutError::UnknownPrototype {
            event,
            arguments: first.into_iter().chain(all).map(|parameter| parameter.described()).collect(),
        }),
    }
}

/// Bytes of each argument of a raw tracepoint; 0 for what is neither a pointer nor an integer.
pub(super) fn argument_sizes(kvm: &Module<'_>, event: &'static str) -> Result<Vec<u32>, LayoutError> {
    let all = arguments(kvm, event, &format!("btf_trace_{event}"))?;
    let size = |parameter: &Parameter<'_>| match parameter.value {
        Value::Pointer { .. } => 8,
        Value::Integer { size } => size,
        Value::Other => 0,
    };
    Ok(all.iter().map(size).collect())
}

/// Which argument of `kvm_exit` is which. They usually have no names, so their types and order decide: (vcpu, isa), or
/// (reason, vcpu, isa).
fn exit_args(args: &[Parameter<'_>]) -> Result<(ExitArgs, TypeId), LayoutError> {
    let unknown = || LayoutError::UnknownPrototype {
        event: "kvm_exit",
        arguments: args.iter().map(Parameter::described).collect(),
    };
    let vcpu = args.iter().position(Parameter::is_vcpu).ok_or_else(unknown)?;
    let Some(Parameter { value: Value::Pointer { id, .. }, .. }) = args.get(vcpu) else {
        return Err(unknown());
    };
    let named = |names: &[&str]| args.iter().position(|arg| names.contains(&arg.name) && arg.is_u32());
    let before = args.iter().take(vcpu).position(Parameter::is_u32);
    let integers: Vec<_> =
        (0..args.len()).filter(|at| args.get(*at).is_some_and(Parameter::is_u32)).collect();
    let (isa, reason) = match (named(&["isa"]), named(&["exit_reason", "reason"])) {
        (Some(isa), reason) => (isa, reason),
        (None, _) => match (integers.as_slice(), before) {
            ([isa], None) => (*isa, None),
            ([reason, isa], Some(_)) if *isa > vcpu => (*isa, Some(*reason)),
            _ => return Err(unknown()),
        },
    };
    Ok((ExitArgs { vcpu: index(vcpu), isa: index(isa), reason: reason.map(index) }, *id))
}

fn vcpu_layout(kvm: &Module<'_>, vcpu: TypeId) -> Result<VcpuLayout, LayoutError> {
    const TYPE: &str = "kvm_vcpu";
    let btf = kvm.btf();
    let find = |member: &'static str, size: u32| {
        // The pointer may lead to a forward declaration only; then the name is all there is.
        let found = match btf.member(vcpu, member) {
            Err(BtfError::NotAggregate { .. }) => btf.member_offset(TYPE, member),
            other => other,
        };
        let found = found.map_err(|source| missing(kvm, TYPE, member, source))?;
        sized(TYPE, member, found, &[size])
    };
    Ok(VcpuLayout {
        kvm: find("kvm", 8)?.offset,
        vcpu_id: find("vcpu_id", 4)?.offset,
        vcpu_idx: find("vcpu_idx", 4).ok().map(|member| member.offset),
        stat_exits: find("stat.exits", 8).ok().map(|member| member.offset),
    })
}

/// VMX keeps the whole reason in `vcpu_vmx`, as a number or as a union with a member `full`, or in newer
/// kernels (seen in 6.17) in the `vcpu_vt` which `vcpu_vmx` shares with TDX's `vcpu_tdx`.
fn vmx_reason(module: &Module<'_>) -> Result<ReasonAt, LayoutError> {
    const TYPE: &str = "vcpu_vmx";
    const PATHS: [&str; 4] = ["vt.exit_reason.full", "vt.exit_reason", "exit_reason.full", "exit_reason"];
    let btf = module.btf();
    let find = |ty: &str| {
        let mut result = Err(BtfError::NotFound { what: "struct", name: ty.into() });
        for path in PATHS {
            result = btf.member_offset(ty, path).map(|member| (path, member));
            if !matches!(result, Err(BtfError::NoMember { .. } | BtfError::NotAggregate { .. })) {
                break;
            }
        }
        result
    };
    let (path, member) = find(TYPE).map_err(|source| missing(module, TYPE, "exit_reason", source))?;
    let offset = from_vcpu(module, TYPE, path, sized(TYPE, path, member, &[4])?)?;
    // A TDX guest's events say VMX, but come from another struct; KVM lays both out alike.
    if let Ok((path, tdx)) = find("vcpu_tdx")
        && from_vcpu(module, "vcpu_tdx", path, tdx)? != offset
    {
        let problem = "lies elsewhere than in vcpu_vmx".into();
        return Err(LayoutError::Unexpected { ty: "vcpu_tdx", member: path, problem });
    }
    Ok(ReasonAt::InVcpu { offset })
}

fn svm_reason(module: &Module<'_>) -> Result<ReasonAt, LayoutError> {
    const EXIT_CODE: &str = "control.exit_code";
    let btf = module.btf();
    let find = |ty: &'static str, member: &'static str| {
        btf.member_offset(ty, member).map_err(|source| missing(module, ty, member, source))
    };
    let vmcb = find("vcpu_svm", "vmcb")?;
    if !matches!(btf.value(vmcb.ty), Ok(Value::Pointer { to: "vmcb", .. })) {
        let problem = "is no pointer to struct vmcb".into();
        return Err(LayoutError::Unexpected { ty: "vcpu_svm", member: "vmcb", problem });
    }
    let exit_code = sized("vmcb", EXIT_CODE, find("vmcb", EXIT_CODE)?, &[4, 8])?;
    Ok(ReasonAt::InVmcb {
        vmcb: from_vcpu(module, "vcpu_svm", "vmcb", vmcb)?,
        exit_code: exit_code.offset,
        size: exit_code.size,
    })
}

/// Bytes from the `struct kvm_vcpu` inside a vendor's vCPU to another member of the latter.
fn from_vcpu(
    module: &Module<'_>,
    ty: &'static str,
    member: &'static str,
    found: Member,
) -> Result<u32, LayoutError> {
    let btf: &Btf<'_> = module.btf();
    let vcpu = btf.member_offset(ty, "vcpu").map_err(|source| missing(module, ty, "vcpu", source))?;
    found.offset.checked_sub(vcpu.offset).ok_or_else(|| {
        let problem = "lies before the struct kvm_vcpu".into();
        LayoutError::Unexpected { ty, member, problem }
    })
}

pub(super) fn sized(
    ty: &'static str,
    member: &'static str,
    found: Member,
    sizes: &[u32],
) -> Result<Member, LayoutError> {
    if sizes.contains(&found.size) {
        return Ok(found);
    }
    Err(LayoutError::Unexpected { ty, member, problem: format!("has {} bytes", found.size) })
}

pub(super) fn missing(
    module: &Module<'_>,
    ty: &'static str,
    member: &'static str,
    source: BtfError,
) -> LayoutError {
    LayoutError::Missing { ty, member, files: module.described(), source }
}

/// Arguments are few.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

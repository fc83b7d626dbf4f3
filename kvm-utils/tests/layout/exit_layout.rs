//! What raw tracepoints need, from the BTF of real kernels and from that of kernels that nobody here has.

use std::fs;

use kvm_utils::{
    bpf::layout::{
        BtfFiles, ExitArgs, ExitLayout, LayoutError, ReasonAt, VcpuLayout,
        btf::{BtfError, Kind, TypeId},
    },
    decode::Isa,
};
use proptest::prelude::*;

use crate::{btf_writer::BtfWriter, fixture};

const VCPU_ISA: ExitArgs = ExitArgs { vcpu: 0, isa: 1, reason: None };

fn files(kernel: &str) -> BtfFiles {
    BtfFiles::read(&fixture("btf").join(kernel)).unwrap()
}

/// Offsets as `bpftool btf dump` and the kernel's own debugging information have them.
#[test]
fn layouts_of_real_kernels() {
    for (kernel, vmx, vmcb, size, exits) in
        [("6.1", 7808, 6552, 4, 6256), ("6.12", 7744, 6480, 4, 6184), ("7.2", 6800, 6720, 8, 6424)]
    {
        let layout = ExitLayout::find(&files(kernel)).unwrap();
        let expected = ExitLayout {
            exit: VCPU_ISA,
            entry_vcpu: Some(0),
            vcpu: VcpuLayout { kvm: 0, vcpu_id: 36, vcpu_idx: Some(40), stat_exits: Some(exits) },
            vmx: Ok(ReasonAt::InVcpu { offset: vmx }),
            svm: Ok(ReasonAt::InVmcb { vmcb, exit_code: 112, size }),
        };
        assert_eq!(layout, expected, "{kernel}");
        assert_eq!(layout.reason(Isa::Vmx), Some(Ok(ReasonAt::InVcpu { offset: vmx })));
        assert_eq!(layout.reason(Isa::Svm), Some(Ok(ReasonAt::InVmcb { vmcb, exit_code: 112, size })));
        assert_eq!(layout.reason(Isa::Other(3)), None);
    }
}

#[test]
fn one_vendor_is_enough() {
    for kernel in ["6.1", "6.12", "7.2"] {
        let both = ExitLayout::find(&files(kernel)).unwrap();
        let amd = ExitLayout::find(&BtfFiles { kvm_intel: None, ..files(kernel) }).unwrap();
        assert_eq!(amd.svm, both.svm);
        let error = amd.vmx.unwrap_err();
        assert!(
            matches!(&error, LayoutError::Missing { ty: "vcpu_vmx", member: "exit_reason", .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("kvm_intel, which has no BTF of its own"), "{error}");

        let intel = ExitLayout::find(&BtfFiles { kvm_amd: None, ..files(kernel) }).unwrap();
        assert_eq!(intel.vmx, both.vmx);
        let error = intel.svm.unwrap_err();
        assert!(matches!(&error, LayoutError::Missing { ty: "vcpu_svm", member: "vmcb", .. }), "{error:?}");

        let none = BtfFiles { kvm_amd: None, kvm_intel: None, ..files(kernel) };
        let error = ExitLayout::find(&none).unwrap_err();
        assert!(matches!(error, LayoutError::NoVendor { .. }), "{error:?}");
        let text = error.to_string();
        for word in ["vcpu_vmx.exit_reason", "vcpu_svm.vmcb", "--source tracepoint"] {
            assert!(text.contains(word), "{text}");
        }
    }
}

/// A damaged module is that vendor's trouble alone.
#[test]
fn a_damaged_module_leaves_the_other_vendor() {
    let layout = ExitLayout::find(&BtfFiles { kvm_amd: Some(b"junk".into()), ..files("6.1") }).unwrap();
    assert_eq!(layout.svm, Err(LayoutError::Malformed { module: "kvm_amd", source: BtfError::NotBtf }));
    assert!(layout.vmx.is_ok());
    for damaged in [
        BtfFiles { kvm: Some(b"junk".into()), ..files("6.1") },
        BtfFiles { vmlinux: b"junk".into(), ..files("6.1") },
    ] {
        let error = ExitLayout::find(&damaged).unwrap_err();
        assert!(matches!(error, LayoutError::Malformed { source: BtfError::NotBtf, .. }), "{error:?}");
    }
}

#[test]
fn without_module_btf_the_reason_is_said() {
    // 5.10 has BTF of vmlinux only; and kvm may not be loaded.
    for files in [files("5.10"), BtfFiles { kvm: None, ..files("6.12") }] {
        let error = ExitLayout::find(&files).unwrap_err();
        assert!(matches!(error, LayoutError::NoPrototype { event: "kvm_exit", .. }), "{error:?}");
        let text = error.to_string();
        for word in ["btf_trace_kvm_exit", "kvm, which has no BTF of its own", "--source tracepoint"] {
            assert!(text.contains(word), "{text}");
        }
    }
}

/// The fixture is of a kernel with KVM built in, for an instruction set that is neither Intel's nor AMD's: its
/// tracepoints are in vmlinux, but no vendor's vCPU is.
#[test]
fn a_kernel_with_neither_vendor() {
    let error = ExitLayout::find(&files("6.18")).unwrap_err();
    let LayoutError::NoVendor { vmx, svm } = error else { panic!("{error:?}") };
    assert!(vmx.to_string().contains("no struct \"vcpu_vmx\""), "{vmx}");
    assert!(svm.to_string().contains("no struct \"vcpu_svm\""), "{svm}");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let error = BtfFiles::read(dir.path()).unwrap_err();
    assert!(matches!(&error, LayoutError::NoBtf { path } if path.ends_with("/vmlinux")), "{error:?}");
    assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"));
    fs::create_dir(dir.path().join("vmlinux")).unwrap();
    let error = BtfFiles::read(dir.path()).unwrap_err();
    assert!(matches!(error, LayoutError::Unreadable { .. }), "{error:?}");
}

/// A kernel with everything built in, whose parts each test varies.
struct Kernel {
    btf: BtfWriter,
    int: TypeId,
    uint: TypeId,
    u32_: TypeId,
    u64_: TypeId,
    void: TypeId,
    kvm_vcpu: TypeId,
    vcpu: TypeId,
}

impl Kernel {
    fn new() -> Self {
        let mut btf = BtfWriter::new();
        let int = btf.int("int", 4);
        let uint = btf.int("unsigned int", 4);
        let u32_ = btf.refer(Kind::Typedef, "u32", uint);
        let u64_ = btf.int("unsigned long long", 8);
        let void = btf.pointer(TypeId(0));
        let kvm = btf.refer(Kind::Fwd, "kvm", TypeId(0));
        let kvm = btf.pointer(kvm);
        let members = [("preempt_notifier", u64_, 0), ("kvm", kvm, 8), ("vcpu_id", int, 20)];
        let kvm_vcpu = btf.aggregate(Kind::Struct, "kvm_vcpu", 64, &members);
        let vcpu = btf.pointer(kvm_vcpu);
        Self { btf, int, uint, u32_, u64_, void, kvm_vcpu, vcpu }
    }

    fn exit(mut self, args: &[(&str, TypeId)]) -> Self {
        self.btf.tracepoint("btf_trace_kvm_exit", &[&[("", self.void)], args].concat());
        self
    }

    fn entry(mut self, args: &[(&str, TypeId)]) -> Self {
        self.btf.tracepoint("btf_trace_kvm_entry", &[&[("", self.void)], args].concat());
        self
    }

    /// Tracepoints as in 5.19 and later.
    fn tracepoints(self) -> Self {
        let (vcpu, u32_) = (self.vcpu, self.u32_);
        self.exit(&[("", vcpu), ("", u32_)]).entry(&[("", vcpu)])
    }

    fn aggregate(mut self, name: &str, members: &[(&str, TypeId, u32)]) -> Self {
        self.btf.aggregate(Kind::Struct, name, 256, members);
        self
    }

    fn find(&self) -> Result<ExitLayout, LayoutError> {
        ExitLayout::find(&BtfFiles { vmlinux: self.btf.finish(), ..BtfFiles::default() })
    }
}

/// Up to 5.15 the reason is an argument, and vendors' structs are of no interest.
#[test]
fn the_reason_as_an_argument() {
    let kernel = Kernel::new();
    let (vcpu, uint, u32_) = (kernel.vcpu, kernel.uint, kernel.u32_);
    let linux_5_15 = kernel.exit(&[("", uint), ("", vcpu), ("", u32_)]).entry(&[("", vcpu)]).find().unwrap();
    let reason = ReasonAt::Argument(0);
    assert_eq!(
        linux_5_15,
        ExitLayout {
            exit: ExitArgs { vcpu: 1, isa: 2, reason: Some(0) },
            entry_vcpu: Some(0),
            vcpu: VcpuLayout { kvm: 8, vcpu_id: 20, vcpu_idx: None, stat_exits: None },
            vmx: Ok(reason),
            svm: Ok(reason),
        }
    );
    for isa in [Isa::Vmx, Isa::Svm, Isa::Other(3)] {
        assert_eq!(linux_5_15.reason(isa), Some(Ok(reason)));
    }
}

/// Up to 5.4 kvm_entry gets the vCPU's number only.
#[test]
fn an_entry_without_vcpu() {
    let kernel = Kernel::new();
    let (vcpu, uint, u32_) = (kernel.vcpu, kernel.uint, kernel.u32_);
    let layout = kernel.exit(&[("", uint), ("", vcpu), ("", u32_)]).entry(&[("", uint)]).find().unwrap();
    assert_eq!(layout.entry_vcpu, None);
}

#[test]
fn names_of_arguments_decide_where_there_are_any() {
    let kernel = Kernel::new();
    let (vcpu, u32_) = (kernel.vcpu, kernel.u32_);
    let args = [("isa", u32_), ("exit_reason", u32_), ("vcpu", vcpu)];
    let layout = kernel.exit(&args).entry(&[("vcpu", vcpu)]).find().unwrap();
    assert_eq!(layout.exit, ExitArgs { vcpu: 2, isa: 0, reason: Some(1) });
}

#[test]
fn prototypes_that_are_not_understood() {
    let error = |args: fn(&Kernel) -> Vec<(&'static str, TypeId)>| {
        let kernel = Kernel::new();
        let (args, vcpu) = (args(&kernel), kernel.vcpu);
        kernel.exit(&args).entry(&[("", vcpu)]).find().unwrap_err().to_string()
    };
    // No vCPU, no isa, two numbers of unclear meaning.
    assert!(
        error(|kernel| vec![("", kernel.u32_), ("", kernel.u32_)])
            .contains("(4-byte integer, 4-byte integer)")
    );
    assert!(error(|kernel| vec![("", kernel.vcpu)]).contains("(kvm_vcpu *)"));
    assert!(
        error(|kernel| vec![("", kernel.vcpu), ("", kernel.u64_)]).contains("(kvm_vcpu *, 8-byte integer)")
    );
    let two = error(|kernel| vec![("", kernel.vcpu), ("", kernel.u32_), ("", kernel.u32_)]);
    assert!(two.contains("which this version does not know; use --source tracepoint"), "{two}");
    error(|kernel| vec![("", kernel.u32_), ("", kernel.vcpu)]);
    error(|kernel| vec![("", kernel.kvm_vcpu), ("", kernel.u32_)]);

    // Without `void *__data` in front it is not a tracepoint's.
    let mut kernel = Kernel::new();
    kernel.btf.tracepoint("btf_trace_kvm_exit", &[("", kernel.vcpu), ("", kernel.u32_)]);
    let vcpu = kernel.vcpu;
    let error = kernel.entry(&[("", vcpu)]).find().unwrap_err();
    assert!(matches!(error, LayoutError::UnknownPrototype { event: "kvm_exit", .. }), "{error:?}");
}

#[test]
fn every_place_of_vmx_reasons() {
    let layout = |build: fn(Kernel) -> Kernel| build(Kernel::new().tracepoints()).find().unwrap().vmx;
    // 5.11: a plain number.
    let plain = layout(|kernel| {
        let (vcpu, u32_) = (kernel.kvm_vcpu, kernel.u32_);
        kernel.aggregate("vcpu_vmx", &[("vcpu", vcpu, 0), ("exit_reason", u32_, 80)])
    });
    assert_eq!(plain, Ok(ReasonAt::InVcpu { offset: 80 }));
    // 5.15 to 6.12: a union.
    let union = layout(|mut kernel| {
        let (vcpu, u32_) = (kernel.kvm_vcpu, kernel.u32_);
        let reason = kernel.btf.aggregate(Kind::Union, "vmx_exit_reason", 4, &[("full", u32_, 0)]);
        kernel.aggregate("vcpu_vmx", &[("vcpu", vcpu, 0), ("exit_reason", reason, 96)])
    });
    assert_eq!(union, Ok(ReasonAt::InVcpu { offset: 96 }));
    // 6.17 and later: in vcpu_vt. A vCPU that is not the first member counts from where it is.
    let vt = layout(|mut kernel| {
        let (vcpu, u32_) = (kernel.kvm_vcpu, kernel.u32_);
        let reason = kernel.btf.aggregate(Kind::Union, "vmx_exit_reason", 4, &[("full", u32_, 0)]);
        let vt = kernel.btf.aggregate(Kind::Struct, "vcpu_vt", 32, &[("exit_reason", reason, 8)]);
        let kernel = kernel.aggregate("vcpu_vmx", &[("vcpu", vcpu, 16), ("vt", vt, 96)]);
        kernel.aggregate("vcpu_tdx", &[("vcpu", vcpu, 16), ("vt", vt, 96)])
    });
    assert_eq!(vt, Ok(ReasonAt::InVcpu { offset: 96 + 8 - 16 }));
}

#[test]
fn vmx_reasons_that_are_not_understood() {
    let error = |build: fn(Kernel) -> Kernel| {
        let kernel = build(Kernel::new().tracepoints());
        let LayoutError::NoVendor { vmx, .. } = kernel.find().unwrap_err() else { panic!() };
        vmx.to_string()
    };
    let wide = error(|kernel| {
        let (vcpu, u64_) = (kernel.kvm_vcpu, kernel.u64_);
        kernel.aggregate("vcpu_vmx", &[("vcpu", vcpu, 0), ("exit_reason", u64_, 80)])
    });
    assert!(wide.contains("vcpu_vmx.exit_reason has 8 bytes"), "{wide}");
    let before = error(|kernel| {
        let (vcpu, u32_) = (kernel.kvm_vcpu, kernel.u32_);
        kernel.aggregate("vcpu_vmx", &[("exit_reason", u32_, 0), ("vcpu", vcpu, 8)])
    });
    assert!(before.contains("lies before the struct kvm_vcpu"), "{before}");
    let alone = error(|kernel| {
        let u32_ = kernel.u32_;
        kernel.aggregate("vcpu_vmx", &[("exit_reason", u32_, 0)])
    });
    assert!(alone.contains("vcpu_vmx.vcpu"), "{alone}");
    let tdx = error(|kernel| {
        let (vcpu, u32_) = (kernel.kvm_vcpu, kernel.u32_);
        let kernel = kernel.aggregate("vcpu_vmx", &[("vcpu", vcpu, 0), ("exit_reason", u32_, 80)]);
        kernel.aggregate("vcpu_tdx", &[("vcpu", vcpu, 0), ("exit_reason", u32_, 84)])
    });
    assert!(tdx.contains("vcpu_tdx.exit_reason lies elsewhere"), "{tdx}");
}

fn svm_kernel(code: fn(&Kernel) -> TypeId, pointer: bool) -> Kernel {
    let mut kernel = Kernel::new().tracepoints();
    let code = code(&kernel);
    let control = kernel.btf.aggregate(
        Kind::Struct,
        "vmcb_control_area",
        128,
        &[("pad", code, 0), ("exit_code", code, 72)],
    );
    let control = kernel.btf.refer(Kind::Volatile, "", control);
    let vmcb = kernel.btf.aggregate(Kind::Struct, "vmcb", 256, &[("control", control, 8)]);
    let member = if pointer { kernel.btf.pointer(vmcb) } else { vmcb };
    let vcpu = kernel.kvm_vcpu;
    kernel.aggregate("vcpu_svm", &[("vcpu", vcpu, 8), ("vmcb", member, 80)])
}

#[test]
fn svm_reasons() {
    for (code, size) in
        [(svm_kernel(|kernel| kernel.u32_, true), 4), (svm_kernel(|kernel| kernel.u64_, true), 8)]
    {
        let svm = code.find().unwrap().svm;
        assert_eq!(svm, Ok(ReasonAt::InVmcb { vmcb: 72, exit_code: 80, size }));
    }
    let LayoutError::NoVendor { svm, .. } = svm_kernel(|kernel| kernel.u32_, false).find().unwrap_err()
    else {
        panic!()
    };
    assert!(svm.to_string().contains("vcpu_svm.vmcb is no pointer to struct vmcb"), "{svm}");
}

/// kvm's own BTF may have only a forward declaration of a struct that vmlinux knows.
#[test]
fn a_vcpu_declared_forward_is_found_by_name() {
    let kernel = Kernel::new();
    let mut kvm = BtfWriter::over(&kernel.btf);
    let forward = kvm.refer(Kind::Fwd, "kvm_vcpu", TypeId(0));
    let vcpu = kvm.pointer(forward);
    kvm.tracepoint(
        "btf_trace_kvm_exit",
        &[("", kernel.void), ("", kernel.int), ("", vcpu), ("", kernel.int)],
    );
    kvm.tracepoint("btf_trace_kvm_entry", &[("", kernel.void), ("", vcpu), ("", kernel.int)]);
    let files = BtfFiles { vmlinux: kernel.btf.finish(), kvm: Some(kvm.finish()), ..BtfFiles::default() };
    let layout = ExitLayout::find(&files).unwrap();
    assert_eq!(layout.vcpu, VcpuLayout { kvm: 8, vcpu_id: 20, vcpu_idx: None, stat_exits: None });
    assert_eq!(layout.entry_vcpu, Some(0));
}

/// Modules of one kernel over the vmlinux of another: whatever comes out is an error or a layout, never a panic.
#[test]
fn modules_of_another_kernel() {
    for (kernel, other) in [("6.1", "7.2"), ("7.2", "6.1"), ("6.12", "5.10"), ("7.2", "6.18")] {
        let mixed = BtfFiles { vmlinux: files(other).vmlinux, ..files(kernel) };
        let _ = ExitLayout::find(&mixed);
    }
}

proptest! {
    #[test]
    fn damaged_files_never_panic(file in 0..4, at in 0_usize..4000, byte: u8, cut in 0_usize..8000) {
        let mut files = files("6.12");
        let bytes = match file {
            0 => Some(&mut files.vmlinux),
            1 => files.kvm.as_mut(),
            2 => files.kvm_amd.as_mut(),
            _ => files.kvm_intel.as_mut(),
        };
        let bytes = bytes.unwrap();
        if let Some(old) = bytes.get_mut(at) {
            *old = byte;
        }
        bytes.truncate(cut);
        let _ = ExitLayout::find(&files);
    }
}

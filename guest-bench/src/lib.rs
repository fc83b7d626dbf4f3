//! kvm-bench: measures inside a KVM guest what each VM exit costs.

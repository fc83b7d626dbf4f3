//! `kvm-bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvm_bench::cli::main()
}

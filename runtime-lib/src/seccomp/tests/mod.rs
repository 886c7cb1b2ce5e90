//! The compiler beside libseccomp, and by itself.

mod libseccomp;
mod model;
mod profiles;
mod size;
mod verdicts;

use oci_spec::runtime::{Arch, LinuxSeccomp};

use super::abi::{self, Abi};
use super::verdict::{Call, verdict};

/// A profile of fixtures/seccomp.
fn fixture(name: &str) -> LinuxSeccomp {
    let path = format!(
        "{}/../fixtures/seccomp/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn profile(value: serde_json::Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn abi_of(arch: Arch) -> &'static Abi {
    abi::of(arch).unwrap()
}

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

const fn errno(number: u32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number
}

/// What the filter of a profile says of a call, on x86-64.
fn judged(profile: &LinuxSeccomp, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let compiled = super::compile(profile, abi_of(Arch::ScmpArchX86_64));
    let call = Call {
        number,
        arch,
        arguments,
    };
    verdict(&compiled.filter.program, &call, false).unwrap()
}

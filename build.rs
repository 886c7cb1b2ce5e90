//! Tells the linker where the program is entered and how its code is laid out.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/hot.ld");
    // Instead of libc's `_start`: see src/sys/mod.rs.
    if var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo:rustc-link-arg-bins=-Wl,-e,capsid_start");
    }
    if let (Ok("release"), Ok(here)) = (var("PROFILE").as_deref(), var("CARGO_MANIFEST_DIR")) {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{here}/src/hot.ld");
    }
}

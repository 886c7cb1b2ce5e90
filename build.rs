//! Tells the linker where the program is entered and how its code is laid out.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/hot.ld");
    // Instead of libc's `_start`: see src/sys/mod.rs.
    if var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo:rustc-link-arg-bins=-Wl,-e,capsid_start");
        refuse_static_pie();
    }
    if let (Ok("release"), Ok(here)) = (var("PROFILE").as_deref(), var("CARGO_MANIFEST_DIR")) {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{here}/src/hot.ld");
    }
}

/// Nobody would relocate it: libc does that from its own `_start`.
fn refuse_static_pie() {
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let features = var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    assert!(
        !is_static || flags.contains("relocation-model=static"),
        "a static capsid needs -C relocation-model=static beside -C target-feature=+crt-static: `make build` has both"
    );
}

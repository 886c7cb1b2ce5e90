//! How large the programs of the engines' profiles are.

use super::*;

#[test]
fn the_filters_of_the_engines_are_small() {
    for (name, most) in [("docker", 330), ("containerd", 330), ("podman", 430)] {
        let compiled = super::super::compile(&fixture(name), abi_of(Arch::ScmpArchX86_64));
        let size = compiled.filter.program.len();
        println!("{name}: {size} instructions");
        assert!(size <= most, "{name}: {size} instructions, at most {most}");
        assert_eq!(compiled.unknown, []);
    }
}

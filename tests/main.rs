//! capsid's promises, tested from outside: one file a promise, one test a sentence. The binary under test
//! is $CAPSID or the one cargo built; `make test` runs all of this inside tests/enclosure.sh.
#![forbid(unsafe_code)]

mod harness;

mod advice;
mod attacks;
mod bad_config;
mod bare_user;
mod binary;
mod cgroup_mounts;
mod cgroups;
mod controllers;
mod descriptors;
mod devices;
mod differential;
mod errors;
mod events;
mod exec;
mod faults;
mod hooks;
mod ids;
mod joiners;
mod jvm;
mod labels;
mod layers;
mod lifecycle;
mod listing;
mod live_mounts;
mod logs;
mod lost_terminals;
mod lxcfs;
mod memory;
mod mount_options;
mod mount_places;
mod mounts;
mod namespaces;
mod nested;
mod net_devices;
mod old_kernels;
mod overlays;
mod process;
mod readiness;
mod rootless;
mod rootless_files;
mod roots;
mod running;
mod scheduling;
mod seccomp;
mod systemd;
mod systemd_bus;
mod terminals;
mod unmounted;
mod update;
mod upgrade;
mod user_namespaces;

//! What a process is told about itself: ids, arguments, environment, limits,
//! clocks, and the processes and interfaces that it can see.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use nix::net::if_::InterfaceFlags;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, umask as set_umask};
use nix::time::{ClockId, clock_gettime};
use nix::unistd;
use serde_json::{Map, Value, json};

use crate::{Answer, status};

/// Every limit by the name that config.json has for it.
const LIMITS: &[(&str, Resource)] = &[
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

const CLOCKS: &[(&str, ClockId)] = &[
    ("monotonic", ClockId::CLOCK_MONOTONIC),
    ("boottime", ClockId::CLOCK_BOOTTIME),
];

pub(crate) fn identity() -> Answer {
    let pid = unistd::getpid();
    Ok(json!({
        "pid": pid.as_raw(),
        "is_init": pid.as_raw() == 1,
        "ppid": unistd::getppid().as_raw(),
        "pgid": unistd::getpgrp().as_raw(),
        "sid": unistd::getsid(None)?.as_raw(),
    }))
}

pub(crate) fn uname() -> Answer {
    let uts = nix::sys::utsname::uname()?;
    Ok(json!({
        "sysname": uts.sysname().to_string_lossy(),
        "hostname": uts.nodename().to_string_lossy(),
        "domainname": uts.domainname().to_string_lossy(),
        "release": uts.release().to_string_lossy(),
        "machine": uts.machine().to_string_lossy(),
    }))
}

/// Real, effective and saved ids by call; the file system ids are only in
/// /proc/self/status and null without it.
pub(crate) fn ids() -> Answer {
    let uid = unistd::getresuid()?;
    let gid = unistd::getresgid()?;
    let groups: Vec<u32> = unistd::getgroups()?
        .into_iter()
        .map(unistd::Gid::as_raw)
        .collect();
    Ok(json!({
        "uid": {
            "real": uid.real.as_raw(), "effective": uid.effective.as_raw(),
            "saved": uid.saved.as_raw(), "fs": status::fourth_number("Uid"),
        },
        "gid": {
            "real": gid.real.as_raw(), "effective": gid.effective.as_raw(),
            "saved": gid.saved.as_raw(), "fs": status::fourth_number("Gid"),
        },
        "groups": groups,
    }))
}

pub(crate) fn cwd() -> Answer {
    Ok(json!(unistd::getcwd()?.to_string_lossy()))
}

pub(crate) fn args() -> Answer {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    Ok(json!(args))
}

/// As `KEY=VALUE` strings in the order in which they stand in memory.
pub(crate) fn env() -> Answer {
    let lines: Vec<String> = std::env::vars_os()
        .map(|(key, value)| {
            let pair = [key.as_bytes(), b"=", value.as_bytes()].concat();
            String::from_utf8_lossy(&pair).into_owned()
        })
        .collect();
    Ok(json!(lines))
}

/// Four octal digits. The kernel has no call that only reads it.
pub(crate) fn umask() -> Answer {
    let mask = set_umask(Mode::empty());
    set_umask(mask);
    Ok(json!(format!("{:04o}", mask.bits())))
}

/// Unlimited is 18446744073709551615, as in config.json.
pub(crate) fn rlimits() -> Answer {
    let mut limits = Map::new();
    for (name, resource) in LIMITS {
        let (soft, hard) = getrlimit(*resource)?;
        limits.insert((*name).to_owned(), json!({ "soft": soft, "hard": hard }));
    }
    Ok(Value::Object(limits))
}

/// The persona of personality(2) as hexadecimal. Not by the call: nix knows its flags only, and
/// drops the domain.
pub(crate) fn personality() -> Answer {
    let text = fs::read_to_string("/proc/self/personality")?;
    let persona = u32::from_str_radix(text.trim(), 16).map_err(|_| "not hexadecimal")?;
    Ok(json!(format!("{persona:#x}")))
}

/// What /proc/self says of scheduling: the numbers of sched(7), the CPUs and memory nodes that
/// are allowed, and the memory policy of pages that have none of their own.
pub(crate) fn scheduling() -> Answer {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(") ").ok_or("no such line")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // proc_pid_stat(5) counts from 1, and the rest begins with the third.
    let number = |n: usize| -> Option<i64> { fields.get(n - 3)?.trim().parse().ok() };
    let policies = fs::read_to_string("/proc/self/numa_maps").ok();
    let policy = policies.as_deref().and_then(|text| {
        let line = text.lines().find(|line| line.contains("stack"))?;
        line.split(' ').nth(1).map(str::to_owned)
    });
    Ok(json!({
        "nice": number(19),
        "rt_priority": number(40),
        "policy": number(41),
        "cpus": status::line("Cpus_allowed_list"),
        "nodes": status::line("Mems_allowed_list"),
        "memory_policy": policy,
    }))
}

pub(crate) fn oom_score_adj() -> Answer {
    let text = fs::read_to_string("/proc/self/oom_score_adj")?;
    let score: i32 = text.trim().parse().map_err(|_| "not a number")?;
    Ok(json!(score))
}

/// Seconds of the clocks that a time namespace shifts, and its offsets.
pub(crate) fn clocks() -> Answer {
    let mut clocks = Map::new();
    for (name, id) in CLOCKS {
        clocks.insert((*name).to_owned(), json!(clock_gettime(*id)?.tv_sec()));
    }
    let offsets = fs::read_to_string("/proc/self/timens_offsets").ok();
    clocks.insert("offsets".to_owned(), json!(offsets));
    Ok(Value::Object(clocks))
}

pub(crate) fn visible_pids() -> Answer {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(json!(pids))
}

/// The interfaces of the network namespace with their flags. By getifaddrs(3):
/// a bind-mounted /sys shows those of another namespace.
pub(crate) fn network() -> Answer {
    let mut interfaces = Map::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let flags = interface.flags;
        let entry = json!({
            "up": flags.contains(InterfaceFlags::IFF_UP),
            "running": flags.contains(InterfaceFlags::IFF_RUNNING),
            "loopback": flags.contains(InterfaceFlags::IFF_LOOPBACK),
            "flags": format!("{:#x}", flags.bits()),
        });
        interfaces.insert(interface.interface_name, entry);
    }
    Ok(Value::Object(interfaces))
}

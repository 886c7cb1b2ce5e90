//! From what the config says to what the kernel's files take. Pure functions, one for each
//! form; what they are given has been checked.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxHugepageLimit, LinuxInterfacePriority, LinuxRdma, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::asked::Asked;
use super::table::Write;

pub(super) fn text(value: impl ToString) -> String {
    value.to_string()
}

pub(super) fn bytes(value: i64) -> String {
    match value {
        ..0 => "max".to_owned(),
        value => value.to_string(),
    }
}

/// Zero would let nothing start at all, the process that is cloned into the cgroup included.
pub(super) fn tasks(limit: i64) -> String {
    match limit {
        ..0 => "max".to_owned(),
        limit => limit.max(1).to_string(),
    }
}

/// cpu.max is `QUOTA PERIOD`; the kernel keeps the period when it is left out.
pub(super) fn quota_and_period(asked: &Asked<'_>) -> Option<String> {
    let quota = bytes(asked.quota?);
    Some(match asked.period {
        Some(period) => format!("{quota} {period}"),
        None => quota,
    })
}

pub(super) fn period_alone(asked: &Asked<'_>) -> Option<String> {
    let period = asked.period.filter(|_| asked.quota.is_none())?;
    Some(format!("max {period}"))
}

/// The cpu.weight (1 to 10000) for v1's cpu.shares (2 to 262144): a curve through
/// (2, 1), (1024, 100) and (262144, 10000), so that the defaults of both meet.
/// `ceil(10^((l² + 125·l)/612 − 7/34))` with l = log2(shares).
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// io.weight (1 to 10000) for a block weight (10 to 1000).
fn wide(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn write(part: impl ToString, file: impl Into<String>, value: String) -> Write {
    Write {
        part: part.to_string(),
        file: file.into(),
        value,
        otherwise: None,
    }
}

/// BFQ is what weighs on v1; the name without it was CFQ's.
pub(super) fn bfq_weight(weight: u16) -> Write {
    Write {
        part: String::new(),
        file: "blkio.bfq.weight".to_owned(),
        value: weight.to_string(),
        otherwise: Some(("blkio.weight", weight.to_string())),
    }
}

/// BFQ where it is loaded, else the kernel's own weights, which reach further.
pub(super) fn io_weight(weight: u16) -> Write {
    Write {
        part: String::new(),
        file: "io.bfq.weight".to_owned(),
        value: weight.to_string(),
        otherwise: Some(("io.weight", wide(weight).to_string())),
    }
}

pub(super) fn bfq_weights(devices: &[LinuxWeightDevice]) -> Vec<Write> {
    weights(devices, |device, weight| {
        let line = format!("{device} {weight}");
        let old = ("blkio.weight_device", line.clone());
        ("blkio.bfq.weight_device", line, old)
    })
}

pub(super) fn io_weights(devices: &[LinuxWeightDevice]) -> Vec<Write> {
    weights(devices, |device, weight| {
        let own = ("io.weight", format!("{device} {}", wide(weight)));
        ("io.bfq.weight", format!("{device} {weight}"), own)
    })
}

type Forms = (&'static str, String, (&'static str, String));

fn weights(devices: &[LinuxWeightDevice], form: fn(String, u16) -> Forms) -> Vec<Write> {
    let weighted = devices.iter().enumerate().filter_map(|(n, device)| {
        let weight = device.weight().filter(|v| *v != 0)?;
        let number = format!("{}:{}", device.major(), device.minor());
        let (file, value, otherwise) = form(number, weight);
        Some(Write {
            otherwise: Some(otherwise),
            ..write(n, file, value)
        })
    });
    weighted.collect()
}

pub(super) fn throttles_v1(devices: &[LinuxThrottleDevice], file: &str) -> Vec<Write> {
    throttles(devices, file, |device| device.rate().to_string())
}

/// v1's zero for "no limit" is a word here.
pub(super) fn throttles_v2(devices: &[LinuxThrottleDevice], key: &str) -> Vec<Write> {
    throttles(devices, "io.max", |device| match device.rate() {
        0 => format!("{key}=max"),
        rate => format!("{key}={rate}"),
    })
}

fn throttles(
    devices: &[LinuxThrottleDevice],
    file: &str,
    rate: impl Fn(&LinuxThrottleDevice) -> String,
) -> Vec<Write> {
    let line = |device| (device, rate(device));
    let lines = devices.iter().map(line).enumerate();
    let line = |(n, (device, rate)): (usize, (&LinuxThrottleDevice, String))| {
        write(
            n,
            file,
            format!("{}:{} {rate}", device.major(), device.minor()),
        )
    };
    lines.map(line).collect()
}

pub(super) fn huge_pages_v1(limits: &[LinuxHugepageLimit]) -> Vec<Write> {
    huge_pages(limits, "limit_in_bytes")
}

pub(super) fn huge_pages_v2(limits: &[LinuxHugepageLimit]) -> Vec<Write> {
    huge_pages(limits, "max")
}

/// What is reserved counts as what is used: a program that maps too many pages is refused
/// them, where it would be killed when it touches them.
fn huge_pages(limits: &[LinuxHugepageLimit], suffix: &str) -> Vec<Write> {
    let both = limits.iter().enumerate().flat_map(|(n, pages)| {
        let (size, limit) = (pages.page_size(), pages.limit().to_string());
        [
            write(n, format!("hugetlb.{size}.{suffix}"), limit.clone()),
            write(n, format!("hugetlb.{size}.rsvd.{suffix}"), limit),
        ]
    });
    both.collect()
}

pub(super) fn rdma(devices: Option<&HashMap<String, LinuxRdma>>) -> Vec<Write> {
    let mut named: Vec<_> = devices.into_iter().flatten().collect();
    named.sort_by_key(|(name, _)| name.as_str());
    let line = |(name, limits): (&String, &LinuxRdma)| {
        let mut line = name.clone();
        let limits = [
            ("hca_handle", limits.hca_handles()),
            ("hca_object", limits.hca_objects()),
        ];
        for (key, limit) in limits {
            if let Some(limit) = limit {
                line.push_str(&format!(" {key}={limit}"));
            }
        }
        (line.len() > name.len()).then(|| write(name, "rdma.max", line))
    };
    named.into_iter().filter_map(line).collect()
}

pub(super) fn priorities(priorities: &[LinuxInterfacePriority]) -> Vec<Write> {
    let line = |(n, p): (usize, &LinuxInterfacePriority)| {
        write(
            n,
            "net_prio.ifpriomap",
            format!("{} {}", p.name(), p.priority()),
        )
    };
    priorities.iter().enumerate().map(line).collect()
}

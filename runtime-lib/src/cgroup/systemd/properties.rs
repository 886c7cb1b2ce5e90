//! What a unit is told of the container's limits, so that systemd, when it writes them again, writes
//! the same: one table from the files of cgroup v1 and v2 to systemd.resource-control(5).

use super::Property;
use super::value::Value;

/// One line: a file, and the properties that say what is written there. The version is that of
/// systemd; what an older one doesn't know is left to the file.
type Row = (&'static str, u32, fn(&Written<'_>) -> Option<Vec<Property>>);

const TABLE: &[Row] = &[
    // v2
    ("cpu.weight", 232, |w| number(w, "CPUWeight")),
    ("cpu.idle", 252, |w| match w.value {
        "1" => Some(one("CPUWeight", Value::Uint64(0))),
        // Back to the kernel's weight, unless one is written with it.
        _ => match w.other("cpu.weight") {
            None => Some(one("CPUWeight", Value::Uint64(u64::MAX))),
            Some(_) => None,
        },
    }),
    ("cpu.max", 227, |w| {
        let mut words = w.value.split_whitespace();
        let quota = words.next()?;
        let period = words.next();
        quota_of(quota, period, w.systemd)
    }),
    ("cpuset.cpus", 244, |w| list(w, "AllowedCPUs")),
    ("cpuset.mems", 244, |w| list(w, "AllowedMemoryNodes")),
    ("memory.max", 231, |w| amount(w, "MemoryMax")),
    ("memory.high", 231, |w| amount(w, "MemoryHigh")),
    ("memory.low", 231, |w| amount(w, "MemoryLow")),
    ("memory.min", 240, |w| amount(w, "MemoryMin")),
    ("memory.swap.max", 232, |w| amount(w, "MemorySwapMax")),
    ("io.weight", 230, |w| number(w, "IOWeight")),
    // both
    ("pids.max", 227, |w| amount(w, "TasksMax")),
    // v1
    ("cpu.shares", 208, |w| number(w, "CPUShares")),
    ("cpu.cfs_quota_us", 213, |w| {
        quota_of(w.value, w.other("cpu.cfs_period_us"), w.systemd)
    }),
    ("memory.limit_in_bytes", 208, |w| amount(w, "MemoryLimit")),
    ("blkio.weight", 208, |w| number(w, "BlockIOWeight")),
];

/// The kernel's own period, in microseconds.
const PERIOD: u64 = 100_000;

/// A file's content, and what is written beside it.
struct Written<'a> {
    value: &'a str,
    all: &'a [(&'a str, &'a str)],
    systemd: u32,
}

impl<'a> Written<'a> {
    fn other(&self, file: &str) -> Option<&'a str> {
        let found = self.all.iter().find(|(name, _)| *name == file);
        found.map(|(_, value)| *value)
    }
}

/// The properties of what is written: pairs of a file and its content.
pub fn of(written: &[(&str, &str)], systemd: u32) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    for (file, value) in written {
        let rows = TABLE
            .iter()
            .filter(|(name, since, _)| name == file && *since <= systemd);
        for (_, _, convert) in rows {
            let written = Written {
                value,
                all: written,
                systemd,
            };
            // The last one counts, as it does in the files.
            for (name, value) in convert(&written).unwrap_or_default() {
                properties.retain(|(earlier, _)| *earlier != name);
                properties.push((name, value));
            }
        }
    }
    properties
}

fn one(name: &str, value: Value) -> Vec<Property> {
    vec![(name.to_owned(), value)]
}

fn number(written: &Written<'_>, name: &str) -> Option<Vec<Property>> {
    let text = written
        .value
        .strip_prefix("default ")
        .unwrap_or(written.value);
    text.parse()
        .ok()
        .map(|value| one(name, Value::Uint64(value)))
}

/// Bytes or tasks; no limit is the greatest number.
fn amount(written: &Written<'_>, name: &str) -> Option<Vec<Property>> {
    let value = match written.value {
        "max" | "-1" => u64::MAX,
        text => bytes(text)?,
    };
    Some(one(name, Value::Uint64(value)))
}

/// A number as the kernel reads it, with K, M, G or T behind it.
fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// systemd counts in microseconds of a second, by steps of 1 %.
fn quota_of(quota: &str, period: Option<&str>, systemd: u32) -> Option<Vec<Property>> {
    let period = match period {
        Some(period) => Some(period.parse::<u64>().ok()?),
        None => None,
    };
    let per_second = match quota {
        "max" | "-1" => u64::MAX,
        quota => {
            let exact = u128::from(quota.parse::<u64>().ok()?) * 1_000_000;
            let exact = exact.checked_div(period.unwrap_or(PERIOD).into())?;
            u64::try_from(exact.next_multiple_of(10_000)).unwrap_or(u64::MAX)
        }
    };
    let mut properties = one("CPUQuotaPerSecUSec", Value::Uint64(per_second));
    if let Some(period) = period.filter(|_| systemd >= 242) {
        properties.extend(one("CPUQuotaPeriodUSec", Value::Uint64(period)));
    }
    Some(properties)
}

/// A list such as 0-2,7 as bits, the first in the lowest place of the first byte.
fn list(written: &Written<'_>, name: &str) -> Option<Vec<Property>> {
    let mut bits: Vec<u8> = Vec::new();
    let parts = written.value.trim().split(',');
    // None at all is what a cpuset has that takes its parent's.
    for part in parts.filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last > 8191 {
            return None;
        }
        if bits.len() <= last / 8 {
            bits.resize(last / 8 + 1, 0);
        }
        for bit in first..=last {
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    Some(one(name, Value::bytes(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(written: &[(&str, &str)], systemd: u32) -> Vec<String> {
        let show = |(name, value): Property| match value {
            Value::Uint64(u64::MAX) => format!("{name}=max"),
            Value::Uint64(value) => format!("{name}={value}"),
            Value::Array { items, .. } => format!("{name}={items:?}"),
            other => format!("{name}={other:?}"),
        };
        of(written, systemd).into_iter().map(show).collect()
    }

    #[test]
    fn every_file_has_its_properties() {
        for (written, expected) in [
            (&[("cpu.weight", "59")][..], &["CPUWeight=59"][..]),
            (&[("cpu.weight", "59"), ("cpu.idle", "1")], &["CPUWeight=0"]),
            (&[("cpu.idle", "0")], &["CPUWeight=max"]),
            (
                &[("cpu.weight", "59"), ("cpu.idle", "0")],
                &["CPUWeight=59"],
            ),
            (&[("cpuset.cpus", "\n")], &["AllowedCPUs=[]"]),
            (
                &[("cpu.max", "20000 50000")],
                &["CPUQuotaPerSecUSec=400000", "CPUQuotaPeriodUSec=50000"],
            ),
            (&[("cpu.max", "12345")], &["CPUQuotaPerSecUSec=130000"]),
            (
                &[("cpu.max", "max 50000")],
                &["CPUQuotaPerSecUSec=max", "CPUQuotaPeriodUSec=50000"],
            ),
            (
                &[("cpuset.cpus", "0-2,9")],
                &["AllowedCPUs=[Byte(7), Byte(2)]"],
            ),
            (&[("cpuset.mems", "0")], &["AllowedMemoryNodes=[Byte(1)]"]),
            (
                &[("memory.max", "1048576"), ("memory.low", "max")],
                &["MemoryMax=1048576", "MemoryLow=max"],
            ),
            (
                &[("memory.high", "4M"), ("memory.min", "1k")],
                &["MemoryHigh=4194304", "MemoryMin=1024"],
            ),
            (&[("memory.swap.max", "0")], &["MemorySwapMax=0"]),
            (&[("pids.max", "50")], &["TasksMax=50"]),
            (&[("io.weight", "default 300")], &["IOWeight=300"]),
            (&[("cpu.shares", "512")], &["CPUShares=512"]),
            (
                &[("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "-1")],
                &["CPUQuotaPerSecUSec=max", "CPUQuotaPeriodUSec=50000"],
            ),
            (&[("memory.limit_in_bytes", "-1")], &["MemoryLimit=max"]),
            (&[("blkio.weight", "500")], &["BlockIOWeight=500"]),
            (
                &[("memory.max", "1"), ("memory.max", "2")],
                &["MemoryMax=2"],
            ),
        ] {
            assert_eq!(shown(written, 252), expected, "{written:?}");
        }
    }

    #[test]
    fn what_systemd_cannot_be_told_is_left_to_the_file() {
        let unknown = [
            ("hugetlb.2MB.max", "5"),
            ("cpu.max", "x"),
            ("memory.max", "lots"),
            ("memory.max", "99999999999999999999"),
            ("cpuset.cpus", "9-2"),
            ("cpuset.cpus", "0-99999999"),
            ("io.weight", "8:0 300"),
        ];
        assert_eq!(shown(&unknown, 252), [""; 0]);
        let cpuset = [("cpuset.cpus", "0"), ("cpu.max", "10000 50000")];
        assert_eq!(shown(&cpuset, 241), ["CPUQuotaPerSecUSec=200000"]);
    }
}

//! Pressure stall information (Linux's Documentation/accounting/psi.rst): how much of the time
//! some, or all, of the processes waited.

use serde::{Serialize, Serializer};

use super::Files;

/// Of one resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one process waited.
    pub some: Stall,
    /// All of them did.
    pub full: Stall,
}

/// Per cent of the last 10, 60 and 300 seconds, and microseconds in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stall {
    #[serde(serialize_with = "as_go")]
    pub avg10: f64,
    #[serde(serialize_with = "as_go")]
    pub avg60: f64,
    #[serde(serialize_with = "as_go")]
    pub avg300: f64,
    pub total: u64,
}

/// Go writes a number that is whole without a fraction.
fn as_go<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value.fract() == 0.0 {
        true => serializer.serialize_u64(*value as u64),
        false => serializer.serialize_f64(*value),
    }
}

/// None where the kernel doesn't count it.
pub(super) fn read(files: &Files, name: &str) -> Option<Pressure> {
    let text = files.text(name)?;
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (what, rest) = line.split_once(' ')?;
        let stall = match what {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in rest.split(' ').filter_map(|word| word.split_once('=')) {
            let average = value.parse().unwrap_or_default();
            match key {
                "avg10" => stall.avg10 = average,
                "avg60" => stall.avg60 = average,
                "avg300" => stall.avg300 = average,
                "total" => stall.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }
    Some(pressure)
}

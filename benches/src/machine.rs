//! The facts about this machine that figures depend on. It must not change any.

use std::fs;

use nix::sys::utsname::uname;

#[derive(Debug)]
pub struct Machine {
    pub kernel: String,
    pub architecture: String,
    pub processor: String,
    pub processors: usize,
    pub memory_kib: u64,
    /// The one-minute load average before and after.
    pub load_before: f64,
    pub load_after: f64,
    /// Seconds since 1970, UTC.
    pub time: u64,
}

impl Machine {
    pub fn here() -> Machine {
        let (kernel, architecture) = uname().map_or(("?".into(), "?".into()), |name| {
            (
                name.release().to_string_lossy().into_owned(),
                name.machine().to_string_lossy().into_owned(),
            )
        });
        Machine {
            kernel,
            architecture,
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "?".into()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: field("/proc/meminfo", "MemTotal")
                .and_then(|value| value.split(' ').next()?.parse().ok())
                .unwrap_or(0),
            load_before: Machine::load(),
            load_after: 0.0,
            time: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }

    /// "Linux 6.18.44 x86_64, 2 × AMD EPYC"
    pub fn summary(&self) -> String {
        format!(
            "Linux {} {}, {} × {}",
            self.kernel, self.architecture, self.processors, self.processor
        )
    }

    pub fn load() -> f64 {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        text.split(' ')
            .next()
            .and_then(|first| first.parse().ok())
            .unwrap_or(0.0)
    }

    pub fn warn_if_busy(&self) {
        if self.load_before > 0.5 * self.processors as f64 {
            eprintln!(
                "BUSY: the load average is {:.1} on {} processors; trust the ratios, not the times",
                self.load_before, self.processors
            );
        }
    }
}

fn field(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

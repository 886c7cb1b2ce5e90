//! `update`: other limits for a running container, by flags or by a document.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use capsid_runtime::rdt::Schemata;
use capsid_runtime::spec::{Resources, Size};
use capsid_runtime::{Code, Error, Result};
use clap::Args;
use serde_json::{Map, Value, json};

use super::container_id::Id;
use crate::global::Global;

const NOTES: &str = "\
What is not named stays as it is, and so does what is 0: engines write zeros for that. A refused
value takes back those that were written before it. FILE holds an object as /linux/resources of
config.json has it; flags win over it. Device rules stay those of create.

SIZE is a number of bytes, or one with k, m, g, t or p (1024 to the power of 1 to 5); -1: no limit.

Examples:
  capsid update --memory 512m --memory-swap 1g web
  capsid update --cpu-quota 50000 --cpu-period 100000 --pids-limit 200 web
  echo '{\"cpu\": {\"shares\": 512}}' | capsid update --resources - web";

#[derive(Args, Default)]
#[command(after_help = NOTES)]
pub struct Update {
    #[command(flatten)]
    id: Id,

    /// Read what is to change from FILE, or from standard input when it is -
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// The most memory
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    memory: Option<Size>,

    /// The most memory and swap together
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    memory_swap: Option<Size>,

    /// The memory that is left to it when memory is short on the machine
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    memory_reservation: Option<Size>,

    /// Its weight against others for processor time, 2 to 262144
    #[arg(long, value_name = "SHARES", allow_negative_numbers = true, value_parser = natural)]
    cpu_share: Option<u64>,

    /// Microseconds of processor time in each period; -1: no limit
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, value_parser = limit)]
    cpu_quota: Option<i64>,

    /// The length of a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, value_parser = natural)]
    cpu_period: Option<u64>,

    /// How much unused quota it may save up for a later period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, value_parser = natural)]
    cpu_burst: Option<u64>,

    /// Microseconds of realtime processor time in each realtime period (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,

    /// The length of a realtime period, in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, value_parser = natural)]
    cpu_rt_period: Option<u64>,

    /// 1: it runs only when nobody else wants to; 0: as others
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    cpu_idle: Option<i64>,

    /// The processors, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// The memory nodes, such as 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// The most processes and threads; -1: no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = limit)]
    pids_limit: Option<i64>,

    /// Its weight against others for disks, 10 to 1000
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    blkio_weight: Option<u16>,

    /// Its share of the L3 cache (Intel RDT/CAT), such as L3:0=ff;1=f
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,

    /// Its share of memory bandwidth (Intel RDT/MBA), such as MB:0=20;1=70
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,

    /// Refuse what will not act as written, where there is else a warning
    #[arg(long)]
    strict: bool,

    /// Has no effect: the kernel has no such limit any more
    #[arg(long, value_name = "SIZE", hide = true, allow_negative_numbers = true)]
    kernel_memory: Option<String>,

    /// Has no effect, as --kernel-memory
    #[arg(long, value_name = "SIZE", hide = true, allow_negative_numbers = true)]
    kernel_memory_tcp: Option<String>,
}

impl Update {
    pub fn run(self, global: &Global) -> Result<u8> {
        let container = self.id.open(global, "update")?;
        for (flag, value) in [
            ("--kernel-memory", &self.kernel_memory),
            ("--kernel-memory-tcp", &self.kernel_memory_tcp),
        ] {
            if value.is_some() {
                tracing::warn!("{flag} is ignored: the kernel has no such limit any more");
            }
        }
        let resources = self.resources().map_err(|error| {
            let error = error.doing("read the resources");
            error.during(format!("update {}", container.id()))
        })?;
        let update = capsid_runtime::Update {
            resources,
            rdt: Schemata {
                l3_cache: asked(self.l3_cache_schema),
                memory_bandwidth: asked(self.mem_bw_schema),
            },
            strict: self.strict,
        };
        for notice in container.update(&update)? {
            notice.warn_during(&format!("update {}", container.id()));
        }
        Ok(0)
    }

    /// The document, with the flags.
    fn resources(&self) -> Result<Resources> {
        let mut object = match self.resources.as_deref() {
            Some(path) => read(path)?,
            None => Value::Object(Map::new()),
        };
        self.put_into(&mut object)?;
        Resources::new(object)
    }

    /// The flags that have a place in the document, with it and what they say.
    #[rustfmt::skip]
    fn flags(&self) -> [(&'static str, &'static str, &'static str, Option<Value>); 14] {
        let size = |size: Option<Size>| size.map(|size| json!(size.0));
        [
            ("--memory", "memory", "limit", size(self.memory)),
            ("--memory-swap", "memory", "swap", size(self.memory_swap)),
            ("--memory-reservation", "memory", "reservation", size(self.memory_reservation)),
            ("--cpu-share", "cpu", "shares", self.cpu_share.map(Value::from)),
            ("--cpu-quota", "cpu", "quota", self.cpu_quota.map(Value::from)),
            ("--cpu-period", "cpu", "period", self.cpu_period.map(Value::from)),
            ("--cpu-burst", "cpu", "burst", self.cpu_burst.map(Value::from)),
            ("--cpu-rt-runtime", "cpu", "realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
            ("--cpu-rt-period", "cpu", "realtimePeriod", self.cpu_rt_period.map(Value::from)),
            ("--cpu-idle", "cpu", "idle", self.cpu_idle.map(Value::from)),
            ("--cpuset-cpus", "cpu", "cpus", self.cpuset_cpus.clone().map(Value::from)),
            ("--cpuset-mems", "cpu", "mems", self.cpuset_mems.clone().map(Value::from)),
            ("--pids-limit", "pids", "limit", self.pids_limit.map(Value::from)),
            ("--blkio-weight", "blockIO", "weight", self.blkio_weight.map(Value::from)),
        ]
    }

    /// Where config.json has what a flag of this name changes.
    pub fn pointer_of(flag: &str) -> Option<String> {
        let (_, section, member, _) = Update::default()
            .flags()
            .into_iter()
            .find(|it| it.0 == flag)?;
        Some(format!("/linux/resources/{section}/{member}"))
    }

    /// The flags, over what the document says.
    fn put_into(&self, object: &mut Value) -> Result<()> {
        for (_, section, member, value) in self.flags() {
            let Some(value) = value else { continue };
            let section = object
                .as_object_mut()
                .map(|object| object.entry(section).or_insert_with(|| json!({})));
            match section.and_then(Value::as_object_mut) {
                Some(section) => drop(section.insert(member.to_owned(), value)),
                None => {
                    let tail = "invalid type, expected an object";
                    return Err(Error::new(Code::InvalidConfig, tail));
                }
            }
        }
        Ok(())
    }
}

/// A number that has no sign.
fn natural(word: &str) -> std::result::Result<u64, &'static str> {
    word.parse().map_err(|_| "not a whole number from 0")
}

/// What a container may have of something countable. In a document every number below zero is none,
/// as in runc.
fn limit(word: &str) -> std::result::Result<i64, &'static str> {
    let number = word.parse().ok().filter(|number| *number >= -1);
    number.ok_or("it is a whole number, or -1 for no limit")
}

/// An empty schema asks for nothing, as in runc.
fn asked(schema: Option<String>) -> Option<String> {
    schema.filter(|schema| !schema.is_empty())
}

fn read(path: &Path) -> Result<Value> {
    if path == Path::new("-") {
        return Resources::read_json(io::stdin().lock());
    }
    let file = File::open(path).map_err(|error| {
        let error = Error::io(Code::Io, "open", &error).path(path);
        let named = path.as_os_str().as_encoded_bytes().trim_ascii_start();
        match named.starts_with(b"{") {
            true => error.hint("it names a file: a document comes from standard input, with -r -"),
            false => error,
        }
    })?;
    Resources::read_json(file).map_err(|error| error.path(path))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    fn parse(line: &str) -> Update {
        let words = std::iter::once("update").chain(line.split(' '));
        Line::try_parse_from(words).expect(line).update
    }

    #[test]
    fn every_flag_has_its_place_in_the_resources() {
        let line = "web --memory 1g --memory-swap=-1 --memory-reservation 512K --cpu-share 5 --cpu-quota -1 \
                    --cpu-period 10000 --cpu-burst 0 --cpu-rt-runtime 7 --cpu-rt-period 8 --cpu-idle 1 \
                    --cpuset-cpus 0 --cpuset-mems 0-1 --pids-limit -1 --blkio-weight 500";
        let mut object = json!({"memory": {"limit": 5, "swappiness": 3}});
        let line: Vec<&str> = line.split_whitespace().collect();
        parse(&line.join(" ")).put_into(&mut object).unwrap();
        let expected = json!({
            "memory": {"limit": 1 << 30, "swap": -1, "reservation": 512 << 10, "swappiness": 3},
            "cpu": {
                "shares": 5, "quota": -1, "period": 10000, "burst": 0, "realtimeRuntime": 7,
                "realtimePeriod": 8, "idle": 1, "cpus": "0", "mems": "0-1",
            },
            "pids": {"limit": -1}, "blockIO": {"weight": 500},
        });
        assert_eq!(object, expected);
        for (flag, section, member, _) in Update::default().flags() {
            assert!(
                line.iter().any(|word| word.split('=').next() == Some(flag)),
                "{flag}"
            );
            assert_eq!(
                Update::pointer_of(flag),
                Some(format!("/linux/resources/{section}/{member}"))
            );
        }
    }

    #[test]
    fn standard_input_is_a_dash_in_every_spelling() {
        for line in [
            "-r - web",
            "-r- web",
            "--resources - web",
            "--resources=- web",
            "web -r -",
        ] {
            assert_eq!(
                parse(line).resources.as_deref(),
                Some(Path::new("-")),
                "{line}"
            );
        }
        let named = parse("--resources=/tmp/x web").resources;
        assert_eq!(named.as_deref(), Some(Path::new("/tmp/x")));
    }

    #[test]
    fn a_number_that_can_not_be_is_refused_as_a_value() {
        for (line, why) in [
            ("web --pids-limit -7", "-1 for no limit"),
            ("web --pids-limit max", "-1 for no limit"),
            ("web --cpu-quota -2", "-1 for no limit"),
            ("web --cpu-period -1", "from 0"),
            ("web --cpu-share -1", "from 0"),
            ("web --blkio-weight -1", "-1"),
        ] {
            let words = std::iter::once("update").chain(line.split(' '));
            let problem = Line::try_parse_from(words).err().expect(line);
            assert_eq!(
                problem.kind(),
                clap::error::ErrorKind::ValueValidation,
                "{line}: {problem}"
            );
            assert!(problem.to_string().contains(why), "{line}: {problem}");
        }
    }

    #[test]
    fn flags_beside_a_document_that_is_no_object_are_refused() {
        let mut list = json!([]);
        assert!(parse("web --memory 1g").put_into(&mut list).is_err());
    }
}

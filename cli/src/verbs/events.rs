//! `events`: what a container uses, again and again, and what happens to it, a line each.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use capsid_runtime::cgroup::Stats;
use capsid_runtime::{Code, Container, Error, Event, Result};
use clap::{Args, ValueEnum};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::container_id::Id;
use crate::duration::Interval;
use crate::global::Global;
use crate::output;

const NOTES: &str = "\
Each line is a JSON object: {\"type\":\"stats\",\"id\":…,\"data\":…} after every interval, and
{\"type\":\"oom\",\"id\":…} for every process of the container that the kernel has killed for want
of memory. It ends when the container has stopped.

`--format json-v2` adds to the data: cpu.burst, blkio.ioCostUsage, -Wait, -Indebt and -Indelay, rdma and misc
(null where the kernel has no such controller here). No limit is the largest number.

DURATION is one or more numbers with the units h, m, s, ms, us or ns.

Examples:
  capsid events --stats web                what it uses now
  capsid events --interval 1m30s web";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Events {
    #[command(flatten)]
    id: Id,

    /// How long to wait before each line of stats
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5s",
        allow_hyphen_values = true
    )]
    interval: Interval,

    /// `json` is what engines read; `json-v2` has more, as told below
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Json)]
    format: Format,

    /// Print one line of stats and end
    #[arg(long)]
    stats: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    JsonV2,
}

/// The stats in one of the formats.
#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Runcs(Box<Stats>),
    Whole(serde_json::Value),
}

/// runc's envelope.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

impl Events {
    pub fn run(self, global: &Global) -> Result<u8> {
        let container = self.id.open(global, "events")?;
        match self.stats {
            true => print_stats(&container, self.format)?,
            false => follow(&container, self.interval.0, self.format)?,
        }
        Ok(0)
    }
}

/// Prints until the container has stopped.
fn follow(container: &Container, interval: Duration, format: Format) -> Result<()> {
    let mut events = container.events()?;
    let mut next = later(Instant::now(), interval);
    loop {
        wait(&events, next)?;
        for event in events.take()? {
            match event {
                Event::Stopped => return Ok(()),
                Event::Oom => print("oom", container, None)?,
                _ => {}
            }
        }
        let now = Instant::now();
        if next.is_some_and(|next| now >= next) {
            match print_stats(container, format) {
                // It has stopped this moment, which the next turn tells.
                Err(error) if error.code() == Code::NotRunning => {}
                result => result?,
            }
            next = later(now, interval);
        }
    }
}

/// None: beyond the end of time.
fn later(now: Instant, interval: Duration) -> Option<Instant> {
    now.checked_add(interval)
}

fn wait(events: &impl AsFd, until: Option<Instant>) -> Result<()> {
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(Instant::now());
        // Whole milliseconds, and not one too few.
        let left = left.saturating_add(Duration::from_micros(999));
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    let mut polled = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::call(Code::Io, "poll", errno)),
    }
}

fn print_stats(container: &Container, format: Format) -> Result<()> {
    let stats = container.stats()?;
    let data = match format {
        Format::Json => Data::Runcs(Box::new(stats)),
        Format::JsonV2 => Data::Whole(
            stats
                .with(&container.further_stats()?)
                .map_err(|error| Error::new(Code::Io, error.to_string()).doing("write JSON"))?,
        ),
    };
    print("stats", container, Some(data))
}

fn print(kind: &'static str, container: &Container, data: Option<Data>) -> Result<()> {
    let line = Line {
        r#type: kind,
        id: container.id(),
        data,
    };
    output::print(output::json_line(&line)?)
}

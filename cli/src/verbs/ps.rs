//! `ps`: the processes of a container, as the host's ps(1) shows them or as bare pids.

use std::io::ErrorKind;
use std::process::Command;

use capsid_runtime::{Code, Error, Result};
use clap::{Args, ValueEnum};

use super::container_id::{existing, open};
use super::table::columns;
use crate::global::Global;
use crate::output;

const NOTES: &str = "\
Options after the id go to ps(1), whose default is -ef; its output must have a PID column. The
pids are the host's. Without a ps(1) on the host there is a small table of capsid's own.

Examples:
  capsid ps web
  capsid ps web -o pid,args
  capsid ps --format json web";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Args)]
#[command(override_usage = "capsid ps [OPTIONS] <ID> [PS OPTION]...", after_help = NOTES)]
pub struct Ps {
    /// The container's id, then options for ps(1)
    #[arg(value_name = "ID> <PS OPTION", required = true, num_args = 1.., trailing_var_arg = true)]
    id_and_options: Vec<String>,

    /// A table for people, or a JSON array of pids
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Ps {
    pub fn run(self, global: &Global) -> Result<u8> {
        let (id, rest) = id_first(self.id_and_options);
        let (format, ps_options) = own_format(self.format, rest);
        let id = existing(&id)?;
        let pids = open(global, &id, "ps")?.processes()?;
        output::print(match format {
            Format::Json => output::json_line(&pids)?,
            Format::Table => {
                table(&pids, &ps_options).map_err(|error| error.during(format!("ps {id}")))?
            }
        })?;
        Ok(0)
    }
}

fn id_first(mut words: Vec<String>) -> (String, Vec<String>) {
    let rest = words.split_off(words.len().min(1));
    (words.pop().unwrap_or_default(), rest)
}

/// `ps ID --format json` is ours: to ps(1) those two words would mean nothing.
fn own_format(given: Format, mut rest: Vec<String>) -> (Format, Vec<String>) {
    let (value, words) = match rest.first().map(String::as_str) {
        Some("-f" | "--format") => (rest.get(1).map(String::as_str), 2),
        Some(word) => (word.strip_prefix("--format="), 1),
        None => (None, 0),
    };
    match value {
        Some("json") => (Format::Json, rest.split_off(words)),
        Some("table") => (Format::Table, rest.split_off(words)),
        _ => (given, rest),
    }
}

fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef");
    }
    let output = match ps.args(options).output() {
        Err(error) if error.kind() == ErrorKind::NotFound && options.is_empty() => {
            return Ok(own_table(pids));
        }
        Err(error) => {
            return Err(Error::io(Code::Io, "execve", &error)
                .doing("run ps")
                .hint("options after the id need the host's ps(1)"));
        }
        Ok(output) => output,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // Its usage follows, over several lines.
        let said = said.trim().lines().next().unwrap_or_default();
        let text = match said {
            "" => output.status.to_string(),
            said => format!("{}: {said}", output.status),
        };
        return Err(Error::new(Code::InvalidArgument, text)
            .doing("run ps")
            .hint("what follows the id are options of ps(1)"));
    }
    only(pids, &String::from_utf8_lossy(&output.stdout))
}

/// The header, and the lines whose PID is one of the container's.
fn only(pids: &[i32], listing: &str) -> Result<String> {
    let mut lines = listing.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|name| name == "PID") else {
        return Err(Error::new(
            Code::InvalidArgument,
            "couldn't find PID field in ps output",
        )
        .hint("leave the PID column in what the options after the id ask for"));
    };
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    let kept = std::iter::once(header).chain(lines.filter(ours));
    Ok(kept.map(|line| format!("{line}\n")).collect())
}

/// What /proc says, for hosts without a ps(1). A process that ends meanwhile is left out.
fn own_table(pids: &[i32]) -> String {
    let header = ["UID", "PID", "PPID", "STATE", "CMD"].map(str::to_owned);
    let rows = pids.iter().filter_map(|pid| row(*pid).ok());
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    columns(&rows)
}

fn row(pid: i32) -> procfs::ProcResult<[String; 5]> {
    let process = procfs::process::Process::new(pid)?;
    let stat = process.stat()?;
    let command = match process.cmdline()? {
        words if words.is_empty() => format!("[{}]", stat.comm),
        words => words.join(" "),
    };
    Ok([
        process.uid()?.to_string(),
        pid.to_string(),
        stat.ppid.to_string(),
        stat.state.to_string(),
        command
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
    ])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        ps: Ps,
    }

    fn parse(words: &[&str]) -> (Format, Vec<String>) {
        let ps = Line::try_parse_from([&["ps"], words].concat()).unwrap().ps;
        let (id, rest) = id_first(ps.id_and_options);
        assert_eq!(id, "web");
        own_format(ps.format, rest)
    }

    #[test]
    fn options_before_the_id_are_ours_and_after_it_ps1s() {
        for (words, format, rest) in [
            (&["web"][..], Format::Table, &[][..]),
            (&["--format", "json", "web"], Format::Json, &[]),
            (&["-f", "json", "web"], Format::Json, &[]),
            (&["web", "-e", "-x"], Format::Table, &["-e", "-x"]),
            (&["web", "-ef"], Format::Table, &["-ef"]),
            (&["web", "-f"], Format::Table, &["-f"]),
            (&["web", "aux"], Format::Table, &["aux"]),
            (&["web", "--format", "json"], Format::Json, &[]),
            (&["web", "--format=json"], Format::Json, &[]),
            (&["web", "-f", "json"], Format::Json, &[]),
            (
                &["web", "--format", "pid,args"],
                Format::Table,
                &["--format", "pid,args"],
            ),
        ] {
            let (parsed, options) = parse(words);
            assert_eq!(parsed, format, "{words:?}");
            assert_eq!(options, rest, "{words:?}");
        }
    }

    const LISTING: &str = "\
UID        PID  PPID  C STIME TTY          TIME CMD
root     18344     1  0 06:30 ?        00:00:00 /bin/busybox sleep 1000
root     18345 18344  0 06:30 ?        00:00:00 grep 18344
";

    #[test]
    fn only_the_containers_lines_are_kept() {
        let kept = only(&[18344], LISTING).unwrap();
        assert_eq!(kept.lines().count(), 2);
        assert!(kept.ends_with("sleep 1000\n"));
        assert_eq!(only(&[], LISTING).unwrap().lines().count(), 1);
        let error = only(&[1], "COMMAND\nx\n").unwrap_err();
        assert_eq!(error.tail(), "couldn't find PID field in ps output");
    }

    #[test]
    fn the_own_table_shows_a_living_process() {
        let pid = std::process::id() as i32;
        let text = own_table(&[pid, i32::MAX]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("UID         PID         PPID"));
        assert!(lines[1].contains(&format!(" {pid} ")), "{text}");
    }
}

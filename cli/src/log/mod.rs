//! The log that engines read: warnings and debug steps as they come, and for a failed command
//! exactly one record of level `error`, which is the last.
//!
//! It is a tracing subscriber, so that the library only has to say `warn!`. It never decides
//! whether something is an error, and never makes the runtime wait for whoever reads the log.

mod daemon;
mod record;
mod sink;
mod trace;

use std::io::ErrorKind;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use capsid_runtime::{Code, Error, Result};
use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use daemon::Daemon;
use record::Record;
use sink::{Patience, Sink};
use trace::Trace;

// Where records go, in which form, and from which level on. (A doc comment here would become
// the help of capsid.)
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LogOptions {
    /// Append log records to FILE, or `file:FILE`; a failure is then also one bare line on standard
    /// error. `journald:ID` and `syslog:ID` tell the machine's log, in the name of ID. Without it
    /// records go to standard error
    #[arg(long = "log", value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The form of a record: `text` is time="…" level=… msg="…"; `json` is one object a line
    /// with the keys level, msg and time, and code, step, path, pointer, syscall, errno and
    /// hint where they apply. With TRACEPARENT in the environment, a record of either form has its
    /// trace_id, span_id and trace_flags
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    /// Leave out what is less severe
    #[arg(long = "log-level", value_name = "LEVEL", default_value = "info")]
    pub level: Level,

    /// The same as --log-level debug, and each record says how long after the start of capsid it came, and
    /// from which place in the source
    #[arg(long)]
    pub debug: bool,
}

/// The form of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The least severe level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Error,
    Warning,
    #[default]
    Info,
    Debug,
}

impl LogOptions {
    fn filter(&self) -> LevelFilter {
        match self.level {
            _ if self.debug => LevelFilter::DEBUG,
            Level::Error => LevelFilter::ERROR,
            Level::Warning => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
        }
    }
}

/// What --log names.
enum Target {
    File(Sink),
    Daemon(Daemon),
}

impl Target {
    fn open(name: &Path) -> Result<Target> {
        let text = name.to_str().unwrap_or_default();
        if let Some((protocol, identifier)) = Daemon::named(text) {
            let daemon = Daemon::open(protocol, identifier).map_err(|(place, error)| {
                Error::io(Code::Io, "connect", &error)
                    .doing(format!("open the log {text}"))
                    .path(place)
                    .hint("nobody reads this machine's log there: name a file")
            })?;
            return Ok(Target::Daemon(daemon));
        }
        let path = text.strip_prefix("file:").map_or(name, Path::new);
        let sink = Sink::append(path).map_err(|error| cannot_open(path, &error))?;
        Ok(Target::File(sink))
    }
}

/// The open log of this command.
pub struct Log {
    target: Option<Target>,
    stderr: Sink,
    format: Format,
    filter: LevelFilter,
    /// Since when the command runs, where records are to say how long that is.
    begun: Option<Instant>,
    trace: Option<Trace>,
}

impl Log {
    /// Opens the log file, if there is one.
    pub fn open(options: &LogOptions) -> Result<Log> {
        let mut log = Log::stderr(options);
        if let Some(name) = &options.file {
            log.target = Some(Target::open(name)?);
        }
        Ok(log)
    }

    /// Standard error alone.
    pub fn stderr(options: &LogOptions) -> Log {
        Log {
            target: None,
            stderr: Sink::stderr(),
            format: options.format,
            filter: options.filter(),
            begun: options.debug.then(Instant::now),
            trace: Trace::of_the_caller(),
        }
    }

    /// For failures before the command has begun, which must be told somehow.
    pub fn open_or_stderr(options: &LogOptions) -> Log {
        Log::open(options).unwrap_or_else(|_| Log::stderr(options))
    }

    /// Takes the library's and the verbs' events from here to the end of the process, and a panic, which ends
    /// it with `code`: an abort would look like a program of a container's that was killed.
    pub fn install(self, code: u8) -> Arc<Log> {
        let log = Arc::new(self);
        let told = log.clone();
        panic::set_hook(Box::new(move |info| {
            std::process::exit(told.failed(&defect(info), code).into());
        }));
        // Refused only if an embedder's own subscriber is there, which then has the events.
        let _ = tracing::dispatcher::set_global_default(Dispatch::new(log.clone()));
        log
    }

    /// Records why the command failed and makes its exit code.
    pub fn failed(&self, error: &Error, code: u8) -> u8 {
        self.record_error(error);
        if self.target.is_some() {
            self.say(&format!("{error}\n"));
        }
        code
    }

    /// The one record of level error.
    pub fn record_error(&self, error: &Error) {
        self.write(Record::of_error(error), Patience::Brief);
    }

    /// Text for the person who typed the command.
    pub fn say(&self, text: &str) {
        self.stderr.write(text.as_bytes(), Patience::Brief);
    }

    fn write(&self, record: Record, patience: Patience) {
        let record = match &self.trace {
            Some(trace) => record.part_of(trace),
            None => record,
        };
        let sink = match &self.target {
            Some(Target::Daemon(daemon)) => return daemon.write(&record, patience),
            Some(Target::File(sink)) => sink,
            None => &self.stderr,
        };
        let line = match self.format {
            Format::Json => record.json(),
            Format::Text if sink.is_terminal() => record.plain(),
            Format::Text => record.text(),
        };
        sink.write(line.as_bytes(), patience);
    }
}

/// What a panic says, as an error.
fn defect(info: &panic::PanicHookInfo<'_>) -> Error {
    let place = info.location().map(ToString::to_string);
    let place = place.unwrap_or_else(|| "an unknown place".to_owned());
    let said = info.payload_as_str().unwrap_or("nothing");
    Error::new(Code::Internal, format!("panicked at {place}: {said}"))
        .hint("this is a defect of capsid, and worth a report")
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Error {
    let opened = Error::io(Code::Io, "open", error)
        .doing("open the log")
        .path(path);
    match error.kind() {
        ErrorKind::NotFound => opened.hint("--log makes the file, in a directory that exists"),
        _ => opened,
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.level() <= &self.filter
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter)
    }

    fn event(&self, event: &Event<'_>) {
        let after = self.begun.map(|begun| begun.elapsed());
        self.write(Record::of_event(event, after), Patience::None);
    }

    // Spans carry nothing that a record shows.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::errno::Errno;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("capsid-cli-log-{}-{name}", std::process::id()))
    }

    fn options(file: &Path, level: Level) -> LogOptions {
        LogOptions {
            file: Some(file.to_path_buf()),
            format: Format::Json,
            level,
            debug: false,
        }
    }

    /// The objects of a log file, as an engine decodes them: a stream of JSON values.
    fn objects(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap();
        fs::remove_file(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn the_error_is_the_last_record_and_the_only_one_of_its_level() {
        let path = scratch("last");
        let log = Log::open(&options(&path, Level::Info)).unwrap();
        let error = Error::call(Code::Filesystem, "fsmount", Errno::EPERM)
            .doing("mount proc on /proc")
            .at("/mounts/0");
        let dispatch = Dispatch::new(log);
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(pointer = "/process/x", "unknown capability \"CAP_X\"");
            tracing::error!("the library should not do this");
            tracing::debug!("not asked for");
        });
        let log: &Log = dispatch.downcast_ref().unwrap();
        log.record_error(&error);

        let records = objects(&path);
        let levels: Vec<&str> = records.iter().filter_map(|r| r["level"].as_str()).collect();
        assert_eq!(levels, ["warning", "warning", "error"]);
        assert_eq!(records[0]["pointer"], "/process/x");
        assert_eq!(records[2]["code"], "filesystem");
        assert_eq!(records[2]["syscall"], "fsmount");
        assert_eq!(records[2]["errno"], "EPERM");
    }

    #[test]
    fn a_second_command_appends() {
        let path = scratch("append");
        for _ in 0..2 {
            let log = Log::open(&options(&path, Level::Info)).unwrap();
            log.record_error(&Error::new(Code::NotFound, "container does not exist"));
        }
        assert_eq!(objects(&path).len(), 2);
    }

    #[test]
    fn a_log_that_cannot_be_opened_names_the_file() {
        let error = Log::open(&options(Path::new("/proc/no/log"), Level::Info));
        let text = error.err().unwrap().to_string();
        assert_eq!(
            text,
            "open the log: /proc/no/log: --log makes the file, in a directory that exists: no such file or directory"
        );
    }

    /// Where the test below runs this program again, and what it then writes to.
    const PANICS: &str = "CAPSID_TEST_PANIC_LOG";

    #[test]
    fn a_panic_is_the_one_error_and_the_commands_failure() {
        if let Some(path) = std::env::var_os(PANICS) {
            let log = Log::open(&options(Path::new(&path), Level::Info)).unwrap();
            log.install(255);
            tracing::warn!("before");
            panic!("on purpose,\nin two lines");
        }
        let path = scratch("panic");
        let me = std::env::current_exe().unwrap();
        let test = "log::tests::a_panic_is_the_one_error_and_the_commands_failure";
        let ended = std::process::Command::new(me)
            .args([test, "--exact", "--nocapture"])
            .env(PANICS, &path)
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(255));
        let records = objects(&path);
        let levels: Vec<&str> = records.iter().filter_map(|r| r["level"].as_str()).collect();
        assert_eq!(levels, ["warning", "error"]);
        assert_eq!(records[1]["code"], "internal");
        let said = records[1]["msg"].as_str().unwrap();
        assert!(
            said.contains("log/mod.rs:") && said.ends_with("on purpose,\\nin two lines"),
            "{said}"
        );
        let bare = String::from_utf8_lossy(&ended.stderr);
        assert!(bare.contains(said), "{bare}");
    }

    #[test]
    fn a_level_leaves_out_what_is_less_severe() {
        let path = scratch("level");
        let dispatch = Dispatch::new(Log::open(&options(&path, Level::Error)).unwrap());
        tracing::dispatcher::with_default(&dispatch, || tracing::warn!("quiet"));
        assert!(objects(&path).is_empty());
    }
}

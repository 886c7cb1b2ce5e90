//! One log record and its three forms. It knows nothing of where the line goes.

use std::fmt::{Debug, Write};
use std::time::{Duration, SystemTime};

use capsid_runtime::Error;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::trace::Trace;

const DEBUG: &str = "debug";
/// The key of how long the command has run.
const AFTER: &str = "after";
/// The key of an event's place in the source.
const PLACE: &str = "file";

/// What happened, when, and the extra keys of the JSON form in their order.
pub struct Record {
    level: &'static str,
    message: String,
    time: SystemTime,
    keys: Vec<(&'static str, String)>,
}

impl Record {
    pub fn of_error(error: &Error) -> Record {
        let mut record = Record::new("error");
        record.message = error.to_string();
        let keys = [
            ("code", Some(error.code().as_str().to_owned())),
            ("step", error.step().map(str::to_owned)),
            ("path", error.file().map(|path| path.display().to_string())),
            ("pointer", error.pointer().map(str::to_owned)),
            ("syscall", error.failed_call().map(str::to_owned)),
            ("errno", error.os_error().map(|errno| format!("{errno:?}"))),
            ("hint", error.advice().map(str::to_owned)),
        ];
        for (key, value) in keys {
            record.keys.extend(value.map(|value| (key, value)));
        }
        record
    }

    /// An event of the library or of a verb; `after`: how long the command has run, if it is to say so and where in
    /// the source the event is.
    pub fn of_event(event: &Event<'_>, after: Option<Duration>) -> Record {
        let metadata = event.metadata();
        let mut record = Record::new(word(*metadata.level()));
        event.record(&mut record);
        let Some(after) = after else {
            return record;
        };
        let milliseconds = format!("{:.3}ms", after.as_secs_f64() * 1e3);
        record.keys.push((AFTER, milliseconds));
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            record.keys.push((PLACE, format!("{file}:{line}")));
        }
        record
    }

    /// The same, with the keys of a trace.
    pub fn part_of(mut self, trace: &Trace) -> Record {
        self.keys.extend(trace.keys());
        self
    }

    fn new(level: &'static str) -> Record {
        Record {
            level,
            message: String::new(),
            time: SystemTime::now(),
            keys: Vec::new(),
        }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn keys(&self) -> &[(&'static str, String)] {
        &self.keys
    }

    /// The level as syslog(3) numbers it.
    pub fn severity(&self) -> u8 {
        match self.level {
            "error" => 3,
            "warning" => 4,
            "info" => 6,
            _ => 7,
        }
    }

    fn time(&self) -> String {
        humantime::format_rfc3339_seconds(self.time).to_string()
    }

    /// One JSON object on one line.
    pub fn json(&self) -> String {
        let time = self.time();
        let first = [
            ("level", self.level),
            ("msg", &self.message),
            ("time", &time),
        ];
        let keys = self.keys.iter().map(|(key, value)| (*key, value.as_str()));
        let mut line = String::from("{");
        for (key, value) in first.into_iter().chain(keys) {
            let comma = if line.len() > 1 { "," } else { "" };
            let value = serde_json::Value::from(value);
            let _ = write!(line, "{comma}\"{key}\":{value}");
        }
        line.push_str("}\n");
        line
    }

    /// The form of logrus, which is runc's: the message already says what the keys hold.
    pub fn text(&self) -> String {
        let mut line = format!("time=\"{}\" level={} msg=", self.time(), self.level);
        push_value(&mut line, &self.message);
        let is_debug = self.level == DEBUG;
        let unsaid = |key| {
            [AFTER, PLACE].contains(&key)
                || is_debug && key == "pointer"
                || Trace::KEYS.contains(&key)
        };
        for (key, value) in self.keys.iter().filter(|(key, _)| unsaid(*key)) {
            let _ = write!(line, " {key}=");
            push_value(&mut line, value);
        }
        line.push('\n');
        line
    }

    /// For a person at a terminal.
    pub fn plain(&self) -> String {
        format!("{}: {}\n", self.level, self.message)
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => self.keys.push((name, value.to_owned())),
        }
    }
}

/// Only the failure of the whole command is an error: engines take the last one for it.
fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR | Level::WARN => "warning",
        Level::INFO => "info",
        _ => DEBUG,
    }
}

/// Bare where that is unambiguous, else quoted as Go's %q quotes.
fn push_value(line: &mut String, value: &str) {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if value.chars().all(bare) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\x7f' => {
                let _ = write!(line, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use capsid_runtime::Code;
    use nix::errno::Errno;

    use super::*;

    fn record(message: &str) -> Record {
        Record {
            level: "error",
            message: message.to_owned(),
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_329_008),
            keys: Vec::new(),
        }
    }

    /// The lines are runc 1.1.5's own, but for the time.
    #[test]
    fn text_is_as_runc_writes_it() {
        for (message, line) in [
            (
                "container does not exist",
                "time=\"2026-11-22T06:30:08Z\" level=error msg=\"container does not exist\"\n",
            ),
            (
                "unknown signal \"FOO\"",
                "time=\"2026-11-22T06:30:08Z\" level=error msg=\"unknown signal \\\"FOO\\\"\"\n",
            ),
            (
                "exit status 1: error: n\n\nUsage:\n",
                "time=\"2026-11-22T06:30:08Z\" level=error msg=\"exit status 1: error: n\\n\\nUsage:\\n\"\n",
            ),
            (
                "plain/word",
                "time=\"2026-11-22T06:30:08Z\" level=error msg=plain/word\n",
            ),
        ] {
            assert_eq!(record(message).text(), line);
        }
    }

    #[test]
    fn json_has_runcs_keys_first_and_ours_after() {
        assert_eq!(
            record("container does not exist").json(),
            "{\"level\":\"error\",\"msg\":\"container does not exist\",\"time\":\"2026-11-22T06:30:08Z\"}\n"
        );
        let error = Error::call(Code::Io, "open", Errno::ENOSPC)
            .doing("write state.json")
            .path("/run/capsid/a/state.json")
            .hint("make room");
        let json = Record::of_error(&error).json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        for (key, expected) in [
            ("level", "error"),
            ("code", "io"),
            ("step", "write state.json"),
            ("path", "/run/capsid/a/state.json"),
            ("syscall", "open"),
            ("errno", "ENOSPC"),
            ("hint", "make room"),
        ] {
            assert_eq!(value[key], expected, "{key}");
        }
        assert_eq!(value.get("pointer"), None);
    }

    #[test]
    fn no_message_makes_a_second_line() {
        for message in ["a\nb", "a\u{85}b", "\x1b[31mred", "\u{2028}"] {
            assert_eq!(record(message).text().lines().count(), 1);
            assert_eq!(record(message).json().lines().count(), 1);
        }
    }
}

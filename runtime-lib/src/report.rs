//! The records that a child sends: the barrier that it has reached, what it hands to the parent, or
//! which step was refused by which call. One carries numbers and short texts only; the words are the
//! parent's.

use std::ffi::CStr;

use nix::errno::Errno;

use crate::step::Barrier;

/// The record's size: below PIPE_BUF, so that a fifo takes it whole or not at all.
pub const REPORT_BYTES: usize = 256;
const CALL: std::ops::Range<usize> = 16..40;
const NOTE: std::ops::Range<usize> = 40..REPORT_BYTES;

/// The parent's word at a barrier: go on; or take back what was made, and end.
pub const GO: [u8; 1] = *b"g";
pub const BACK: [u8; 1] = *b"b";

/// The check that what is bound on /proc is a procfs.
pub const NOT_PROCFS: &str = "procfs";

/// Why a step did not succeed, as far as the child can say it without allocating.
#[derive(Clone, Copy)]
pub struct Refused {
    /// The system call, or the word for a check that the child made itself.
    pub call: &'static str,
    pub errno: Errno,
    note: [u8; NOTE.end - NOTE.start],
}

impl Refused {
    /// `call` was refused with `errno`.
    pub fn new(call: &'static str, errno: Errno) -> Refused {
        Refused {
            call,
            errno,
            note: [0; NOTE.end - NOTE.start],
        }
    }

    /// Whether a text was added.
    pub fn has_note(&self) -> bool {
        self.note.first() != Some(&0)
    }

    /// The text that was added, for whoever doesn't send it.
    pub fn note(&self) -> String {
        let used = self.note.iter().position(|b| *b == 0).unwrap_or(0);
        String::from_utf8_lossy(self.note.get(..used).unwrap_or_default()).into_owned()
    }

    /// Adds a text, cut where the record ends: a path, an option, the kernel's own message.
    pub fn noting(mut self, text: &[u8]) -> Refused {
        let used = self.note.iter().position(|b| *b == 0).unwrap_or(0);
        let room = self.note.len() - used - 1;
        let take = text.len().min(room);
        if let (Some(to), Some(from)) = (self.note.get_mut(used..used + take), text.get(..take)) {
            to.copy_from_slice(from);
        }
        self
    }

    /// Adds what the program lacks, if there is room for all of it.
    pub fn needing(self, what: Needs, name: &[u8]) -> Refused {
        let word = Needs::ALL.iter().find(|(needs, _)| *needs == what);
        let word = word.map_or(&b""[..], |(_, word)| word.as_bytes());
        let used = self.note.iter().position(|byte| *byte == 0).unwrap_or(0);
        match used + word.len() + name.len() < self.note.len() {
            true => self.noting(word).noting(name),
            false => self,
        }
    }
}

/// What a program lacks to be executed. Its word ends the note of a refusal, and the name of the
/// thing follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Of a script's first line.
    Interpreter,
    /// The dynamic loader of an ELF file.
    Loader,
    /// Another machine than this one.
    Machine,
    /// A mount that allows execution.
    ExecMount,
}

impl Needs {
    const ALL: [(Needs, &'static str); 4] = [
        (Needs::Interpreter, "\u{1}interpreter\u{1}"),
        (Needs::Loader, "\u{1}loader\u{1}"),
        (Needs::Machine, "\u{1}machine\u{1}"),
        (Needs::ExecMount, "\u{1}exec\u{1}"),
    ];

    /// What a note says, what is needed, and its name.
    pub fn read(note: &str) -> (&str, Option<(Needs, &str)>) {
        let found = Needs::ALL.iter().find_map(|(needs, word)| {
            let (before, name) = note.split_once(word)?;
            Some((before, Some((*needs, name))))
        });
        found.unwrap_or((note, None))
    }
}

/// Names the call that refused: `openat2(…).map_err(call("openat2"))`.
pub fn call(name: &'static str) -> impl Fn(Errno) -> Refused {
    move |errno| Refused::new(name, errno)
}

/// What a child tells its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It waits at this barrier for the parent's word.
    Reached(Barrier),
    /// The intermediate has cloned the process proper.
    Forked { pid: i32 },
    /// The master of its terminal comes with this record.
    Terminal,
    /// A descriptor comes with this record: a mount, or a place for one.
    Shown,
    /// It has installed a filter, whose listener has this number, and waits for the parent.
    Listener { number: i32 },
    /// This step failed, and the child has ended.
    Failed {
        step: usize,
        errno: Errno,
        call: String,
        note: String,
    },
}

const REACHED: u32 = 1;
const FORKED: u32 = 2;
const TERMINAL: u32 = 3;
const FAILED: u32 = 4;
const LISTENER: u32 = 6;
const SHOWN: u32 = 5;

/// The bytes of a report.
pub type Record = [u8; REPORT_BYTES];

fn record(kind: u32, first: u32, second: i32) -> Record {
    let mut record = [0; REPORT_BYTES];
    record[0..4].copy_from_slice(&kind.to_ne_bytes());
    record[4..8].copy_from_slice(&first.to_ne_bytes());
    record[8..12].copy_from_slice(&second.to_ne_bytes());
    record
}

/// The record for [`Report::Reached`].
pub fn reached(barrier: Barrier) -> Record {
    record(REACHED, barrier as u32, 0)
}

/// The record for [`Report::Forked`].
pub fn forked(pid: i32) -> Record {
    record(FORKED, 0, pid)
}

/// The record for [`Report::Terminal`].
pub fn terminal() -> Record {
    record(TERMINAL, 0, 0)
}

/// The record for [`Report::Shown`].
pub fn shown() -> Record {
    record(SHOWN, 0, 0)
}

/// The record for [`Report::Listener`].
pub fn listener(number: i32) -> Record {
    record(LISTENER, 0, number)
}

/// The record for [`Report::Failed`].
pub fn failed(step: usize, refused: &Refused) -> Record {
    let mut record = record(FAILED, step as u32, refused.errno as i32);
    let name = refused.call.as_bytes();
    for (to, from) in record[CALL].iter_mut().zip(name) {
        *to = *from;
    }
    record[NOTE].copy_from_slice(&refused.note);
    record
}

impl Report {
    /// Reads a record; None when it is none of ours.
    pub fn parse(record: &Record) -> Option<Report> {
        let word = |at: usize| -> Option<u32> {
            let bytes = record.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let text = |range: std::ops::Range<usize>| {
            let bytes = record.get(range).unwrap_or_default();
            let text = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
            String::from_utf8_lossy(text).into_owned()
        };
        Some(match word(0)? {
            REACHED => Report::Reached(match word(4)? {
                n if n == Barrier::Placed as u32 => Barrier::Placed,
                n if n == Barrier::Mounted as u32 => Barrier::Mounted,
                n if n == Barrier::Ready as u32 => Barrier::Ready,
                _ => return None,
            }),
            FORKED => Report::Forked {
                pid: word(8)? as i32,
            },
            TERMINAL => Report::Terminal,
            LISTENER => Report::Listener {
                number: word(8)? as i32,
            },
            SHOWN => Report::Shown,
            FAILED => Report::Failed {
                step: word(4)? as usize,
                errno: Errno::from_raw(word(8)? as i32),
                call: text(CALL),
                note: text(NOTE),
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_record() {
        let refused = Refused::new("fsconfig", Errno::EINVAL)
            .noting(b"size")
            .noting(b": bad value");
        assert_eq!(
            Report::parse(&failed(7, &refused)),
            Some(Report::Failed {
                step: 7,
                errno: Errno::EINVAL,
                call: "fsconfig".into(),
                note: "size: bad value".into(),
            })
        );
    }

    #[test]
    fn a_long_note_is_cut_and_not_written_past_the_record() {
        let refused = Refused::new("open", Errno::ENOENT).noting(&[b'x'; 4096]);
        let Some(Report::Failed { note, .. }) = Report::parse(&failed(0, &refused)) else {
            panic!("a failure");
        };
        assert_eq!(note.len(), NOTE.end - NOTE.start - 1);
    }

    #[test]
    fn garbage_is_no_report() {
        assert_eq!(Report::parse(&[0xff; REPORT_BYTES]), None);
    }
}

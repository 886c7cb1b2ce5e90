//! A setting that will not act as it was written: what `explain` lists, `--strict` refuses, the log
//! warns of, and the state keeps.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// A setting that is ignored or downgraded, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// JSON pointer (RFC 6901) of the setting; empty for the whole file.
    pub pointer: String,
    /// What happens to it and why, as a clause.
    pub text: String,
    /// It is a member that the specification doesn't have and that is like none of it: others may
    /// put there what they like (config.md, "Extensibility"), so the log is silent about it.
    #[serde(skip)]
    pub unknown: bool,
}

impl Notice {
    /// A notice about the setting at `pointer`.
    pub fn new(pointer: impl Into<String>, text: impl Into<String>) -> Notice {
        Notice {
            pointer: pointer.into(),
            text: text.into(),
            unknown: false,
        }
    }

    /// A notice about a member that means nothing to anybody here.
    pub(crate) fn unknown(pointer: impl Into<String>, text: impl Into<String>) -> Notice {
        Notice {
            unknown: true,
            ..Notice::new(pointer, text)
        }
    }

    /// Says it in the log.
    pub fn warn(&self) {
        if !self.unknown {
            tracing::warn!(pointer = self.pointer, "{self}");
        }
    }

    /// The same, with what it came up in: `update web`.
    pub fn warn_during(&self, operation: &str) {
        if !self.unknown {
            tracing::warn!(pointer = self.pointer, "{operation}: {self}");
        }
    }

    /// Refuses the first of these, for callers who want all or nothing.
    ///
    /// # Errors
    /// [`Code::Unsupported`] with its pointer.
    pub(crate) fn refuse(notices: &[Notice]) -> Result<()> {
        let Some(first) = notices.first() else {
            return Ok(());
        };
        // Nothing happens to it: it is refused.
        let text = first.text.replacen(" is ignored", " would be ignored", 1);
        let error = Error::new(Code::Unsupported, text)
            .at(&first.pointer)
            .doing("take every setting as it is written (--strict)");
        Err(match notices.len() {
            1 => error,
            several => error.hint(format!("so are {} more; explain lists them", several - 1)),
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => f.write_str(&self.text),
            pointer => write!(f, "{pointer}: {}", self.text),
        }
    }
}

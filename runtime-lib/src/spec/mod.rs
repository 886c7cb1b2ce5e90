//! What was asked: config.json, read once into the types of `oci-spec`.
//!
//! text → [`serde_json::Value`] → tolerant pass → types. Whatever has the wrong shape is an
//! error that carries its JSON pointer; whatever the specification wants tolerated is a
//! [`Notice`]. It must not judge whether the settings fit together (that is
//! [`crate::plan::validate`]), look at the machine, or invent a value that nobody wrote.

pub mod default;
mod document;
mod features;
mod file;
mod located;
mod pattern;
mod problems;
pub mod process;
pub mod resources;
#[cfg(test)]
mod schema;
mod shape;
mod size;
mod tolerate;
mod unknown;
pub mod unsupported;
pub mod version;

use document::Document;
pub use features::{Features, features};
pub(crate) use pattern::{at, join, matches, shorten};
pub(crate) use problems::concern;
pub use resources::Resources;
pub use size::Size;
pub(crate) use unknown::nearest;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::notice::Notice;

/// The largest config.json that is read, in bytes: a thousand times what engines write.
pub const MAX_SIZE: u64 = 16 << 20;

/// One config.json (runtime-spec 1.3, config.md).
#[derive(Clone, Debug)]
pub struct Spec {
    /// The document as it was written.
    pub raw: Value,
    /// The document as types. What [`unsupported`] lists is not in here, and what the
    /// tolerant pass dropped is not either: each has its error or its notice.
    pub config: oci_spec::runtime::Spec,
    /// Settings that will not act as they were written.
    pub notices: Vec<Notice>,
    /// The text itself, for the copy that a container keeps.
    pub text: String,
}

impl Spec {
    /// Reads a config.json: a regular file of at most [`MAX_SIZE`] bytes.
    ///
    /// Errors: [`Code::Io`] when the file can't be read, [`Code::InvalidConfig`] when it is
    /// not JSON or a value has the wrong type.
    pub fn read(path: &Path) -> Result<Spec> {
        let text = file::read(path)?;
        Spec::parse(text).map_err(|error| name_the_file(error, path))
    }

    /// Reads the text of a config.json.
    ///
    /// Errors: [`Code::InvalidConfig`] when it is not JSON or a value has the wrong type.
    pub fn parse(text: impl Into<String>) -> Result<Spec> {
        let text = text.into();
        let raw = json(&text)?;
        let mut working = raw.clone();
        let mut notices = tolerate::config(&mut working);
        notices.extend(unknown::members(&raw));
        let read = match shape::config(&working).into_iter().next() {
            None => typed::<Document>(&working),
            Some(error) => Err(error),
        };
        match read {
            Ok(document) => Ok(Spec {
                config: document.into(),
                raw,
                notices,
                text,
            }),
            Err(error) => Err(error.noticing(&notices)),
        }
    }
}

/// An error about the whole document says which file it was.
fn name_the_file(error: Error, path: &Path) -> Error {
    match error.pointer() {
        None => error.path(path),
        Some(_) => error,
    }
}

/// JSON text as a value. The parser's own limit of 128 levels keeps deep nesting off the stack.
fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(Code::InvalidConfig, format!("invalid JSON: {error}")))
}

/// A value as a type.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T> {
    located::read(value).map_err(|refusal| {
        let text = pattern::shorten(&refusal.text);
        let pointer = refusal.pointer();
        let error = Error::new(Code::InvalidConfig, text);
        let error = match value.pointer(&pointer).and_then(Value::as_str) {
            Some(word) if refusal.text.contains("a whole number") => {
                number_meant(error, &pointer, word)
            }
            _ => error,
        };
        error.at(pointer)
    })
}

/// The last names of settings that are numbers of bytes.
const BYTES: [&str; 5] = [
    "/memory/limit",
    "/memory/swap",
    "/memory/reservation",
    "/memory/kernel",
    "/memory/kernelTCP",
];

/// What to write where a number is wanted and a string stands.
fn number_meant(error: Error, pointer: &str, word: &str) -> Error {
    let is_of_bytes =
        BYTES.iter().any(|name| pointer.ends_with(name)) || pointer.contains("/hugepageLimits/");
    match (word.parse::<i64>(), word.parse()) {
        (Ok(number), _) => error.hint(format!("without quotes: {number}")),
        (_, Ok(Size(bytes))) if is_of_bytes => error.hint(format!(
            "it is a number of bytes, without quotes: {word} is {bytes}"
        )),
        _ => error,
    }
}

#[cfg(test)]
mod tests;

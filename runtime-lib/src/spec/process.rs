//! process.json: what `exec --process` gets. Pointers are relative to that file.

use std::path::Path;

use oci_spec::runtime::Process;
use serde_json::{Map, Value};

use super::document::ProcessObject;
use super::{file, json, shape, tolerate, typed, unknown, unsupported};
use crate::error::Result;
use crate::notice::Notice;

/// Reads a process.json: a regular file of at most [`super::MAX_SIZE`] bytes.
///
/// Errors: as [`super::Spec::read`]; and [`crate::Code::Unsupported`] when it sets something
/// that this version does not have.
pub fn read(path: &Path) -> Result<(Process, Vec<Notice>)> {
    parse(&file::read(path)?).map_err(|error| error.path(path))
}

/// Reads the text of a process.json. Errors: as [`read`].
pub fn parse(text: &str) -> Result<(Process, Vec<Notice>)> {
    let raw = json(text)?;
    if let Some(error) = unknown::around(&raw, "/process") {
        return Err(error);
    }
    if let Some(error) = unsupported::process(&raw).into_iter().next() {
        return Err(error);
    }
    // The tables of the tolerant pass name a process where config.json has it.
    let mut document = Value::Object(Map::from_iter([("process".to_owned(), raw)]));
    let unknown = unknown::members(&document);
    let mut notices = tolerate::config(&mut document);
    notices.extend(unknown);
    for notice in &mut notices {
        unknown::within(notice, "/process");
    }
    let process = document.get("process").unwrap_or(&Value::Null);
    let read = match shape::process(process).into_iter().next() {
        None => typed::<ProcessObject>(process),
        Some(error) => Err(error),
    };
    match read {
        Ok(process) => Ok((process.into(), notices)),
        Err(error) => Err(error.noticing(&notices)),
    }
}

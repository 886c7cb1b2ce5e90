//! Everything that keeps a document from being read, not only the first of it: what is wrong is
//! put out of the way, and the rest is read again. Only a failure comes here.

use std::path::Path;

use serde_json::{Value, json};

use super::document::Document;
use super::{
    Spec, file, json as read_json, name_the_file, pattern, shape, tolerate, typed, unknown,
};
use crate::error::{Code, Error, Result};

/// How often a document is read again: whoever has made more mistakes mends these first.
const MOST: usize = 100;

impl Spec {
    /// As [`Spec::read`]; but what is wrong is listed, and the configuration is without it.
    ///
    /// Errors: as [`Spec::read`], where nothing can be read at all.
    pub fn examine(path: &Path) -> Result<(Spec, Vec<Error>)> {
        let text = file::read(path)?;
        examine(text).map_err(|error| name_the_file(error, path))
    }
}

fn examine(text: String) -> Result<(Spec, Vec<Error>)> {
    let raw = read_json(&text)?;
    let mut working = raw.clone();
    let mut notices = tolerate::config(&mut working);
    notices.extend(unknown::members(&raw));
    let mut errors = shape::config(&working);
    for error in &errors {
        put_away(&mut working, error.pointer().unwrap_or_default());
    }
    for _ in 0..MOST {
        // What is empty now may count as absent.
        tolerate::config(&mut working);
        let error = match typed::<Document>(&working) {
            Ok(document) => {
                let config = document.into();
                let spec = Spec {
                    config,
                    raw,
                    notices,
                    text,
                };
                return Ok((spec, errors));
            }
            Err(error) => error,
        };
        let pointer = error.pointer().unwrap_or_default().to_owned();
        if !concern(&errors, &pointer) {
            errors.push(error);
        }
        if !replace(&mut working, &pointer) && !put_away(&mut working, &pointer) {
            break;
        }
    }
    let unreadable = || Error::new(Code::InvalidConfig, "unreadable configuration");
    let first = errors.into_iter().next().unwrap_or_else(unreadable);
    Err(first.noticing(&notices))
}

/// Whether any of these errors is about the setting, what it is in, or what is in it.
pub(crate) fn concern(errors: &[Error], pointer: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut places = errors.iter().filter_map(Error::pointer);
    places.any(|place| within(place, pointer) || within(pointer, place))
}

/// Gives the value the type that it should have had; false where none fits.
fn replace(document: &mut Value, pointer: &str) -> bool {
    let Some(old) = document.pointer(pointer).cloned() else {
        return false;
    };
    for candidate in [json!(""), json!(0), json!(false), json!([]), json!({})] {
        if let Some(place) = document.pointer_mut(pointer) {
            *place = candidate;
        }
        let still = typed::<Document>(document).err();
        if still.is_none_or(|error| error.pointer() != Some(pointer)) {
            return true;
        }
    }
    if let Some(place) = document.pointer_mut(pointer) {
        *place = old;
    }
    false
}

/// The objects whose members are settings of their own.
const SECTIONS: [&str; 4] = ["", "/process", "/linux", "/linux/resources"];

/// Takes the setting out, with the list or the object that makes no sense without it.
fn put_away(document: &mut Value, pointer: &str) -> bool {
    let mut inner = pointer;
    let mut whole = None;
    while let Some((outer, _)) = inner.rsplit_once('/') {
        if SECTIONS.contains(&outer) {
            whole = Some(inner);
            break;
        }
        inner = outer;
    }
    whole.is_some_and(|whole| pattern::remove(document, whole).is_some())
}

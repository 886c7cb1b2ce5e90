//! Whether the standard descriptors are terminals, which, and of what size;
//! and what /dev/console is.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::termios;
use serde_json::{Map, Value, json};

use crate::Answer;
use crate::devices;
use crate::errno::Name;

pub(crate) fn standard() -> Answer {
    let mut section = Map::new();
    section.insert("0".to_owned(), terminal(io::stdin()));
    section.insert("1".to_owned(), terminal(io::stdout()));
    section.insert("2".to_owned(), terminal(io::stderr()));
    let console = devices::describe(Path::new("/dev/console"));
    section.insert("console".to_owned(), console);
    Ok(Value::Object(section))
}

fn terminal(stream: impl AsFd) -> Value {
    if !termios::isatty(&stream) {
        return json!({ "isatty": false });
    }
    // ttyname(3) by the link of /proc: the device may lie outside /dev.
    let name = match nix::unistd::ttyname(&stream) {
        Ok(name) => json!(name.to_string_lossy()),
        Err(errno) => json!({ "error": Name::from(errno).to_string() }),
    };
    let size = match termios::tcgetwinsize(&stream) {
        Ok(size) => json!({ "rows": size.ws_row, "columns": size.ws_col }),
        Err(errno) => json!({ "error": Name::from(errno).to_string() }),
    };
    json!({ "isatty": true, "name": name, "size": size })
}

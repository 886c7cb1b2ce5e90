//! The namespaces that the process is in, and the maps of its user namespace.

use std::fs;

use serde_json::{Map, Value, json};

use crate::Answer;
use crate::errno::Name;

/// The links of /proc/self/ns: two processes share a namespace when its link
/// reads the same.
pub(crate) fn namespaces() -> Answer {
    let mut links = Map::new();
    for entry in fs::read_dir("/proc/self/ns")? {
        let entry = entry?;
        let target = match fs::read_link(entry.path()) {
            Ok(target) => json!(target.to_string_lossy()),
            Err(error) => json!({ "error": Name::from(error).to_string() }),
        };
        links.insert(entry.file_name().to_string_lossy().into_owned(), target);
    }
    Ok(Value::Object(links))
}

pub(crate) fn maps() -> Answer {
    let setgroups = fs::read_to_string("/proc/self/setgroups").ok();
    Ok(json!({
        "uid_map": map("/proc/self/uid_map")?,
        "gid_map": map("/proc/self/gid_map")?,
        "setgroups": setgroups.as_deref().map(str::trim),
    }))
}

/// Rows of `[first id inside, first id outside, count]`.
fn map(path: &str) -> Result<Vec<Vec<u32>>, Name> {
    let text = fs::read_to_string(path)?;
    let mut rows = Vec::new();
    for line in text.lines() {
        let row: Result<Vec<u32>, _> = line.split_whitespace().map(str::parse).collect();
        rows.push(row.map_err(|_| "not three numbers")?);
    }
    Ok(rows)
}

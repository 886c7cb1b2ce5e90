//! /proc/self/mountinfo, row by row (proc_pid_mountinfo(5)).

use std::fs;

use serde_json::{Value, json};

use crate::Answer;

pub(crate) fn mounts() -> Answer {
    let text = fs::read("/proc/self/mountinfo")?;
    let text = String::from_utf8_lossy(&text);
    let rows: Option<Vec<Value>> = text.lines().map(row).collect();
    Ok(json!(rows.ok_or("a row of mountinfo is cut short")?))
}

fn row(line: &str) -> Option<Value> {
    // The optional fields end at a lone hyphen, the only one between spaces.
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id: u32 = fields.next()?.parse().ok()?;
    let parent: u32 = fields.next()?.parse().ok()?;
    let device = fields.next()?;
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let options: Vec<&str> = fields.next()?.split(',').collect();
    let optional: Vec<&str> = fields.collect();
    let mut file_system = file_system.split(' ');
    let fstype = file_system.next()?;
    let source = unescape(file_system.next()?);
    let super_options: Vec<&str> = file_system.next()?.split(',').collect();
    Some(json!({
        "id": id, "parent": parent, "device": device, "root": root,
        "mount_point": mount_point, "options": options, "optional": optional,
        "fstype": fstype, "source": source, "super_options": super_options,
    }))
}

/// Space, tab, newline and backslash stand as three octal digits.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

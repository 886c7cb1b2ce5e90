//! `info`: what this machine has for containers of this caller. `features` says what capsid could do anywhere.

use std::path::Path;

use capsid_runtime::Result;
use capsid_runtime::cgroup::Layout;
use capsid_runtime::host::Host;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::global::Global;
use crate::output;

const NOTES: &str = "\
Prints the kernel, the cgroups, namespaces, security modules and ids that containers of the caller
can have here. It changes nothing and needs no privileges.

Examples:
  capsid info
  capsid info --format json";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Info {
    /// How: `text` is one line a fact
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Info {
    pub fn run(self, global: &Global) -> Result<u8> {
        let facts = facts(global)?;
        match self.format {
            Format::Json => output::print(output::json(&facts, b"  ")?)?,
            Format::Text => {
                let mut text = String::new();
                lines(&mut text, "", &Value::Object(facts));
                output::print(text)?;
            }
        }
        Ok(0)
    }
}

fn facts(global: &Global) -> Result<Map<String, Value>> {
    let mut host = Host::probe()?;
    if let Some(ids) = &mut host.subordinate {
        ids.ask_elsewhere();
    }
    let system = nix::sys::utsname::uname().ok();
    let word = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let mut facts = Map::new();
    let mut add = |key: &str, value: Value| facts.insert(key.to_owned(), value);
    add("version", json!(env!("CARGO_PKG_VERSION")));
    add("commit", json!(capsid_runtime::commit()));
    add("spec", json!(capsid_runtime::OCI_VERSION));
    add("kernel", json!(system.as_ref().map(|s| word(s.release()))));
    add(
        "architecture",
        json!(system.as_ref().map(|s| word(s.machine()))),
    );
    add("root", json!(global.runtime()?.root()));
    add("rootless", json!(host.rootless()));
    add("cgroups", cgroups(&host.layout));
    add("namespaces", json!(namespaces()));
    add(
        "maxUserNamespaces",
        json!(number("/proc/sys/user/max_user_namespaces")),
    );
    add("securityModules", json!(modules()));
    add(
        "seccomp",
        json!(listed("/proc/sys/kernel/seccomp/actions_avail")),
    );
    add("systemd", json!(Path::new("/run/systemd/system").is_dir()));
    add("capabilities", json!(capabilities(&host)));
    if let Some(ids) = &host.subordinate {
        let programs = ids.helpers.as_ref().map(|(uid, gid)| [uid, gid]);
        add(
            "subordinateIds",
            json!({"uid": ids.uid, "gid": ids.gid, "programs": programs}),
        );
    }
    Ok(facts)
}

fn cgroups(layout: &Layout) -> Value {
    match layout {
        Layout::Unified { mount, own } => {
            let below = mount.join(own.strip_prefix("/").unwrap_or(own));
            let controllers = listed(below.join("cgroup.controllers"));
            json!({"version": "v2", "mount": mount, "own": own, "controllers": controllers})
        }
        Layout::Legacy {
            hierarchies,
            unified,
        } => {
            let controllers: Vec<&String> =
                hierarchies.iter().flat_map(|h| &h.controllers).collect();
            let version = if unified.is_some() { "hybrid" } else { "v1" };
            json!({"version": version, "controllers": controllers})
        }
        Layout::None => json!({"version": Value::Null}),
    }
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    text(path).trim().parse().ok()
}

fn listed(path: impl AsRef<Path>) -> Vec<String> {
    text(path).split_whitespace().map(str::to_owned).collect()
}

/// The kinds that this kernel has, each by its file.
fn namespaces() -> Vec<&'static str> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let has = |kind: &&str| Path::new("/proc/self/ns").join(kind).exists();
    kinds.into_iter().filter(has).collect()
}

fn modules() -> Vec<&'static str> {
    let files = [
        ("apparmor", "/sys/kernel/security/apparmor"),
        ("selinux", "/sys/fs/selinux/enforce"),
    ];
    let on = |(name, file): (&'static str, &str)| Path::new(file).exists().then_some(name);
    files.into_iter().filter_map(on).collect()
}

fn capabilities(host: &Host) -> Vec<String> {
    let mut held: Vec<_> = caps::all().into_iter().collect();
    held.retain(|capability| host.has(*capability));
    held.sort_by_key(caps::Capability::index);
    held.iter().map(ToString::to_string).collect()
}

/// `a.b  value`, one line each.
fn lines(text: &mut String, name: &str, value: &Value) {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                lines(text, &format!("{name}{dot}{key}"), field);
            }
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(word).collect();
            text.push_str(&format!("{name:<24}{}\n", words.join(" ")));
        }
        other => text.push_str(&format!("{name:<24}{}\n", word(other))),
    }
}

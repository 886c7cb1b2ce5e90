//! What was seen of a container, as lines `path → value` in which nothing changes from run to run: ids of
//! mounts, inodes, times and pids are left out or replaced by what they mean.

use std::collections::BTreeMap;

use serde_json::{Value, json};

#[derive(Debug, Default)]
pub struct Seen {
    lines: BTreeMap<String, String>,
    /// What the runtime wrote on stderr: shown, never compared.
    pub said: String,
}

/// One line in which two runtimes differ; an absent line reads `-`.
#[derive(Debug)]
pub struct Difference {
    pub path: String,
    pub ours: String,
    pub theirs: String,
}

/// What /proc/self/status says that no other section does.
const STATUS: &[&str] = &[
    "Cpus_allowed_list",
    "Mems_allowed_list",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "Threads",
];

impl Seen {
    pub fn add_line(&mut self, path: &str, value: String) {
        self.lines.insert(path.to_owned(), value);
    }

    pub fn add_probe(&mut self, probe: &Value) {
        for (section, value) in probe.as_object().into_iter().flatten() {
            match section.as_str() {
                "mounts" => self.add_mounts(value),
                "clocks" => self.flatten("clocks/offsets", &value["offsets"]),
                // Keys of the whole machine come and go.
                "keyring" => {}
                "namespaces" => self.add_namespaces(value),
                "pids" => self.flatten("pids", &json!(value == &json!([1]))),
                "process" => self.add_process(value),
                "fds" => self.add_descriptors(value),
                "stat" => {
                    for (path, node) in value.as_object().into_iter().flatten() {
                        for key in ["type", "mode", "uid", "gid", "error"] {
                            self.flatten(&format!("stat{path}/{key}"), &node[key]);
                        }
                    }
                }
                "status" => self.add_status(value),
                "cgroup_files" => {
                    for (path, text) in value.as_object().into_iter().flatten() {
                        let mut lines: Vec<&str> =
                            text.as_str().unwrap_or_default().lines().collect();
                        lines.sort_unstable();
                        self.add_line(&format!("limits{path}"), lines.join(", "));
                    }
                }
                "cgroup" => {
                    for row in value.as_array().into_iter().flatten() {
                        let controllers = row["controllers"].as_str().unwrap_or_default();
                        self.flatten(&format!("cgroup/{controllers}"), &row["path"]);
                    }
                }
                _ => self.flatten(section, value),
            }
        }
    }

    pub fn add_files(&mut self, files: &BTreeMap<String, String>) {
        for (path, what) in files {
            self.add_line(&format!("rootfs/{path}"), what.clone());
        }
    }

    /// The keys of an object and the types of their values.
    pub fn add_shape(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    self.add_shape(&format!("{path}/{key}"), value);
                }
            }
            Value::Array(list) => {
                for value in list {
                    self.add_shape(&format!("{path}/*"), value);
                }
            }
            Value::String(_) => self.add_line(path, "string".to_owned()),
            Value::Number(_) => self.add_line(path, "number".to_owned()),
            Value::Bool(_) => self.add_line(path, "bool".to_owned()),
            Value::Null => self.add_line(path, "null".to_owned()),
        }
    }

    /// Where two runtimes differ.
    pub fn differences(&self, peer: &Seen) -> Vec<Difference> {
        let value = |lines: &BTreeMap<String, String>, path: &str| {
            lines.get(path).map_or("-", String::as_str).to_owned()
        };
        let mut paths: Vec<&String> = self.lines.keys().chain(peer.lines.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        if self.lines.get("exit") != peer.lines.get("exit") {
            // One of them saw nothing, and that is the difference.
            paths.retain(|path| *path == "exit");
        }
        let failed_alone = self.lines.get("exit") != peer.lines.get("exit");
        let value = |seen: &Seen, path: &str| match path {
            "exit" if failed_alone => format!("{}{}", value(&seen.lines, path), seen.last_words()),
            _ => value(&seen.lines, path),
        };
        paths
            .into_iter()
            .map(|path| Difference {
                path: path.clone(),
                ours: value(self, path),
                theirs: value(peer, path),
            })
            .filter(|difference| difference.ours != difference.theirs)
            .collect()
    }

    /// Of one that failed: ` (` and the last line that it wrote.
    fn last_words(&self) -> String {
        match (
            self.lines.get("exit").map(String::as_str),
            self.said.lines().last(),
        ) {
            (None | Some("0"), _) | (_, None) => String::new(),
            (_, Some(line)) => format!(" ({})", line.trim()),
        }
    }

    /// Objects become paths; everything else is one value.
    fn flatten(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    self.flatten(&format!("{path}/{key}"), value);
                }
            }
            Value::String(text) => self.add_line(path, text.clone()),
            other => self.add_line(path, other.to_string()),
        }
    }

    /// Rows by mount point, the ones on top of each other numbered from below.
    fn add_mounts(&mut self, rows: &Value) {
        let rows: Vec<&Value> = rows.as_array().into_iter().flatten().collect();
        let parent_of = |row: &Value| rows.iter().find(|other| other["id"] == row["parent"]);
        for row in &rows {
            let point = row["mount_point"].as_str().unwrap_or_default();
            // The table has the order in which mounts were made, which need not be that of the attaching.
            let below = std::iter::successors(parent_of(row), |row| parent_of(row));
            let layer = below.take_while(|row| row["mount_point"] == point).count();
            let parent = parent_of(row);
            let mut plain = json!({
                "root": row["root"],
                "parent": parent.map(|parent| &parent["mount_point"]),
                "fstype": row["fstype"],
                "source": row["source"],
                "options": sorted(&row["options"]),
                "super_options": sorted(&row["super_options"]),
            });
            let optional: Vec<Value> = row["optional"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|field| json!(field.as_str().and_then(|text| text.split(':').next())))
                .collect();
            plain["propagation"] = json!(optional);
            self.flatten(&format!("mounts{point}#{layer}"), &plain);
        }
    }

    /// Without the signals 32 and 33, which belong to libc: what this machine's session ignores
    /// of them is no runtime's doing.
    fn add_status(&mut self, status: &Value) {
        const LIBC: u64 = 0b11 << 31;
        for key in STATUS {
            let text = status[*key].as_str().unwrap_or_default();
            let mask = key
                .starts_with("Sig")
                .then(|| u64::from_str_radix(text, 16).ok());
            let plain = match mask.flatten() {
                Some(signals) => format!("{:x}", signals & !LIBC),
                None => text.to_owned(),
            };
            self.add_line(&format!("status/{key}"), plain);
        }
    }

    /// The test's own, or another.
    fn add_namespaces(&mut self, namespaces: &Value) {
        for (kind, link) in namespaces.as_object().into_iter().flatten() {
            let own = std::fs::read_link(format!("/proc/self/ns/{kind}"));
            let same = own.is_ok_and(|own| link.as_str() == own.to_str());
            let word = if same { "the host's" } else { "another" };
            self.add_line(&format!("namespaces/{kind}"), word.to_owned());
        }
    }

    fn add_process(&mut self, process: &Value) {
        self.flatten("process/is_init", &process["is_init"]);
        let pid = &process["pid"];
        let parent = if process["ppid"] == 0 {
            "outside"
        } else {
            "inside"
        };
        self.add_line("process/parent", parent.to_owned());
        for key in ["pgid", "sid"] {
            let word = match &process[key] {
                id if id == pid => "own",
                id if *id == json!(0) => "outside",
                _ => "another",
            };
            self.add_line(&format!("process/{key}"), word.to_owned());
        }
    }

    fn add_descriptors(&mut self, rows: &Value) {
        for row in rows.as_array().into_iter().flatten() {
            let target = row["target"].as_str().unwrap_or_default();
            let target: String = target.chars().filter(|c| !c.is_ascii_digit()).collect();
            let path = format!("fds/{}", row["fd"]);
            self.add_line(&format!("{path}/target"), target);
            self.flatten(&format!("{path}/flags"), &row["flags"]);
        }
    }
}

fn sorted(list: &Value) -> Value {
    let mut words: Vec<&str> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    words.sort_unstable();
    json!(words.join(","))
}

//! Writing the settings of a directory, and saying all about a write that was refused.
//!
//! The values are the planner's; here is only their order and their errors.

use std::path::Path;

use nix::errno::Errno;

use super::file;
use super::limits::Setting;
use crate::error::{Code, Error, Result, errno_text};

/// What can be done about files that are not there: a controller that is enabled. The error
/// says why it cannot be.
pub(super) type Enable<'a> = &'a dyn Fn() -> std::result::Result<(), String>;

/// Writes the settings of one directory, in the order of the table. `enable` is called at
/// most once, when a file is missing.
///
/// # Errors
/// [`Code::Cgroup`], with the file, the value, the JSON pointer and what the kernel accepts.
pub(super) fn write_all(
    dir: &Path,
    settings: &[&Setting],
    enable: Option<Enable<'_>>,
) -> Result<()> {
    let mut writer = Writer {
        dir,
        enable,
        why_not: None,
    };
    let mut rest = settings;
    while let [setting, after @ ..] = rest {
        rest = after;
        match writer.write(setting) {
            Err(Errno::EINVAL) if setting.row.with_next => {
                if let [next, after @ ..] = rest
                    && next.row.controller == setting.row.controller
                {
                    rest = after;
                    writer.settle(next)?;
                }
                writer.settle(setting)?;
            }
            result => writer.judge(setting, result)?,
        }
    }
    Ok(())
}

struct Writer<'a> {
    dir: &'a Path,
    enable: Option<Enable<'a>>,
    why_not: Option<String>,
}

impl Writer<'_> {
    fn write(&mut self, setting: &Setting) -> nix::Result<()> {
        match self.try_write(setting) {
            Err(Errno::ENOENT) => match self.enable.take() {
                Some(enable) => {
                    self.why_not = enable().err();
                    self.try_write(setting)
                }
                None => Err(Errno::ENOENT),
            },
            other => other,
        }
    }

    fn try_write(&self, setting: &Setting) -> nix::Result<()> {
        let written = file::write_lines(&self.dir.join(&*setting.file), &setting.value);
        match (written, &setting.otherwise) {
            (Err(Errno::ENOENT), Some((file, value))) => file::write(&self.dir.join(file), value),
            (written, _) => written,
        }
    }

    fn settle(&mut self, setting: &Setting) -> Result<()> {
        let result = self.write(setting);
        self.judge(setting, result)
    }

    fn judge(&self, setting: &Setting, result: nix::Result<()>) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) if setting.may_be_absent() => Ok(()),
            Err(errno) => Err(self.refused(setting, errno)),
        }
    }

    /// The file that was written to at last, and what: the other one only where there is no first.
    fn tried_last<'s>(&self, setting: &'s Setting) -> (&'s str, &'s str) {
        match &setting.otherwise {
            Some((file, value)) if !self.dir.join(&*setting.file).exists() => (file, value),
            _ => (&setting.file, &setting.value),
        }
    }

    /// An error that says all about a write.
    fn refused(&self, setting: &Setting, errno: Errno) -> Error {
        let (file, value) = self.tried_last(setting);
        let path = self.dir.join(file);
        let error = Error::new(Code::Cgroup, self.tail(setting, &path, errno))
            .syscall("write")
            .errno(errno)
            .doing(format!("set {file} to {value}"))
            .at(setting.pointer())
            .path(path);
        let controller = setting.controller();
        let hint = match errno {
            Errno::ENOENT => match &self.why_not {
                Some(why) => why.clone(),
                None => missing(setting, controller),
            },
            Errno::EBUSY => "more is in use already".to_owned(),
            Errno::EOPNOTSUPP if setting.controller_v2() == "io" => {
                "nothing weighs on this disk: its scheduler (queue/scheduler in /sys/block) is not \
                 bfq, nor are its costs counted (io.cost.qos)"
                    .to_owned()
            }
            Errno::EOPNOTSUPP => "the parent is in a threaded subtree (cgroup.type)".to_owned(),
            Errno::ENODEV => match setting.row.range {
                "" => "there is no such device".to_owned(),
                range => range.to_owned(),
            },
            Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC => setting.row.range.to_owned(),
            Errno::EACCES | Errno::EPERM => match setting.row.range {
                "" => "no permission".to_owned(),
                range => format!("{range}; or no permission"),
            },
            _ => String::new(),
        };
        match hint.as_str() {
            "" => error,
            hint => error.hint(hint),
        }
    }

    /// What the kernel said, or what follows from it in runc's words.
    fn tail(&self, setting: &Setting, path: &Path, errno: Errno) -> String {
        let said = format!("write {}: {}", path.display(), errno_text(errno));
        let absent = matches!(errno, Errno::ENOENT | Errno::EACCES | Errno::EPERM);
        let controller = setting.controller();
        if setting.is_unified() {
            let key = &setting.file;
            return match absent && controller != "cgroup" && !self.has(controller) {
                true => format!(
                    "unified resource {key:?} can't be set: controller {controller:?} not available"
                ),
                false => format!("unable to set unified resource {key:?}: {said}"),
            };
        }
        if errno == Errno::EBUSY && setting.file == "memory.limit_in_bytes" {
            let read = |name: &str| file::read_line(&self.dir.join(name)).unwrap_or_default();
            let usage = read("memory.usage_in_bytes");
            let peak = read("memory.max_usage_in_bytes");
            let limit = &setting.value;
            return format!(
                "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
            );
        }
        said
    }

    /// Whether the directory has this controller of cgroup v2.
    fn has(&self, controller: &str) -> bool {
        let list = file::read_line(&self.dir.join("cgroup.controllers")).unwrap_or_default();
        list.split(' ').any(|name| name == controller)
    }
}

fn missing(setting: &Setting, controller: &str) -> String {
    if !setting.row.missing.is_empty() {
        return setting.row.missing.to_owned();
    }
    match controller {
        "hugetlb" => match huge_page_sizes().as_slice() {
            [] => "this machine has no huge pages".to_owned(),
            sizes => format!("this machine has pages of {}", sizes.join(", ")),
        },
        _ if setting.is_unified() => "the kernel has no such file".to_owned(),
        controller => format!("the {controller} controller is not available here"),
    }
}

/// The sizes of this machine's huge pages, as the controller calls them.
fn huge_page_sizes() -> Vec<String> {
    let named = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        Some(kib)
    };
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let mut sizes: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(named)
        .collect();
    sizes.sort_unstable();
    let name = |kib: u64| match kib {
        kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    };
    sizes.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cgroup::Group;
    use crate::cgroup::limits::{Limits, Version};

    /// What is written for these resources into a directory that stands in for a controller's, and has
    /// these files.
    fn written(
        version: Version,
        controller: &str,
        files: &[&str],
        resources: &Value,
    ) -> Result<Vec<(String, String)>> {
        let place = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(place.path().join(file), "").unwrap();
        }
        let typed = serde_json::from_value(resources.clone()).unwrap();
        let limits = Limits::read(version, Some(&typed), Some(resources))?;
        let group = Group {
            controllers: vec![controller.to_owned()],
            mount: place.path().to_owned(),
            path: "/".into(),
        };
        write_all(place.path(), &limits.of(&group), None)?;
        let text = |file: &&str| {
            let text = std::fs::read_to_string(place.path().join(file)).unwrap();
            (!text.is_empty()).then(|| ((*file).to_owned(), text))
        };
        Ok(files.iter().filter_map(text).collect())
    }

    #[test]
    fn controllers_that_no_kernel_of_ours_has_get_their_values_in_their_files() {
        let class = json!({"network": {"classID": 1_048_577}});
        let priority = json!({"network": {"priorities": [{"name": "lo", "priority": 5}]}});
        let rdma = json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 100}}});
        let handles = json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}});
        let misc = json!({"unified": {"misc.max": "sev 1"}});
        let weight = json!({"blockIO": {"weight": 500}});
        let device =
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 300}]}});
        let both = &["io.bfq.weight", "io.weight"][..];
        for (version, controller, files, resources, file, value) in [
            (
                Version::V1,
                "net_cls",
                &["net_cls.classid"][..],
                &class,
                "net_cls.classid",
                "1048577",
            ),
            (
                Version::V1,
                "net_prio",
                &["net_prio.ifpriomap"],
                &priority,
                "net_prio.ifpriomap",
                "lo 5",
            ),
            (
                Version::V1,
                "rdma",
                &["rdma.max"],
                &rdma,
                "rdma.max",
                "mlx5_1 hca_handle=3 hca_object=100",
            ),
            (
                Version::V2,
                "",
                &["rdma.max"],
                &handles,
                "rdma.max",
                "mlx5_1 hca_handle=3",
            ),
            (Version::V2, "", &["misc.max"], &misc, "misc.max", "sev 1"),
            (Version::V2, "", both, &weight, "io.bfq.weight", "500"),
            (
                Version::V2,
                "",
                &["io.weight"],
                &weight,
                "io.weight",
                "4950",
            ),
            (Version::V2, "", both, &device, "io.bfq.weight", "8:0 300"),
            (
                Version::V2,
                "",
                &["io.weight"],
                &device,
                "io.weight",
                "8:0 2930",
            ),
            (
                Version::V1,
                "blkio",
                &["blkio.weight"],
                &weight,
                "blkio.weight",
                "500",
            ),
        ] {
            let found = written(version, controller, files, resources).unwrap();
            assert_eq!(found, [(file.to_owned(), value.to_owned())], "{resources}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_value_that_it_would_get() {
        let weight = json!({"blockIO": {"weight": 500}});
        let error = written(Version::V2, "", &[], &weight)
            .unwrap_err()
            .to_string();
        assert!(error.contains("set io.weight to 4950"), "{error}");
        assert!(
            error.contains("no scheduler that weighs is loaded"),
            "{error}"
        );
        let class = json!({"network": {"classID": 7}});
        let error = written(Version::V1, "net_cls", &[], &class).unwrap_err();
        assert_eq!(error.pointer(), Some("/linux/resources/network/classID"));
    }
}

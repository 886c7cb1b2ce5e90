//! With which system calls a mount is made: what `explain` shows below the step. They are
//! what the child does for the same fields; nothing is decided here. Where what it does depends
//! on what it finds, both are shown; of a mount that has another in its place where the kernel
//! refuses it, those of the first.

use super::{Attributes, Mount, Populate, Root, Source, Step, Way};

/// Makes a file system that is attached nowhere yet.
const FRESH: [&str; 3] = ["fsopen", "fsconfig", "fsmount"];

impl Step {
    /// The calls of a step that mounts, in their order; empty for any other, and for those that
    /// the module excepts.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        match self {
            Step::Mount(mount) | Step::MountOr { mount, .. } => mount.calls(),
            Step::Attributes { .. } | Step::Protect { .. } => vec!["mount_setattr"],
            Step::Reconfigure { .. } => vec!["fspick", "fsconfig"],
            Step::OpenRoot(Root::Bind { .. }) => vec!["open_tree", "move_mount"],
            Step::OpenRoot(Root::Overlay { .. }) => [&FRESH[..], &["move_mount"]].concat(),
            Step::ReadOnlyPath(_) => vec!["open_tree", "mount_setattr", "move_mount"],
            Step::Mask { .. } => vec![
                "open_tree (of /dev/null, or of one empty tmpfs: fsopen, fsconfig, fsmount)",
                "move_mount",
            ],
            Step::Populate(populate) => populate.calls(),
            _ => Vec::new(),
        }
    }
}

impl Populate {
    fn calls(&self) -> Vec<&'static str> {
        let mut calls = Vec::new();
        for node in &self.nodes {
            let call = match node.way {
                Way::Make => "mknodat",
                Way::MakeOrBind(_) => "mknodat (refused: open_tree, mount_setattr, move_mount)",
                Way::Bind(_) => "open_tree, mount_setattr, move_mount",
                Way::Expect => "openat2, fstat",
            };
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
        calls
    }
}

impl Mount {
    fn calls(&self) -> Vec<&'static str> {
        let mut calls = Vec::new();
        let wanted = &self.attributes;
        let owners = self.owners.is_some();
        let mut flags = wanted.recursive_set | wanted.recursive_clear;
        match &self.source {
            Source::New { options, .. } => {
                if options.iter().any(|option| !option.directories.is_empty()) {
                    calls.push("openat");
                }
                calls.extend(FRESH);
                if self.copy_up {
                    calls.push("getdents64, sendfile");
                }
            }
            Source::Made { .. } => {
                calls.push("fsopen, fsconfig, fsmount (the parent)");
                flags |= wanted.set | wanted.clear;
            }
            Source::Opened { .. } => {
                calls.push("open_tree (the parent)");
                flags |= wanted.set | wanted.clear;
            }
            Source::Bind { .. } | Source::Held { .. } => {
                calls.push("open_tree");
                flags |= wanted.set | wanted.clear;
            }
        }
        match &self.source {
            Source::Opened { .. } | Source::Made { .. } if owners => {
                calls.push("mount_setattr MOUNT_ATTR_IDMAP (the parent)")
            }
            _ if owners => calls.push("mount_setattr MOUNT_ATTR_IDMAP"),
            _ => {}
        }
        if flags != 0 {
            calls.push("mount_setattr");
        }
        calls.push("move_mount");
        if wanted.propagates() {
            calls.push("mount_setattr");
        }
        calls
    }
}

impl Attributes {
    fn propagates(&self) -> bool {
        self.propagation | self.recursive_propagation != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{SourceLink, Target};

    #[test]
    fn a_bind_is_made_by_the_calls_that_its_options_need() {
        let mount = |attributes| {
            Step::Mount(Mount {
                source: Source::Bind {
                    path: c"/a".to_owned(),
                    recursive: false,
                },
                target: Target::new("/b").unwrap(),
                attributes,
                inherit_mode: false,
                kept: None,
                copy_up: false,
                source_link: SourceLink::Follow,
                owners: None,
            })
        };
        let plain = mount(Attributes::default()).calls();
        assert_eq!(plain, ["open_tree", "move_mount"]);
        let asked = mount(Attributes {
            set: libc::MOUNT_ATTR_RDONLY,
            propagation: libc::MS_SLAVE,
            ..Attributes::default()
        });
        let expected = ["open_tree", "mount_setattr", "move_mount", "mount_setattr"];
        assert_eq!(asked.calls(), expected);
        let Step::Mount(bind) = mount(Attributes::default()) else {
            unreachable!("it is a mount");
        };
        let either = Step::MountOr {
            mount: bind.clone(),
            otherwise: Box::new(bind),
        };
        assert_eq!(either.calls(), plain);
        assert_eq!(Step::PivotRoot.calls(), Vec::<&str>::new());
    }
}

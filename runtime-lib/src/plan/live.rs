//! A mount that comes into a container that runs, and one that goes. Whoever does it has
//! joined the container's mount namespace, and its user namespace where it has one; the source
//! is opened outside, by whom the caller's rights allow.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, Mount as Entry};

use super::draft::{c_string, target};
use super::labels::label_mounts;
use super::mount_options::{flags, refuse_data};
use super::wanted::{Wanted, over_proc};
use super::{Open, Plan};
use crate::error::{Code, Error, Result};
use crate::host::Modules;
use crate::step::{Barrier, Mount, Root, Source, SourceLink, Step, Target};

/// The container, and how the caller stands to it.
#[derive(Debug)]
pub struct Entrance {
    /// A pidfd of the container's init.
    pub init: OwnedFd,
    /// The user and mount namespaces of init that are not the caller's.
    pub namespaces: CloneFlags,
    /// The caller has CAP_SYS_ADMIN, and so may clone its own mounts.
    pub may_clone: bool,
}

/// What `mounts add` knows besides the container.
#[derive(Debug)]
pub struct AddRequest<'a> {
    /// As in `mounts` of config.json; a bind where it has no type.
    pub entry: &'a Entry,
    /// The source of a bind; absolute.
    pub source: PathBuf,
    /// It lies in a sysfs or cgroup file system of the caller's, or has one below it.
    pub shows_cgroups: bool,
    /// The container's own configuration: its rootfsPropagation and mountLabel.
    pub linux: Option<&'a Linux>,
    pub modules: Modules,
}

/// The plan of one more mount in a container.
///
/// # Errors
/// Each carries a JSON pointer into the entry.
pub fn add_mount(entrance: Entrance, request: &AddRequest) -> Result<Plan> {
    let mut plan = Plan::empty();
    let wanted = wanted(request.entry, &mut plan)?;
    let propagation = request
        .linux
        .and_then(|linux| linux.rootfs_propagation().as_deref());
    let propagation = inherited(propagation, &entrance);
    let fresh = wanted.options.bind.is_none();
    let source = match wanted.options.bind {
        None => fresh_tmpfs(&wanted)?,
        Some(recursive) => {
            let path = bind_source(&wanted, &request.source)?;
            match entrance.may_clone {
                true => Source::Opened {
                    tree: plan.open(Open::Tree {
                        path: request.source.clone(),
                        recursive,
                        follow: true,
                        owners: None,
                        propagation,
                        pointer: "/source".to_owned(),
                    }),
                    path,
                    recursive,
                },
                false => Source::Held { path, recursive },
            }
        }
    };
    let hold = match &source {
        Source::Held { path, recursive } => Some(Step::HoldTree {
            path: path.clone(),
            recursive: *recursive,
            propagation,
        }),
        _ => None,
    };
    let other_user = entrance.namespaces.contains(CloneFlags::CLONE_NEWUSER);
    let attributes = wanted.bound_attributes(request.shows_cgroups, other_user);
    enter(entrance, hold, &mut plan);
    let target = wanted.target;
    plan.step(Step::MakeMount(Mount {
        source,
        target: target.clone(),
        attributes,
        inherit_mode: fresh && wanted.options.value("mode").is_none(),
        copy_up: false,
        kept: None,
        source_link: SourceLink::Follow,
        owners: None,
    }));
    plan.step(Step::Meet(Barrier::Ready));
    plan.step(Step::AttachMount { attributes, target });
    plan.step(Step::Finish);
    label_mounts(request.linux, request.modules, &mut plan)?;
    Ok(plan)
}

/// The plan of unmounting what is on `point`, a path of the container without symbolic links.
///
/// # Errors
/// The path is none.
pub fn remove_mount(entrance: Entrance, point: &Path, lazy: bool) -> Result<Plan> {
    let mut plan = Plan::empty();
    let text = point
        .to_str()
        .ok_or_else(|| Error::new(Code::InvalidArgument, "the path is not UTF-8").path(point))?;
    let mount = target(text, "/destination")?.plain();
    let (directory, name) = split(&mount, text)?;
    enter(entrance, None, &mut plan);
    plan.step(Step::FindMount {
        directory: directory.clone(),
        name: name.clone(),
    });
    plan.step(Step::Meet(Barrier::Ready));
    plan.step(Step::Unmount {
        directory,
        name,
        lazy,
    });
    plan.step(Step::Finish);
    Ok(plan)
}

/// The plan of a child that shows the root of the container's mount namespace, and sees from there
/// what is mounted; init may have changed its own root.
pub fn see_mounts(entrance: Entrance) -> Plan {
    let mut plan = Plan::empty();
    enter(entrance, None, &mut plan);
    plan.step(Step::ShowRoot);
    plan.step(Step::Meet(Barrier::Ready));
    plan.step(Step::Finish);
    plan
}

/// The words of an entry, and what only a container in the making may ask for.
fn wanted<'a>(entry: &'a Entry, plan: &mut Plan) -> Result<Wanted<'a>> {
    let refuse = |tail: &str, at: &str| Err(Error::new(Code::InvalidArgument, tail).at(at));
    let Some(destination) = entry.destination().to_str() else {
        return refuse("the path is not UTF-8", "/destination");
    };
    let source = entry.source().as_deref().unwrap_or(Path::new(""));
    if source.to_str().is_none() {
        return refuse(
            "the path is not UTF-8, and the list of mounts is JSON",
            "/source",
        );
    }
    if target(destination, "/destination")?.is_root() {
        return refuse("it would hide the whole container", "/destination");
    }
    let mut wanted = Wanted::parse(entry, String::new(), plan)?;
    if over_proc(wanted.place()) {
        // What is meant for such a file must not be led to another by a link.
        wanted.target = wanted.target.plain();
    }
    if wanted.options.remount {
        return refuse("a mount that is there can't be changed", "/options");
    }
    match (wanted.fstype, wanted.options.bind) {
        (_, Some(_)) | ("tmpfs", None) => {}
        _ => {
            return refuse(
                "only binds and tmpfs can be added to a running container",
                "/type",
            );
        }
    }
    let options = &wanted.options;
    if options.copy_up || options.source_link.is_some() || wanted.asks_for_maps().is_some() {
        let tail = "idmap, tmpcopyup, copy-symlink and src-nofollow are for a container in the \
                    making";
        return refuse(tail, "/options");
    }
    if !wanted.options.superblock.is_empty() && wanted.options.bind.is_some() {
        return refuse("a bind has no file system of its own to set up", "/options");
    }
    Ok(wanted)
}

fn fresh_tmpfs(wanted: &Wanted) -> Result<Source> {
    let mut options = flags(wanted.options.superblock.iter(), "/options")?;
    options.extend(wanted.options.data.iter().cloned());
    let label = match wanted.source() {
        "" => "tmpfs",
        label => label,
    };
    Ok(Source::New {
        fstype: c"tmpfs".to_owned(),
        label: c_string(label, "/source")?,
        options,
    })
}

fn bind_source(wanted: &Wanted, source: &Path) -> Result<CString> {
    refuse_data(&wanted.options.data, Code::InvalidArgument)
        .map_err(|error| error.at("/options"))?;
    if wanted.source().is_empty() {
        let tail = "a bind mount needs a source";
        return Err(Error::new(Code::InvalidArgument, tail).at("/source"));
    }
    c_string(source.as_os_str().as_encoded_bytes(), "/source")
}

/// The propagation of a clone of the host's, as a mount of config.json would have it: the
/// container sees what is mounted on the host later, and never the other way round, unless its
/// root shares with the host.
fn inherited(wanted: Option<&str>, entrance: &Entrance) -> u64 {
    let same_user = !entrance.namespaces.contains(CloneFlags::CLONE_NEWUSER);
    match wanted {
        Some("shared" | "rshared") if same_user => 0,
        Some("private" | "rprivate") => libc::MS_PRIVATE,
        _ => libc::MS_SLAVE,
    }
}

/// Into the container's mount and user namespaces, with the ids of its root.
fn enter(entrance: Entrance, hold: Option<Step>, plan: &mut Plan) {
    let other_user = entrance.namespaces & CloneFlags::CLONE_NEWUSER;
    plan.step(Step::ResetSignals);
    // Where the pid namespace is shared, the container can see this process.
    plan.step(Step::Undumpable);
    let process = plan.open(Open::Descriptor(entrance.init));
    plan.step(Step::CloseHostFds { preserve: 0 });
    let join = |namespaces| Step::JoinProcess {
        process,
        namespaces,
    };
    match hold {
        None => plan.step(join(entrance.namespaces)),
        Some(hold) => {
            // Mounts are cloned by whom their namespace belongs to: the container's root has a
            // copy of the host's made, clones from that, and leaves it.
            if !other_user.is_empty() {
                plan.step(join(other_user));
            }
            plan.step(Step::Unshare(CloneFlags::CLONE_NEWNS));
            plan.step(hold);
            plan.step(join(CloneFlags::CLONE_NEWNS));
        }
    }
    if !other_user.is_empty() {
        plan.step(Step::BecomeRoot);
    }
    plan.step(Step::Umask(0));
    plan.step(Step::OpenRoot(Root::Current));
}

/// The directory that a mount point lies in, and its name there.
fn split(mount: &Target, text: &str) -> Result<(Target, CString)> {
    let path = mount.path.to_str().unwrap_or_default();
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == "." {
        let tail = format!("{text} is no place for a mount");
        return Err(Error::new(Code::InvalidArgument, tail).at("/destination"));
    }
    let directory = target(directory, "/destination")?.plain();
    Ok((directory, c_string(name, "/destination")?))
}

/// Whether a path of the container is one of the few of /proc that may be covered.
pub fn may_cover_proc(destination: &str) -> bool {
    target(destination, "/destination")
        .is_ok_and(|target| target.path.to_str().is_ok_and(over_proc))
}

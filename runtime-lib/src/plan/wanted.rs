//! The entries of `mounts`: what one asks for, and what it can't have whatever the machine.

use std::path::Path;

use oci_spec::runtime::Mount as Entry;

use super::Plan;
use super::draft::{target, text};
use super::mount_options::Options;
use crate::error::{Code, Error, Result};
use crate::spec::shorten;
use crate::step::{Attributes, Links, SourceLink, Target, words};

/// The files below /proc that lxcfs and the like may be mounted over.
const OVER_PROC: [&str; 10] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// A mount of the configuration, before its step is written down.
#[derive(Clone)]
pub(super) struct Wanted<'a> {
    pub entry: &'a Entry,
    pub pointer: String,
    pub fstype: &'a str,
    pub destination: &'a str,
    pub target: Target,
    pub options: Options,
    /// See [`Mount::kept`].
    pub kept: Option<usize>,
}

impl<'a> Wanted<'a> {
    /// The entry at this JSON pointer.
    pub(super) fn parse(entry: &'a Entry, pointer: String, plan: &mut Plan) -> Result<Wanted<'a>> {
        let here = format!("{pointer}/destination");
        let destination = text(entry.destination(), &here)?;
        if let Some(source) = entry.source() {
            text(source, &format!("{pointer}/source"))?;
        }
        let mut options = Options::parse(entry.options().as_deref().unwrap_or_default(), &pointer)?;
        plan.notices.append(&mut options.notices);
        let fstype = entry.typ().as_deref().unwrap_or_default();
        if fstype == "bind" && options.bind.is_none() {
            options.bind = Some(false);
        }
        let mut target = target(destination, &here)?;
        if options.onto_link {
            target.links = Links::KeepLast;
        }
        let shows_kernel = options.bind.is_none() && ["proc", "sysfs"].contains(&fstype);
        if shows_kernel || target.path.to_bytes() == b"dev" {
            target = target.plain();
        }
        let wanted = Wanted {
            entry,
            fstype,
            destination,
            target,
            options,
            pointer,
            kept: None,
        };
        refuse_place(&wanted)?;
        wanted.refuse_words()?;
        wanted.note_words(plan);
        Ok(wanted)
    }

    /// Refuses words that this kind of mount can't follow.
    fn refuse_words(&self) -> Result<()> {
        let (options, at) = (&self.options, |word: &str| self.option_pointer(word));
        let refused = |tail: &str, word| {
            let error = Error::new(Code::InvalidConfig, tail);
            Err(error.at(at(word)))
        };
        if options.copy_up && (options.bind.is_some() || self.fstype != "tmpfs") {
            return refused("tmpcopyup needs a mount of type tmpfs", "tmpcopyup");
        }
        if options.copy_up && self.target.is_root() {
            return refused("tmpcopyup can't copy the whole root", "tmpcopyup");
        }
        Ok(())
    }

    /// Notes words that have no effect on this kind of mount, and what a place hides.
    fn note_words(&self, plan: &mut Plan) {
        let options = &self.options;
        if options.bind.is_some() && !options.remount {
            let flags = options.superblock.iter().chain(&options.superblock_back);
            for word in flags {
                let text = format!(
                    "{word} has no effect on a bind: it is the whole file system's, which \
                     belongs to others too"
                );
                plan.note(self.option_pointer(word), text);
            }
        }
        if options.bind.is_none() {
            let word = match options.source_link {
                Some(SourceLink::Copy) => "copy-symlink",
                Some(_) => "src-nofollow",
                None => "",
            };
            if !word.is_empty() {
                let text = format!("{word} has no effect: only a bind has a source to follow");
                plan.note(self.option_pointer(word), text);
            }
        }
        if self.target.is_root() && !options.remount {
            let text = "it covers the root filesystem, and the mounts before it";
            plan.note(format!("{}/destination", self.pointer), text);
        }
    }

    /// JSON pointer of one of the options.
    pub(super) fn option_pointer(&self, said: &str) -> String {
        let words = self.entry.options().as_deref().unwrap_or_default();
        match words.iter().position(|word| word == said) {
            Some(n) => format!("{}/options/{n}", self.pointer),
            None => format!("{}/options", self.pointer),
        }
    }

    /// The path below the root, without a leading slash; "." is the root.
    pub(super) fn place(&self) -> &str {
        self.target.path.to_str().unwrap_or_default()
    }

    pub(super) fn source(&self) -> &'a str {
        let source = self.entry.source().as_deref();
        source.and_then(Path::to_str).unwrap_or_default()
    }

    pub(super) fn read_only(&self) -> bool {
        self.options.attributes.set & libc::MOUNT_ATTR_RDONLY != 0
    }

    /// What a bind is given in a container with a user namespace, or without. A recursive one that
    /// is read-only is so all the way down where it shows cgroups: else those below it stay
    /// writable for whoever owns them (CVE-2023-25809).
    pub(super) fn bound_attributes(&self, shows_cgroups: bool, other_user: bool) -> Attributes {
        let mut attributes = self.options.attributes;
        if self.options.bind == Some(true) && other_user && shows_cgroups {
            attributes.recursive_set |= attributes.set & libc::MOUNT_ATTR_RDONLY;
        }
        attributes
    }

    /// Whether it is mounted writable first, because files are made in it.
    pub(super) fn filled_later(&self) -> bool {
        self.options.bind.is_none() && (self.fstype == "tmpfs" || self.place() == "dev")
    }
}

/// Whether a path below the root is one of the few in /proc that may be covered.
pub(super) fn over_proc(place: &str) -> bool {
    OVER_PROC.contains(&place)
}

/// Refuses to cover what processes trust in /proc (CVE-2019-16884).
pub(super) fn refuse_place(wanted: &Wanted) -> Result<()> {
    let Wanted {
        destination,
        fstype,
        ..
    } = wanted;
    let tail = match wanted.place() {
        "proc" if wanted.options.bind.is_none() && *fstype != "proc" => {
            let error = Error::new(Code::InvalidConfig, words::not_procfs(destination));
            let fstype = shorten(fstype);
            return Err(error
                .at(format!("{}/type", wanted.pointer))
                .hint(format!("its type is {fstype:?}")));
        }
        place if place.starts_with("proc/") && !over_proc(place) => {
            format!("{destination:?} cannot be mounted because it is inside /proc")
        }
        _ => return Ok(()),
    };
    Err(Error::new(Code::InvalidConfig, tail).at(format!("{}/destination", wanted.pointer)))
}

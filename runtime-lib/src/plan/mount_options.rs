//! What the words in a mount's `options` mean (runtime-spec config.md "Linux mount options",
//! mount(8)). A word that is not in the table belongs to the file system.
//!
//! When two words contradict each other, the last one wins. It must not know of mount types.

use libc::{
    MOUNT_ATTR__ATIME as ATIME, MOUNT_ATTR_NOATIME as NOATIME, MOUNT_ATTR_NODEV as NODEV,
    MOUNT_ATTR_NODIRATIME as NODIRATIME, MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID,
    MOUNT_ATTR_RDONLY as RDONLY, MOUNT_ATTR_RELATIME as RELATIME,
    MOUNT_ATTR_STRICTATIME as STRICTATIME, MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE,
};

use super::draft::c_string;
use crate::error::{Code, Error, Result};
use crate::notice::Notice;
use crate::spec::{nearest, shorten};
use crate::step::{Attributes, FsOption, SourceLink};
use crate::sys::MOUNT_ATTR_NOSYMFOLLOW as NOSYMFOLLOW;

/// What one word does.
#[derive(Clone, Copy)]
enum Effect {
    /// Sets or clears a MOUNT_ATTR_* bit of this mount.
    Set(u64),
    Clear(u64),
    /// How access times are kept: one value of the MOUNT_ATTR__ATIME group.
    Atime(u64),
    /// Takes back a value of that group that an earlier word has set.
    NotAtime(u64),
    /// The same for this mount and all below it.
    SetAll(u64),
    ClearAll(u64),
    AtimeAll(u64),
    NotAtimeAll(u64),
    /// Propagation of this mount, or of it and all below it.
    Propagate(u64),
    PropagateAll(u64),
    /// A flag of the superblock, for fsconfig(2); one that is there already is taken back by
    /// a word of its own, if it can be.
    Flag(&'static str),
    NoFlag {
        flag: &'static str,
        back: &'static str,
    },
    Bind,
    BindAll,
    Remount,
    /// The owners of files are seen through maps: those of this mount, or with all below it.
    MapOwners,
    MapOwnersAll,
    CopyUp,
    CopyLink,
    BindLink,
    OntoLink,
    Nothing,
    /// The kernel has no such setting (any more) in the mount API that we use.
    Void(&'static str),
}
use Effect::*;

const INODE_VERSIONS: &str = "the file system decides on inode versions";
const KERNEL_LOG: &str = "it only concerned messages in the kernel's log";

/// The words, in the order of the specification's tables.
const WORDS: &[(&str, Effect)] = &[
    ("defaults", Nothing),
    ("bind", Bind),
    ("rbind", BindAll),
    ("remount", Remount),
    ("ro", Set(RDONLY)),
    ("rw", Clear(RDONLY)),
    ("nosuid", Set(NOSUID)),
    ("suid", Clear(NOSUID)),
    ("nodev", Set(NODEV)),
    ("dev", Clear(NODEV)),
    ("noexec", Set(NOEXEC)),
    ("exec", Clear(NOEXEC)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("symfollow", Clear(NOSYMFOLLOW)),
    ("nodiratime", Set(NODIRATIME)),
    ("diratime", Clear(NODIRATIME)),
    ("atime", Atime(RELATIME)),
    ("noatime", Atime(NOATIME)),
    ("relatime", Atime(RELATIME)),
    ("norelatime", NotAtime(RELATIME)),
    ("strictatime", Atime(STRICTATIME)),
    ("nostrictatime", NotAtime(STRICTATIME)),
    ("rro", SetAll(RDONLY)),
    ("rrw", ClearAll(RDONLY)),
    ("rnosuid", SetAll(NOSUID)),
    ("rsuid", ClearAll(NOSUID)),
    ("rnodev", SetAll(NODEV)),
    ("rdev", ClearAll(NODEV)),
    ("rnoexec", SetAll(NOEXEC)),
    ("rexec", ClearAll(NOEXEC)),
    ("rnosymfollow", SetAll(NOSYMFOLLOW)),
    ("rsymfollow", ClearAll(NOSYMFOLLOW)),
    ("rnodiratime", SetAll(NODIRATIME)),
    ("rdiratime", ClearAll(NODIRATIME)),
    ("ratime", AtimeAll(RELATIME)),
    ("rnoatime", AtimeAll(NOATIME)),
    ("rrelatime", AtimeAll(RELATIME)),
    ("rnorelatime", NotAtimeAll(RELATIME)),
    ("rstrictatime", AtimeAll(STRICTATIME)),
    ("rnostrictatime", NotAtimeAll(STRICTATIME)),
    ("shared", Propagate(MS_SHARED)),
    ("slave", Propagate(MS_SLAVE)),
    ("private", Propagate(MS_PRIVATE)),
    ("unbindable", Propagate(MS_UNBINDABLE)),
    ("rshared", PropagateAll(MS_SHARED)),
    ("rslave", PropagateAll(MS_SLAVE)),
    ("rprivate", PropagateAll(MS_PRIVATE)),
    ("runbindable", PropagateAll(MS_UNBINDABLE)),
    ("sync", Flag("sync")),
    (
        "async",
        NoFlag {
            flag: "sync",
            back: "async",
        },
    ),
    ("dirsync", Flag("dirsync")),
    ("lazytime", Flag("lazytime")),
    (
        "nolazytime",
        NoFlag {
            flag: "lazytime",
            back: "nolazytime",
        },
    ),
    ("mand", Flag("mand")),
    (
        "nomand",
        NoFlag {
            flag: "mand",
            back: "nomand",
        },
    ),
    ("iversion", Void(INODE_VERSIONS)),
    ("noiversion", Void(INODE_VERSIONS)),
    ("silent", Void(KERNEL_LOG)),
    ("loud", Void(KERNEL_LOG)),
    ("idmap", MapOwners),
    ("ridmap", MapOwnersAll),
    ("tmpcopyup", CopyUp),
    ("copy-symlink", CopyLink),
    ("src-nofollow", BindLink),
    ("dest-nofollow", OntoLink),
];

/// Every word that has a meaning here, for the features document.
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _)| *word)
}

/// Words that set up a file system, as fsconfig(2) takes them.
pub(super) fn flags<'w>(
    words: impl Iterator<Item = &'w &'w str>,
    at: &str,
) -> Result<Vec<FsOption>> {
    let flag = |word: &&str| {
        let key = c_string(*word, at)?;
        Ok(FsOption {
            key,
            ..FsOption::default()
        })
    };
    words.map(flag).collect()
}

/// Refuses options for a file system where there is none of the mount's own: a word that is no
/// mount option is taken for one of them.
pub(super) fn refuse_data(data: &[FsOption], code: Code) -> Result<()> {
    let Some(option) = data.first() else {
        return Ok(());
    };
    let word = option.key.to_string_lossy();
    let tail = "bind mounts cannot have any filesystem-specific options applied";
    let doing = format!("{:?} is no mount option", shorten(&word));
    let error = Error::new(code, tail).doing(doing);
    Err(match nearest(&word, known()) {
        Some(meant) => error.hint(format!("{meant:?} may be meant")),
        None => error,
    })
}

/// What was meant by an option that a file system doesn't know, if it is like those that are not
/// for file systems.
pub(crate) fn instead_of_data(option: &str) -> Option<String> {
    // A file system's own parser may have split it.
    if option.contains(',') || known().any(|known| known == option) {
        return Some("each option is a string of its own, without a comma".to_owned());
    }
    let meant = nearest(option, known())?;
    Some(format!("{meant:?} may be meant"))
}

/// The propagation that a word asks for, and whether all below gets it as well.
pub(super) fn propagation(word: &str) -> Option<(u64, bool)> {
    let (_, effect) = WORDS.iter().find(|(known, _)| *known == word)?;
    match effect {
        Propagate(propagation) => Some((*propagation, false)),
        PropagateAll(propagation) => Some((*propagation, true)),
        _ => None,
    }
}

/// A mount's options, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub attributes: Attributes,
    /// For fsconfig(2): flags of the superblock, then the file system's own, in their order.
    pub superblock: Vec<&'static str>,
    /// Words that take such flags back.
    pub superblock_back: Vec<&'static str>,
    pub data: Vec<FsOption>,
    /// A bind mount; true: with all mounts below it.
    pub bind: Option<bool>,
    /// It changes the mount that is there already.
    pub remount: bool,
    pub map_owners: Option<MapOwners>,
    /// tmpcopyup
    pub copy_up: bool,
    /// What is done with a source that is a link, when not what it leads to is bound.
    pub source_link: Option<SourceLink>,
    /// dest-nofollow
    pub onto_link: bool,
    /// Words without an effect, with the reason.
    pub notices: Vec<Notice>,
}

/// `idmap` or `ridmap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MapOwners {
    /// For all mounts below as well.
    pub recursive: bool,
    /// The maps that came with the word: `uids=…;gids=…`.
    pub inline: Option<String>,
    /// JSON pointer of the word.
    pub pointer: String,
}

impl Options {
    /// Reads the words of the mount at `pointer`.
    pub(super) fn parse(words: &[String], pointer: &str) -> Result<Options> {
        let mut options = Options::default();
        for (n, word) in words.iter().enumerate() {
            let here = || format!("{pointer}/options/{n}");
            let (name, inline) = match word.split_once('=') {
                Some((name @ ("idmap" | "ridmap"), maps)) => (name, Some(maps.to_owned())),
                _ => (word.as_str(), None),
            };
            match WORDS.iter().find(|(known, _)| *known == name) {
                Some((_, Void(reason))) => {
                    let text = format!("{word} has no effect: {reason}");
                    options.notices.push(Notice::new(here(), text));
                }
                Some((_, effect @ (MapOwners | MapOwnersAll))) => {
                    options.map_owners = Some(self::MapOwners {
                        recursive: matches!(effect, MapOwnersAll),
                        inline,
                        pointer: here(),
                    });
                }
                Some((_, effect)) => options.apply(*effect),
                None => options.file_system(word, &here())?,
            }
        }
        Ok(options)
    }

    /// The value of one of the file system's own options; the last one counts.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        let same = |option: &&FsOption| option.key.to_bytes() == key.as_bytes();
        let found = self.data.iter().rev().find(same)?;
        found.value.as_deref()?.to_str().ok()
    }

    fn apply(&mut self, effect: Effect) {
        let a = &mut self.attributes;
        match effect {
            Set(bit) => turn(&mut a.set, &mut a.clear, bit),
            Clear(bit) => turn(&mut a.clear, &mut a.set, bit),
            Atime(value) => atime(&mut a.set, &mut a.clear, value),
            NotAtime(value) => not_atime(&mut a.set, &mut a.clear, value),
            SetAll(bit) => {
                turn(&mut a.recursive_set, &mut a.recursive_clear, bit);
                forget(a, bit);
            }
            ClearAll(bit) => {
                turn(&mut a.recursive_clear, &mut a.recursive_set, bit);
                forget(a, bit);
            }
            AtimeAll(value) => {
                atime(&mut a.recursive_set, &mut a.recursive_clear, value);
                forget(a, ATIME);
            }
            NotAtimeAll(value) => {
                not_atime_all(&mut a.recursive_set, &mut a.recursive_clear, value)
            }
            Propagate(kind) => a.propagation = kind,
            PropagateAll(kind) => a.recursive_propagation = kind,
            Flag(flag) => {
                if !self.superblock.contains(&flag) {
                    self.superblock.push(flag);
                }
                self.superblock_back.retain(|back| !back.ends_with(flag));
            }
            NoFlag { flag, back } => {
                self.superblock.retain(|set| *set != flag);
                self.superblock_back.push(back);
            }
            Bind => self.bind = Some(self.bind.unwrap_or(false)),
            BindAll => self.bind = Some(true),
            Remount => self.remount = true,
            CopyUp => self.copy_up = true,
            CopyLink => self.source_link = Some(SourceLink::Copy),
            BindLink => self.source_link = Some(SourceLink::Bind),
            OntoLink => self.onto_link = true,
            Nothing | Void(_) | MapOwners | MapOwnersAll => {}
        }
    }

    /// `key`, `key=value`, or several of them with commas between, as mount(8) takes them.
    fn file_system(&mut self, word: &str, pointer: &str) -> Result<()> {
        for part in split_at_commas(word) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key, Some(unquoted(key, value))),
                None => (part, None),
            };
            self.data.push(FsOption {
                key: c_string(key, pointer)?,
                value: value.map(|value| c_string(value, pointer)).transpose()?,
                ..FsOption::default()
            });
        }
        Ok(())
    }
}

/// Sets a bit on one side and takes it off the other.
fn turn(on: &mut u64, off: &mut u64, bit: u64) {
    *on |= bit;
    *off &= !bit;
}

/// What an earlier word has said of this mount alone, a later one of all below it overrules. (The
/// other way round both hold: the child does what is of this mount alone last.)
fn forget(attributes: &mut Attributes, bits: u64) {
    attributes.set &= !bits;
    attributes.clear &= !bits;
}

/// mount_setattr(2): the whole group has to be cleared for any value of it to be set.
fn atime(set: &mut u64, clear: &mut u64, value: u64) {
    *set = *set & !ATIME | value;
    *clear |= ATIME;
}

/// Without a value, mount_setattr(2) goes back to the kernel's own way, relatime.
fn not_atime_all(set: &mut u64, clear: &mut u64, value: u64) {
    match *clear & ATIME {
        0 if value != RELATIME => *clear |= ATIME,
        _ if *set & ATIME == value => *set &= !ATIME,
        _ => {}
    }
}

fn not_atime(set: &mut u64, clear: &mut u64, value: u64) {
    if *clear & ATIME != 0 && *set & ATIME == value {
        *set &= !ATIME;
        *clear &= !ATIME;
    }
}

/// A comma after a backslash belongs to the value (overlayfs paths are written so), and so does
/// one between quotation marks (SELinux contexts are).
fn split_at_commas(word: &str) -> impl Iterator<Item = &str> {
    let (mut escaped, mut quoted) = (false, false);
    word.split(move |c| {
        let comma = c == ',' && !escaped && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        comma
    })
    .filter(|part| !part.is_empty())
}

/// fsconfig(2) takes a value as it is: the quotation marks of an SELinux context were for
/// mount(2), which cuts at commas.
fn unquoted<'a>(key: &str, value: &'a str) -> &'a str {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    match inner {
        Some(inner) if CONTEXTS.contains(&key) => inner,
        _ => value,
    }
}

/// The options of SELinux (mount(8)).
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Options::parse(&words, "/mounts/0").unwrap()
    }

    #[test]
    fn every_word_is_in_the_table_once() {
        for (n, (word, _)) in WORDS.iter().enumerate() {
            assert!(
                !WORDS[n + 1..].iter().any(|(other, _)| other == word),
                "{word}"
            );
        }
    }

    #[test]
    fn what_explain_says_of_an_attribute_is_its_word() {
        for (word, effect) in WORDS {
            let attributes = match *effect {
                Set(bit) => Attributes {
                    set: bit,
                    ..Attributes::default()
                },
                Clear(bit) => Attributes {
                    clear: bit,
                    ..Attributes::default()
                },
                _ => continue,
            };
            assert_eq!(attributes.to_string(), format!(" ({word})"));
        }
    }

    #[test]
    fn every_attribute_has_a_recursive_form() {
        let attribute = |effect| matches!(effect, Set(_) | Clear(_) | Atime(_) | NotAtime(_));
        for (word, effect) in WORDS.iter().filter(|(_, effect)| attribute(*effect)) {
            let twin = WORDS.iter().find(|(other, _)| *other == format!("r{word}"));
            let same = match (effect, twin.map(|(_, effect)| *effect)) {
                (Set(a), Some(SetAll(b))) | (Clear(a), Some(ClearAll(b))) => *a == b,
                (Atime(a), Some(AtimeAll(b))) | (NotAtime(a), Some(NotAtimeAll(b))) => *a == b,
                _ => false,
            };
            assert!(same, "{word}");
        }
    }

    #[test]
    fn the_last_of_two_words_that_contradict_each_other_wins() {
        let options = parse(&[
            "ro",
            "nosuid",
            "rw",
            "noatime",
            "strictatime",
            "sync",
            "async",
        ]);
        assert_eq!(options.attributes.set, NOSUID | STRICTATIME);
        assert_eq!(options.attributes.clear, RDONLY | ATIME);
        assert!(options.superblock.is_empty());
        assert_eq!(parse(&["bind", "rbind"]).bind, Some(true));
    }

    #[test]
    fn of_a_word_for_one_mount_and_one_for_all_the_last_holds_for_the_one() {
        let options = parse(&["nodev", "noatime", "rdev", "rrelatime"]).attributes;
        assert_eq!((options.set, options.clear), (0, 0));
        let options = parse(&["rro", "rnoatime", "rw", "relatime"]).attributes;
        assert_eq!((options.set, options.clear), (RELATIME, RDONLY | ATIME));
        assert_eq!(options.recursive_set, RDONLY | NOATIME);
    }

    #[test]
    fn a_way_to_keep_access_times_clears_its_whole_group() {
        // mount_setattr(2) refuses to set one value without it.
        for word in ["noatime", "strictatime", "relatime", "atime"] {
            assert_eq!(parse(&[word]).attributes.clear, ATIME, "{word}");
            let all = parse(&[&format!("r{word}")]).attributes;
            assert_eq!(all.recursive_clear, ATIME, "r{word}");
        }
        assert_eq!(parse(&["strictatime", "nostrictatime"]), Options::default());
        assert_eq!(parse(&["nostrictatime"]), Options::default());
    }

    #[test]
    fn what_is_no_word_goes_to_the_file_system() {
        let options = parse(&["size=64k,mode=700", "lowerdir=/a\\,b", "acl"]);
        let text = |option: &FsOption| match &option.value {
            Some(value) => format!(
                "{}={}",
                option.key.to_str().unwrap(),
                value.to_str().unwrap()
            ),
            None => option.key.to_str().unwrap().to_owned(),
        };
        let data: Vec<String> = options.data.iter().map(text).collect();
        assert_eq!(data, ["size=64k", "mode=700", "lowerdir=/a\\,b", "acl"]);
        assert_eq!(options.value("mode"), Some("700"));
    }

    #[test]
    fn a_context_keeps_its_commas_and_loses_its_quotes() {
        let options = parse(&[
            r#"size=1m,context="system_u:object_r:t:s0:c1,c2""#,
            "x=\"y\"",
        ]);
        let value = |key| options.value(key).unwrap();
        assert_eq!(value("context"), "system_u:object_r:t:s0:c1,c2");
        assert_eq!((value("size"), value("x")), ("1m", "\"y\""));
    }

    #[test]
    fn a_flag_of_the_file_system_is_taken_back_by_its_own_word() {
        let options = parse(&["async", "sync", "nolazytime", "dirsync"]);
        assert_eq!(options.superblock, ["sync", "dirsync"]);
        assert_eq!(options.superblock_back, ["nolazytime"]);
    }

    #[test]
    fn a_recursive_no_goes_back_to_the_kernels_own_way() {
        let all = |words| parse(words).attributes;
        assert_eq!(all(&["rnostrictatime"]).recursive_clear, ATIME);
        assert_eq!(all(&["rnoatime", "rnostrictatime"]).recursive_set, NOATIME);
        let taken = all(&["rstrictatime", "rnostrictatime"]);
        assert_eq!((taken.recursive_set, taken.recursive_clear), (0, ATIME));
        assert_eq!(all(&["rnorelatime"]), Attributes::default());
    }

    #[test]
    fn maps_may_come_with_the_word() {
        let words = ["ro", "ridmap=uids=0-1-2;gids=0-3-4"];
        let asked = parse(&words).map_owners.unwrap();
        assert!(asked.recursive);
        assert_eq!(asked.inline.as_deref(), Some("uids=0-1-2;gids=0-3-4"));
        assert_eq!(asked.pointer, "/mounts/0/options/1");
        let asked = parse(&["idmap"]).map_owners.unwrap();
        assert_eq!((asked.recursive, asked.inline), (false, None));
    }

    #[test]
    fn a_word_that_the_kernel_has_dropped_is_noticed() {
        let options = parse(&["nodev", "iversion"]);
        assert_eq!(options.notices[0].pointer, "/mounts/0/options/1");
    }
}

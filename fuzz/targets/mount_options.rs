//! The words of a mount's `options`: what they come to is told by `explain`, and by a model of the rule that
//! of two words which contradict each other the last one wins.

use std::collections::BTreeMap;

use capsid_fuzz::{Bundle, fuzz, is_one_line};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a bind may be asked for, in pairs that contradict each other.
const PAIRS: [(&str, &str); 6] = [
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("nodiratime", "diratime"),
    ("nosymfollow", "symfollow"),
];
const TIMES: [&str; 4] = ["noatime", "relatime", "strictatime", "atime"];
const PROPAGATION: [&str; 4] = ["shared", "slave", "private", "unbindable"];
/// What is something else, or nearly a word.
const OTHERS: [&str; 24] = [
    "defaults",
    "loud",
    "iversion",
    "remount",
    "idmap",
    "ridmap",
    "idmap=uids=0-1-2",
    "tmpcopyup",
    "copy-symlink",
    "src-nofollow",
    "dest-nofollow",
    "size=1m",
    "size=",
    "=",
    ",",
    "ro,rw",
    "RO",
    "ro ",
    "r",
    "rr",
    "rrro",
    "mode=0755",
    "lowerdir=/a\\,b:/c",
    "norelatime",
];

fn known() -> impl Strategy<Value = String> {
    let mut words: Vec<String> = Vec::new();
    let pairs = PAIRS.iter().flat_map(|(on, off)| [*on, *off]);
    for word in pairs.chain(TIMES).chain(PROPAGATION) {
        words.extend([word.to_owned(), format!("r{word}")]);
    }
    prop::sample::select(words)
}

fn any_words() -> impl Strategy<Value = Vec<String>> {
    let other = prop::sample::select(&OTHERS[..]).prop_map(str::to_owned);
    let word = prop_oneof![4 => known(), 2 => other, 1 => "[a-z=,\\\\\\x00\\nä]{0,10}", 1 => any::<String>()];
    prop::collection::vec(word, 0..10)
}

/// The options of the last mount, as the plan prints them; None where it has none of its own.
fn planned(
    bundle: &Bundle,
    kind: &str,
    words: &[String],
) -> Result<Vec<String>, capsid_runtime::Error> {
    let mount: Value =
        json!({"destination": "/mnt", "type": kind, "source": "/etc", "options": words});
    let config = json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "mounts": [mount],
        "linux": {"namespaces": [{"type": "mount"}]},
    });
    let plan = bundle.explain(&config)?;
    let step = plan
        .steps
        .iter()
        .find(|step| step.pointer.as_deref() == Some("/mounts/0"));
    let text = step.map(|step| step.step.clone()).unwrap_or_default();
    let inside = text
        .rsplit_once(" (")
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    Ok(inside.map_or_else(Vec::new, |list| {
        list.split(", ").map(str::to_owned).collect()
    }))
}

/// What the last word of each kind comes to: for the mount itself, and for it and all below.
fn model(words: &[String]) -> BTreeMap<String, String> {
    let mut settled = BTreeMap::new();
    for word in words {
        let (recursive, plain) = match word.strip_prefix('r') {
            Some(rest) if subject(rest).is_some() => (true, rest),
            _ => (false, word.as_str()),
        };
        let Some((subject, value)) = subject(plain) else {
            continue;
        };
        let propagates = subject == "propagation";
        let below = format!("r{subject}");
        if recursive {
            settled.insert(below, format!("r{value}"));
            if !propagates {
                settled.remove(subject);
            }
        } else {
            settled.insert(subject.to_owned(), value.to_owned());
        }
    }
    settled
}

/// What a word is about, and what it says of it.
fn subject(word: &str) -> Option<(&'static str, &'static str)> {
    let pair = PAIRS.iter().find_map(|&(on, off)| match word {
        _ if word == on => Some((on, on)),
        _ if word == off => Some((on, off)),
        _ => None,
    });
    let time = TIMES.iter().find(|time| **time == word);
    let time = time.map(|time| ("times", if *time == "atime" { "relatime" } else { *time }));
    let kind = PROPAGATION.iter().find(|kind| **kind == word);
    pair.or(time).or(kind.map(|kind| ("propagation", *kind)))
}

#[test]
fn of_words_that_contradict_each_other_the_last_wins() {
    let bundle = Bundle::new();
    let words = prop::collection::vec(known(), 0..12);
    fuzz("mount_options_model", words, |mut words| {
        let mut expected: Vec<String> = model(&words).into_values().collect();
        words.insert(0, "rbind".to_owned());
        let mut planned = planned(&bundle, "bind", &words).expect("known words");
        expected.sort();
        planned.sort();
        prop_assert_eq!(planned, expected);
        Ok(())
    });
}

#[test]
fn what_is_printed_means_the_same_again() {
    let bundle = Bundle::new();
    let words = prop::collection::vec(known(), 0..12);
    fuzz("mount_options_printed", words, |mut words| {
        words.insert(0, "rbind".to_owned());
        let once = planned(&bundle, "bind", &words).expect("known words");
        let again = [&["rbind".to_owned()], &once[..]].concat();
        let twice = planned(&bundle, "bind", &again).expect("its own words");
        prop_assert_eq!(once, twice);
        Ok(())
    });
}

#[test]
fn any_words_are_understood_or_refused_by_their_place() {
    let bundle = Bundle::new();
    let kinds = prop::sample::select(&["bind", "tmpfs", "overlay", "none", "proc", ""][..]);
    fuzz(
        "mount_options",
        (kinds, any_words()),
        |(kind, words)| match planned(&bundle, kind, &words) {
            Ok(_) => Ok(()),
            Err(error) => {
                is_one_line(&error)?;
                let pointer = error.pointer().unwrap_or_default();
                prop_assert!(pointer.starts_with("/mounts/0"), "{}", error);
                Ok(())
            }
        },
    );
}

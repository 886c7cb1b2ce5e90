//! What `update` gets: an object as /linux/resources of config.json has it, with only what is
//! to change. Pointers are relative to that object.
//!
//! Engines fill in Go's zeros and the device rules of the container for what they leave alone:
//! neither is taken for a wish. It must not know which values a container has.

use std::io::Read;

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::{MAX_SIZE, json as parse, shape, tolerate, typed, unknown};
use crate::error::{Code, Error, Result};
use crate::notice::Notice;

/// Where config.json has it.
pub(crate) const AT: &str = "/linux/resources";

/// Settings that a zero, or an empty text, leaves as they are. (Create takes them so as well, but for
/// the number of tasks: cgroup/limits/asked.rs, where a test compares the two.)
pub(crate) const ZERO_LEAVES: &[&str] = &[
    "/memory/limit",
    "/memory/swap",
    "/memory/reservation",
    "/memory/kernel",
    "/memory/kernelTCP",
    "/cpu/shares",
    "/cpu/quota",
    "/cpu/period",
    "/cpu/realtimeRuntime",
    "/cpu/realtimePeriod",
    "/cpu/cpus",
    "/cpu/mems",
    "/pids/limit",
    "/blockIO/weight",
    "/blockIO/leafWeight",
    "/network/classID",
];

/// The limit of memory and swap together: memory without a limit, and not a word of swap, means both.
pub(crate) fn memory_and_swap(limit: Option<i64>, swap: Option<i64>) -> Option<i64> {
    swap.or(limit.filter(|limit| *limit == -1))
}

/// Lists of which an update has only some elements, and what tells one from another.
const KEYED: &[(&str, &[&str])] = &[
    ("/blockIO/weightDevice", &["major", "minor"]),
    ("/blockIO/throttleReadBpsDevice", &["major", "minor"]),
    ("/blockIO/throttleWriteBpsDevice", &["major", "minor"]),
    ("/blockIO/throttleReadIOPSDevice", &["major", "minor"]),
    ("/blockIO/throttleWriteIOPSDevice", &["major", "minor"]),
    ("/hugepageLimits", &["pageSize"]),
    ("/network/priorities", &["name"]),
];

/// New values for some of a container's resources.
#[derive(Clone, Debug)]
pub struct Resources {
    /// What is asked for: no zeros that leave, no device rules.
    asked: Value,
    /// The device rules that came along.
    devices: Option<Value>,
    notices: Vec<Notice>,
}

impl Resources {
    /// Reads JSON to its end: of a file, or of whatever stands for one.
    ///
    /// # Errors
    /// [`Code::Io`]; [`Code::InvalidConfig`] when it is no JSON, or not the object itself.
    pub fn read_json(source: impl Read) -> Result<Value> {
        let mut text = String::new();
        source
            .take(MAX_SIZE + 1)
            .read_to_string(&mut text)
            .map_err(|error| Error::io(Code::Io, "read", &error))?;
        if text.len() as u64 > MAX_SIZE {
            let tail = format!("larger than {} MiB", MAX_SIZE >> 20);
            return Err(Error::new(Code::Io, tail));
        }
        let object = parse(&text)?;
        match unknown::around(&object, AT) {
            Some(error) => Err(error),
            None => Ok(object),
        }
    }

    /// The resources that a JSON object asks for.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] when a value has the wrong type.
    pub fn new(object: Value) -> Result<Resources> {
        // The tables of the tolerant pass name things where config.json has them.
        let mut document = json!({"linux": {"resources": object}});
        let mut notices = unknown::members(&document);
        notices.extend(tolerate::config(&mut document));
        for notice in &mut notices {
            unknown::within(notice, AT);
            // Nobody may put here what they like: it is no configuration, to be kept and extended.
            notice.unknown = false;
        }
        if let Some(error) = shape::config(&document).into_iter().next() {
            return Err(error.within(AT));
        }
        let asked = document.pointer_mut(AT).map(Value::take);
        let mut asked = asked.unwrap_or_else(|| json!({}));
        let devices = asked.as_object_mut().and_then(|o| o.remove("devices"));
        for pointer in ZERO_LEAVES {
            let is_list = ["/cpu/cpus", "/cpu/mems"].contains(pointer);
            let leaves = if is_list { json!("") } else { json!(0) };
            if asked.pointer(pointer) == Some(&leaves) {
                super::pattern::remove(&mut asked, pointer);
            }
        }
        let limit = asked.pointer("/memory/limit").and_then(Value::as_i64);
        if asked.pointer("/memory/swap").is_none()
            && let Some(both) = memory_and_swap(limit, None)
        {
            asked["memory"]["swap"] = json!(both);
        }
        let resources = Resources {
            asked,
            devices,
            notices,
        };
        resources.typed()?;
        Ok(resources)
    }

    /// Settings that will not act as they were written.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// What is asked for, as JSON.
    pub(crate) fn asked(&self) -> &Value {
        &self.asked
    }

    /// A value beside those that are asked for, because one of them can't be written alone.
    pub(crate) fn complete(&mut self, pointer: &str, value: i64) {
        let (object, member) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(object)) = self.asked.pointer_mut(object) {
            object.insert(member.to_owned(), value.into());
        }
    }

    /// A group that is idle no more has the kernel's weight: it gets back what it had been given.
    pub(crate) fn shares_after_idleness(&mut self, resources: Option<&Value>) {
        let given = resources.and_then(|resources| resources.pointer("/cpu/shares"));
        let told = self.number("/cpu/shares");
        if let (Some(0), None | Some(0), Some(given)) = (
            self.number("/cpu/idle"),
            told,
            given.and_then(Value::as_i64),
        ) {
            self.complete("/cpu/shares", given);
        }
    }

    /// Has memory limits checked against what is in use, as the container was created to have it.
    pub(crate) fn check_usage_unless_told(&mut self) {
        if let Some(Value::Object(memory)) = self.asked.get_mut("memory") {
            memory.entry("checkBeforeUpdate").or_insert(true.into());
        }
    }

    /// An integer that is asked for.
    pub(crate) fn number(&self, pointer: &str) -> Option<i64> {
        self.asked.pointer(pointer).and_then(Value::as_i64)
    }

    /// The device rules, if they are others than a container with `resources` has, or none.
    pub(crate) fn other_devices(&self, resources: Option<&Value>) -> bool {
        let Some(Value::Array(rules)) = &self.devices else {
            return false;
        };
        let given = resources.and_then(|resources| resources.get("devices"));
        let denies_all = |rule: &Value| {
            let members = rule.as_object();
            members.is_some_and(|rule| {
                rule.keys()
                    .all(|key| ["allow", "access"].contains(&key.as_str()))
            }) && rule["allow"] == false
        };
        !rules.iter().all(denies_all) && self.devices.as_ref() != given
    }

    /// What is asked for, as the types have it.
    pub(crate) fn typed(&self) -> Result<LinuxResources> {
        typed(&self.asked)
    }

    /// Puts what is asked for into the resources of a whole configuration.
    pub(crate) fn merge_into(&self, config: &mut Value) {
        let linux = member(config, "linux");
        merge(member(linux, "resources"), &self.asked, "");
    }
}

/// The member of an object, which is made where it is missing.
fn member<'v>(value: &'v mut Value, name: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    &mut value[name]
}

fn merge(into: &mut Value, from: &Value, at: &str) {
    match from {
        Value::Object(members) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (name, value) in members {
                merge(member(into, name), value, &super::join(at, name));
            }
        }
        Value::Array(elements) => {
            let key = KEYED.iter().find(|(place, _)| *place == at);
            let key = key.map(|(_, members)| *members);
            match (into, key) {
                (Value::Array(old), Some(key)) => {
                    let same = |a: &Value, b: &Value| key.iter().all(|m| a.get(m) == b.get(m));
                    old.retain(|a| !elements.iter().any(|b| same(a, b)));
                    old.extend(elements.iter().cloned());
                }
                (into, _) => *into = from.clone(),
            }
        }
        value => *into = value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_nulls_and_empty_texts_ask_for_nothing() {
        let docker = json!({
            "memory": {"limit": 67108864, "reservation": 0, "swap": 67108864, "kernel": 0},
            "cpu": {"shares": 300, "quota": 0, "period": 0, "cpus": "0", "mems": ""},
            "pids": {"limit": 0}, "blockIO": {"weight": 0}, "network": null,
        });
        let asked = Resources::new(docker).unwrap();
        let expected = json!({
            "memory": {"limit": 67108864, "swap": 67108864},
            "cpu": {"shares": 300, "cpus": "0"}, "pids": {}, "blockIO": {},
        });
        assert_eq!(*asked.asked(), expected);
        assert!(asked.notices().is_empty());
        for pointer in ZERO_LEAVES {
            let (object, member) = pointer.trim_start_matches('/').split_once('/').unwrap();
            let nothing = match member {
                "cpus" | "mems" => json!(""),
                _ => json!(0),
            };
            let asked = Resources::new(json!({object: {member: nothing}})).unwrap();
            assert_eq!(*asked.asked(), json!({object: {}}), "{pointer}");
        }
    }

    #[test]
    fn no_limit_of_memory_is_none_of_swap_either() {
        let asked = Resources::new(json!({"memory": {"limit": -1}})).unwrap();
        assert_eq!(asked.number("/memory/swap"), Some(-1));
        let asked = Resources::new(json!({"memory": {"limit": -1, "swap": 5}})).unwrap();
        assert_eq!(asked.number("/memory/swap"), Some(5));
    }

    #[test]
    fn rules_that_deny_all_or_that_the_container_has_are_no_others() {
        let own =
            json!({"devices": [{"allow": false}, {"allow": true, "type": "c", "access": "r"}]});
        let update = |devices: Value| Resources::new(json!({"devices": devices})).unwrap();
        let cri = update(json!([{"allow": false, "access": "rwm"}]));
        assert!(!cri.other_devices(Some(&own)) && !cri.other_devices(None));
        assert_eq!(*cri.asked(), json!({}));
        assert!(!update(own["devices"].clone()).other_devices(Some(&own)));
        assert!(update(own["devices"].clone()).other_devices(None));
        assert!(update(json!([{"allow": false, "type": "c", "access": "r"}])).other_devices(None));
    }

    #[test]
    fn what_changes_goes_into_the_configuration_and_the_rest_of_it_stays() {
        let mut config = json!({"hostname": "x", "linux": {"resources": {
            "devices": [{"allow": false, "access": "rwm"}],
            "memory": {"limit": 1000, "swap": 2000},
            "blockIO": {"throttleReadBpsDevice": [
                {"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 16, "rate": 2},
            ]},
            "unified": {"memory.high": "1"},
        }}});
        let update = json!({
            "memory": {"limit": 1500}, "cpu": {"shares": 7},
            "blockIO": {"throttleReadBpsDevice": [
                {"major": 8, "minor": 16, "rate": 3}, {"major": 9, "minor": 0, "rate": 4},
            ]},
            "unified": {"cpu.idle": "1"},
        });
        Resources::new(update).unwrap().merge_into(&mut config);
        let expected = json!({"hostname": "x", "linux": {"resources": {
            "devices": [{"allow": false, "access": "rwm"}],
            "memory": {"limit": 1500, "swap": 2000}, "cpu": {"shares": 7},
            "blockIO": {"throttleReadBpsDevice": [
                {"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 16, "rate": 3},
                {"major": 9, "minor": 0, "rate": 4},
            ]},
            "unified": {"memory.high": "1", "cpu.idle": "1"},
        }}});
        assert_eq!(config, expected);
        let mut bare = json!({"ociVersion": "1.0.2"});
        let update = json!({"pids": {"limit": 5}});
        Resources::new(update).unwrap().merge_into(&mut bare);
        assert_eq!(bare.pointer("/linux/resources/pids/limit"), Some(&json!(5)));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place_in_the_object() {
        for (object, pointer) in [
            (json!({"memory": []}), Some("/memory")),
            (json!({"memory": {"limit": "1G"}}), Some("/memory/limit")),
            (json!({"cpu": {"shares": -1}}), Some("/cpu/shares")),
            (json!({"pids": {"limit": 1.5}}), Some("/pids/limit")),
            (json!([]), None),
            (json!(5), None),
        ] {
            let error = Resources::new(object.clone()).unwrap_err();
            assert_eq!(error.code(), Code::InvalidConfig, "{object}");
            assert_eq!(error.pointer(), pointer, "{object}: {error}");
        }
        let near = Resources::new(json!({"memory": {"limits": 5}})).unwrap();
        assert_eq!(near.notices()[0].pointer, "/memory/limits");
    }

    #[test]
    fn a_member_that_is_like_no_other_is_warned_of_too() {
        let far = Resources::new(json!({"nonsense": {"x": 1}, "pids": {"zzz": 1}})).unwrap();
        let told = far
            .notices()
            .iter()
            .map(|it| (it.pointer.as_str(), it.unknown));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [("/nonsense", false), ("/pids/zzz", false)]
        );
    }

    #[test]
    fn text_that_is_no_json_or_endless_is_refused() {
        assert!(Resources::read_json(&b"{"[..]).is_err());
        assert!(Resources::read_json(&b"\xff"[..]).is_err());
        let endless = Resources::read_json(std::io::repeat(b' ')).unwrap_err();
        assert_eq!(endless.tail(), "larger than 16 MiB");
        assert!(Resources::read_json(&b"{}\n"[..]).is_ok());
    }
}

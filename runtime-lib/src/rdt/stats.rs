//! What a group has and uses of caches and memory bandwidth, as `events` of runc prints it.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Group;

/// Empty where the container has no group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// The share of who has no group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Bytes moved, for each cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<Moved>,
    /// Bytes held, for each cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<Held>,
}

/// What the L3 cache can be parted into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    #[serde(skip_serializing_if = "zero")]
    pub min_cbm_bits: u64,
    #[serde(skip_serializing_if = "zero")]
    pub num_closids: u64,
}

/// What memory bandwidth can be parted into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BandwidthInfo {
    #[serde(skip_serializing_if = "zero")]
    pub bandwidth_gran: u64,
    #[serde(skip_serializing_if = "zero")]
    pub delay_linear: u64,
    #[serde(skip_serializing_if = "zero")]
    pub min_bandwidth: u64,
    #[serde(skip_serializing_if = "zero")]
    pub num_closids: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    #[serde(rename = "mbm_total_bytes", skip_serializing_if = "zero")]
    pub total: u64,
    #[serde(rename = "mbm_local_bytes", skip_serializing_if = "zero")]
    pub local: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    #[serde(rename = "llc_occupancy", skip_serializing_if = "zero")]
    pub bytes: u64,
}

fn zero(value: &u64) -> bool {
    *value == 0
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).map_or_else(|_| String::new(), |text| text.trim().to_owned())
}

fn number(path: &Path) -> u64 {
    text(path).parse().unwrap_or_default()
}

/// The line of a resource in the file `schemata`.
fn schema(directory: &Path, resource: &str) -> String {
    let lines = text(&directory.join("schemata"));
    let line = lines
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with(resource));
    line.unwrap_or_default().to_owned()
}

impl Group {
    /// What the group has and uses now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        let Some(root) = self.directory.parent() else {
            return stats;
        };
        let cache = root.join("info/L3");
        if cache.is_dir() {
            stats.l3_cache_info = Some(CacheInfo {
                cbm_mask: text(&cache.join("cbm_mask")),
                min_cbm_bits: number(&cache.join("min_cbm_bits")),
                num_closids: number(&cache.join("num_closids")),
            });
            stats.l3_cache_schema_root = schema(root, "L3:");
            stats.l3_cache_schema = schema(&self.directory, "L3:");
        }
        let bandwidth = root.join("info/MB");
        if bandwidth.is_dir() {
            stats.mem_bw_info = Some(BandwidthInfo {
                bandwidth_gran: number(&bandwidth.join("bandwidth_gran")),
                delay_linear: number(&bandwidth.join("delay_linear")),
                min_bandwidth: number(&bandwidth.join("min_bandwidth")),
                num_closids: number(&bandwidth.join("num_closids")),
            });
            stats.mem_bw_schema_root = schema(root, "MB:");
            stats.mem_bw_schema = schema(&self.directory, "MB:");
        }
        let watched = self.monitor.as_ref().unwrap_or(&self.directory);
        let features = text(&root.join("info/L3_MON/mon_features"));
        let counts = |feature: &str| features.lines().any(|line| line == feature);
        let entries = fs::read_dir(watched.join("mon_data"))
            .into_iter()
            .flatten()
            .flatten();
        let mut caches: Vec<_> = entries.map(|entry| entry.path()).collect();
        caches.sort_unstable();
        for cache in caches {
            if counts("mbm_total_bytes") || counts("mbm_local_bytes") {
                stats.mbm_stats.push(Moved {
                    total: number(&cache.join("mbm_total_bytes")),
                    local: number(&cache.join("mbm_local_bytes")),
                });
            }
            if counts("llc_occupancy") {
                stats.cmt_stats.push(Held {
                    bytes: number(&cache.join("llc_occupancy")),
                });
            }
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_groups_files_become_runcs_document() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("info/L3/cbm_mask", "fff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/min_bandwidth", "10\n"),
            (
                "info/L3_MON/mon_features",
                "llc_occupancy\nmbm_total_bytes\n",
            ),
            ("schemata", "    L3:0=fff;1=fff\n    MB:0=100\n"),
            ("web/schemata", "L3:0=f;1=fff\nMB:0=20\n"),
            ("web/mon_data/mon_L3_00/llc_occupancy", "4096\n"),
            ("web/mon_data/mon_L3_00/mbm_total_bytes", "77\n"),
            ("web/mon_data/mon_L3_01/llc_occupancy", "0\n"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let asked = oci_spec::runtime::LinuxIntelRdt::default();
        let group = Group::resolve(&asked, "web", Some(root.path())).unwrap();
        let expected = json!({
            "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=fff;1=fff",
            "l3_cache_schema": "L3:0=f;1=fff",
            "mem_bw_info": {"min_bandwidth": 10},
            "mem_bw_schema_root": "MB:0=100",
            "mem_bw_schema": "MB:0=20",
            "mbm_stats": [{"mbm_total_bytes": 77}, {}],
            "cmt_stats": [{"llc_occupancy": 4096}, {}],
        });
        assert_eq!(serde_json::to_value(group.stats()).unwrap(), expected);
    }
}

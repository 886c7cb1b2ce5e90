//! The checked-in table of differences that have a reason (allowed.tsv), and what it says of those that were
//! found. A row with a whole configuration's name that explains nothing any more is an error too.

use std::sync::OnceLock;

use super::seen::Difference;

/// See the module.
pub struct Allowed {
    rows: Vec<Row>,
}

struct Row {
    peer: &'static str,
    configuration: &'static str,
    path: &'static str,
    ours: &'static str,
    theirs: &'static str,
    line: &'static str,
}

impl Allowed {
    pub fn table() -> &'static Allowed {
        static TABLE: OnceLock<Allowed> = OnceLock::new();
        TABLE.get_or_init(|| Allowed {
            rows: include_str!("allowed.tsv")
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(Row::read)
                .collect(),
        })
    }

    /// The differences that no row explains, and the rows of this very configuration that explain none.
    pub fn judge(
        &self,
        peer: &str,
        configuration: &str,
        differences: Vec<Difference>,
    ) -> Vec<String> {
        let applies =
            |row: &&Row| matches(row.peer, peer) && matches(row.configuration, configuration);
        let rows: Vec<&Row> = self.rows.iter().filter(applies).collect();
        let idle = rows
            .iter()
            .filter(|row| row.configuration == configuration && row.peer == peer)
            .filter(|row| !differences.iter().any(|d| row.explains(d)))
            .map(|row| format!("a row that explains nothing: {}", row.line));
        let unexplained = differences
            .iter()
            .filter(|d| !rows.iter().any(|row| row.explains(d)))
            .map(|d| {
                format!(
                    "{peer}\t{configuration}\t{}\t{}\t{}",
                    d.path, d.ours, d.theirs
                )
            });
        idle.chain(unexplained).collect()
    }
}

impl Row {
    fn read(line: &'static str) -> Row {
        let cells: Vec<&str> = line.split('\t').collect();
        let [peer, configuration, path, ours, theirs, reason] = cells[..] else {
            panic!("allowed.tsv: not six cells: {line}");
        };
        assert!(!reason.is_empty(), "allowed.tsv: no reason: {line}");
        Row {
            peer,
            configuration,
            path,
            ours,
            theirs,
            line,
        }
    }

    fn explains(&self, difference: &Difference) -> bool {
        matches(self.path, &difference.path)
            && matches(self.ours, &difference.ours)
            && matches(self.theirs, &difference.theirs)
    }
}

/// Whether a text is like a pattern, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
fn patterns_match_whole_texts() {
    assert!(matches("a*c", "abc") && matches("*", "") && matches("a*", "a"));
    assert!(!matches("a*c", "abcd") && !matches("a", "ab") && !matches("", "a"));
}

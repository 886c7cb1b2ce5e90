//! docs/engines.md: its snippets are what the sessions run with, and its table is what they showed.

use std::path::{Path, PathBuf};

use crate::judge::Row;
use crate::place::RUNTIMES;

const TEXT: &str = include_str!("../../docs/engines.md");
const BEGIN: &str = "<!-- begin: written by tests/engines -->\n";
const END: &str = "<!-- end -->";

/// The fenced block below the line `<!-- snippet: NAME -->`, for this runtime in capsid's place.
pub fn snippet(name: &str, runtime: &str) -> String {
    let mark = format!("<!-- snippet: {name} -->\n```");
    let (_, rest) = TEXT
        .split_once(&mark)
        .unwrap_or_else(|| panic!("docs/engines.md has no snippet {name}"));
    let (_, rest) = rest.split_once('\n').expect("a first line");
    let (text, _) = rest.split_once("\n```").expect("the end of a snippet");
    text.replace("capsid", runtime) + "\n"
}

/// Writes the table where the tests are asked to (CAPSID_BLESS).
///
/// # Errors
/// The page has another than was seen.
pub fn update(rows: &[Row]) -> Result<(), String> {
    let (before, rest) = TEXT.split_once(BEGIN).ok_or("no place for the table")?;
    let (old, after) = rest.split_once(END).ok_or("the table has no end")?;
    let blessing = std::env::var_os("CAPSID_BLESS").is_some();
    let new = table(rows, old, blessing);
    if old == new {
        return Ok(());
    }
    if !blessing {
        let lines = |text: &str, other: &str| -> String {
            let of_one = text.lines().filter(|line| !other.contains(*line));
            of_one.map(|line| format!("\n  {line}")).collect()
        };
        return Err(format!(
            "docs/engines.md has{}\nand what was seen is{}\nCAPSID_BLESS=1 make test-engines writes it",
            lines(old, &new),
            lines(&new, old)
        ));
    }
    // A guest sees the repository read-only.
    let path = std::env::var_os("CAPSID_PAGE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/engines.md"),
        PathBuf::from,
    );
    std::fs::write(path, format!("{before}{BEGIN}{new}{END}{after}")).map_err(|e| e.to_string())
}

/// `old`: the page's, for what was not run. The peers' columns are those of the run that wrote them:
/// what a peer misses on a busy machine says nothing of this runtime.
fn table(rows: &[Row], old: &str, blessing: bool) -> String {
    let mut text = format!(
        "| engine | behaviour | {} |\n|---|---|{}\n",
        RUNTIMES.join(" | "),
        "---|".repeat(RUNTIMES.len())
    );
    let mut last = "";
    for row in rows {
        let engine = if row.engine == last { "" } else { row.engine };
        last = row.engine;
        let behaviour = row.behaviour.replace('_', " ");
        let known = cells(old, row.engine, &behaviour);
        let seen = |cell: usize| match (row.cells[cell], &known) {
            (Some(_), Some(cells)) if !blessing && RUNTIMES[cell] != "capsid" => cells[cell],
            (Some(true), _) => "yes",
            (Some(false), _) => "–",
            (None, known) => known.as_ref().map_or("not run", |cells| cells[cell]),
        };
        let cells: Vec<&str> = (0..RUNTIMES.len()).map(seen).collect();
        text.push_str(&format!(
            "| {engine} | {behaviour} | {} |\n",
            cells.join(" | ")
        ));
    }
    text
}

/// What a table says of a behaviour.
fn cells<'t>(table: &'t str, engine: &str, behaviour: &str) -> Option<[&'t str; RUNTIMES.len()]> {
    let mut of = "";
    for line in table.lines() {
        let words: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [first, second, cells @ ..] = &words[..] else {
            continue;
        };
        of = if first.is_empty() { of } else { first };
        if of == engine && *second == behaviour {
            return cells.try_into().ok();
        }
    }
    None
}

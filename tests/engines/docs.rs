//! docs/engines.md: its snippets are what the sessions run with, and its table is what they showed.

use std::path::Path;

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

/// Writes the table where the tests are asked to (CAPSID_BLESS), and else says when the page has another.
pub fn update(rows: &[Row]) {
    let Some((before, rest)) = TEXT.split_once(BEGIN) else {
        return println!("docs/engines.md: no place for the table");
    };
    let (old, after) = rest.split_once(END).unwrap_or((rest, ""));
    let new = table(rows);
    if old == new {
        return;
    }
    if std::env::var_os("CAPSID_BLESS").is_none() {
        return println!(
            "docs/engines.md: its table is not what was seen; CAPSID_BLESS=1 make test-engines writes it"
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/engines.md");
    std::fs::write(path, format!("{before}{BEGIN}{new}{END}{after}")).expect("docs/engines.md");
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "| engine | behaviour | {} |\n|---|---|{}\n",
        RUNTIMES.join(" | "),
        "---|".repeat(RUNTIMES.len())
    );
    let mut last = "";
    for row in rows {
        let engine = if row.engine == last { "" } else { row.engine };
        last = row.engine;
        let cells = row.cells.map(|seen| if seen { "yes" } else { "–" });
        text.push_str(&format!(
            "| {engine} | {} | {} |\n",
            row.behaviour.replace('_', " "),
            cells.join(" | ")
        ));
    }
    text
}

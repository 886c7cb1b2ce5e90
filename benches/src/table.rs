//! The report as one aligned text table, a section for each condition. It must
//! not be wider than it has to.

use std::fmt::Write;

use crate::args::Pace;
use crate::figure::Bound;
use crate::report::Report;
use crate::results::{REFERENCE, Row, Verdict};
use crate::view::View;

type Condition = (Option<View>, Option<Pace>);

pub fn render(report: &Report) -> String {
    let mut lines = vec![header(report)];
    for condition in conditions(report) {
        lines.push(vec![String::new()]);
        lines.push(vec![heading(condition)]);
        let rows = report
            .rows
            .iter()
            .filter(|row| (row.view, row.pace) == condition);
        lines.extend(rows.map(|row| cells(report, row)));
    }
    let widths = widths(&lines);

    let mut text = preamble(report);
    for cells in &lines {
        let _ = writeln!(text, "{}", align(cells, &widths).trim_end());
    }
    let _ = writeln!(text, "\n{}", summary(report));
    for missing in &report.missing {
        let _ = writeln!(text, "left out: {missing}");
    }
    for skipped in &report.skipped {
        let _ = writeln!(text, "not measured: {skipped}");
    }
    text
}

fn preamble(report: &Report) -> String {
    let mut text = String::from("\n");
    for participant in &report.contenders {
        let (name, version, path) = (&participant.name, &participant.version, &participant.path);
        let _ = writeln!(text, "{name:8} {version} ({path})");
    }
    let machine = &report.machine;
    let (before, after) = (machine.load_before, machine.load_after);
    let _ = writeln!(
        text,
        "machine  {}, load {before:.1} before and {after:.1} after",
        machine.summary()
    );
    let note = if report.quick {
        "; --quick: a look, not a figure to quote"
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "method   {} interleaved rounds{note}; median (minimum) ratio, paired against crun's\n",
        report.rounds
    );
    text
}

fn summary(report: &Report) -> String {
    let verdicts: Vec<Option<bool>> = report
        .rows
        .iter()
        .flat_map(Row::verdicts)
        .map(|verdict| verdict.met())
        .collect();
    let count = |what| verdicts.iter().filter(|verdict| **verdict == what).count();
    format!(
        "aims: {} met, {} missed, {} not measured",
        count(Some(true)),
        count(Some(false)),
        count(None)
    )
}

/// The programs alone, then view by view: each pace, then what no pace changes.
fn conditions(report: &Report) -> Vec<Condition> {
    let mut found = Vec::new();
    for row in &report.rows {
        let condition = (row.view, row.pace);
        if !found.contains(&condition) {
            found.push(condition);
        }
    }
    found.sort_by_key(|(view, pace)| {
        let pace = Pace::ALL.iter().position(|known| Some(*known) == *pace);
        (view.map(View::name), pace.unwrap_or(Pace::ALL.len()))
    });
    found
}

fn heading((view, pace): Condition) -> String {
    let pace = match pace {
        Some(Pace::Hot) => ", back to back",
        Some(Pace::Gap) => ", 60 ms before each command",
        None => "",
    };
    view.map_or("the program alone".to_owned(), |view| {
        format!("cgroup {}{pace}", view.name())
    })
}

fn header(report: &Report) -> Vec<String> {
    let mut cells = vec![String::new()];
    cells.extend(
        report
            .contenders
            .iter()
            .map(|participant| participant.name.clone()),
    );
    cells.push("aim for capsid".to_owned());
    cells
}

fn cells(report: &Report, row: &Row) -> Vec<String> {
    let mut cells = vec![format!("  {}, {}", row.figure.label(), row.figure.unit())];
    cells.extend(
        report
            .contenders
            .iter()
            .map(|participant| figure(row, &participant.name)),
    );
    cells.push(
        row.verdicts()
            .iter()
            .map(verdict)
            .collect::<Vec<_>>()
            .join("; "),
    );
    cells
}

fn figure(row: &Row, contender: &str) -> String {
    let Some(track) = row.track(contender) else {
        return String::new();
    };
    let Some(median) = track.median() else {
        return "failed".to_owned();
    };
    let minimum = track.minimum().filter(|minimum| *minimum < median);
    let minimum = minimum.map_or(String::new(), |minimum| format!("({})", number(minimum)));
    let ratio = row
        .ratio(contender, REFERENCE)
        .map_or(String::new(), |ratio| format!("{ratio:.2}×"));
    let failed = if track.failure.is_some() {
        " then failed"
    } else {
        ""
    };
    format!("{} {minimum:>7} {ratio:>6}{failed}", number(median))
}

fn verdict(verdict: &Verdict) -> String {
    let bound = match verdict.bound {
        Bound::Ratio(base, limit) => format!("≤ {limit} {base}"),
        Bound::AtMost(limit) => format!("≤ {limit}"),
    };
    let reached = match verdict.bound {
        Bound::Ratio(..) => verdict
            .reached
            .map_or(String::new(), |reached| format!(" {reached:.2}")),
        Bound::AtMost(_) => String::new(),
    };
    match verdict.met() {
        Some(true) => format!("{bound}: met{reached}"),
        Some(false) => format!("{bound}: MISSED{reached}"),
        None => format!("{bound}: not measured"),
    }
}

/// Three digits that matter, no more.
pub fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Of each column; headings stand alone on their line and count for none.
fn widths(lines: &[Vec<String>]) -> Vec<usize> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines
            .iter()
            .filter(|cells| cells.len() > 1)
            .filter_map(|cells| cells.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

fn align(cells: &[String], widths: &[usize]) -> String {
    let last = widths.len().saturating_sub(1);
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let space = " ".repeat(width.saturating_sub(cell.chars().count()));
        // Words to the left, figures to the right.
        let _ = match column {
            0 => write!(line, "{cell}{space}"),
            _ if column == last => write!(line, "   {cell}"),
            _ => write!(line, "   {space}{cell}"),
        };
    }
    line
}

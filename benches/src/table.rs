//! The report as one aligned text table. It must not be wider than it has to.

use std::fmt::Write;

use crate::args::Pace;
use crate::figure::Bound;
use crate::report::Report;
use crate::results::{REFERENCE, Row, Verdict};
use crate::view::View;

pub fn render(report: &Report) -> String {
    let mut header = vec![
        "median (minimum), ratio to crun".to_owned(),
        String::new(),
        String::new(),
    ];
    header.extend(
        report
            .contenders
            .iter()
            .map(|participant| participant.name.clone()),
    );
    header.push("aim for capsid".to_owned());

    let mut lines = vec![header];
    for row in &report.rows {
        let mut cells = vec![
            format!("{}, {}", row.figure.label(), row.figure.unit()),
            row.view.map_or("", View::name).to_owned(),
            row.pace.map_or("", Pace::name).to_owned(),
        ];
        cells.extend(
            report
                .contenders
                .iter()
                .map(|participant| cell(row, &participant.name)),
        );
        cells.push(
            row.verdicts()
                .iter()
                .map(verdict)
                .collect::<Vec<_>>()
                .join("; "),
        );
        lines.push(cells);
    }

    let mut text = String::from("\n");
    for participant in &report.contenders {
        let _ = writeln!(
            text,
            "{:8} {} ({})",
            participant.name, participant.version, participant.path
        );
    }
    let machine = &report.machine;
    let _ = writeln!(
        text,
        "machine  {}, load {:.1} before and {:.1} after",
        machine.summary(),
        machine.load_before,
        machine.load_after
    );
    let _ = writeln!(
        text,
        "         {} rounds, interleaved; list among {} containers{}\n",
        report.rounds,
        report.crowd,
        if report.quick {
            "; --quick: a look, not a figure to quote"
        } else {
            ""
        }
    );
    for cells in &lines {
        let _ = writeln!(text, "{}", align(cells, &widths(&lines)).trim_end());
    }
    for missing in &report.missing {
        let _ = writeln!(text, "left out: {missing}");
    }
    for skipped in &report.skipped {
        let _ = writeln!(text, "not measured: {skipped}");
    }
    text
}

fn widths(lines: &[Vec<String>]) -> Vec<usize> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    (0..columns)
        .map(|column| {
            lines
                .iter()
                .filter_map(|cells| cells.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect()
}

fn align(cells: &[String], widths: &[usize]) -> String {
    let last = cells.len().saturating_sub(1);
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let space = " ".repeat(width - cell.chars().count());
        // Words to the left, figures to the right.
        match column {
            0..3 => line += &format!("{cell}{space}  "),
            column if column == last => line += cell,
            _ => line += &format!("{space}{cell}  "),
        }
    }
    line
}

fn cell(row: &Row, contender: &str) -> String {
    let Some(track) = row.track(contender) else {
        return String::new();
    };
    let Some(median) = track.median() else {
        return "failed".to_owned();
    };
    let mut text = number(median);
    if let Some(minimum) = track.minimum().filter(|minimum| *minimum < median) {
        text += &format!(" ({})", number(minimum));
    }
    if let Some(ratio) = row.ratio(contender, REFERENCE) {
        text += &format!(" {ratio:5.2}×");
    }
    if track.failure.is_some() {
        text += " then failed";
    }
    text
}

/// Three figures that matter, no more.
pub fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn verdict(verdict: &Verdict) -> String {
    let bound = match verdict.bound {
        Bound::Ratio(base, limit) => format!("≤ {limit} × {base}"),
        Bound::AtMost(limit) => format!("≤ {limit}"),
    };
    match (verdict.met(), verdict.reached, verdict.bound) {
        (Some(true), Some(reached), Bound::Ratio(..)) => format!("{bound}: met ({reached:.2})"),
        (Some(false), Some(reached), Bound::Ratio(..)) => format!("{bound}: MISSED ({reached:.2})"),
        (Some(true), ..) => format!("{bound}: met"),
        (Some(false), ..) => format!("{bound}: MISSED"),
        (None, ..) => format!("{bound}: not measured"),
    }
}

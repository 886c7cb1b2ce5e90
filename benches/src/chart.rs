//! The report as one SVG chart: for each view a column, for each timed figure a
//! group of bars, as long as the median is in crun's. It has no background and
//! follows the reader's light or dark scheme. It must not draw what was not measured.

use std::fmt::Write;

use crate::args::Pace;
use crate::figure::{Bound, Figure};
use crate::report::Report;
use crate::results::{REFERENCE, Row, SUBJECT, Track};
use crate::table::number;
use crate::view::View;

/// What the chart shows, from top to bottom.
const GROUPS: &[(Figure, Option<Pace>, &str)] = &[
    (Figure::Run, Some(Pace::Hot), "run /bin/true, back to back"),
    (Figure::Run, Some(Pace::Gap), "run /bin/true, 60 ms apart"),
    (
        Figure::Lifecycle,
        Some(Pace::Gap),
        "create + start + delete, 60 ms apart",
    ),
    (Figure::Exec, Some(Pace::Gap), "exec /bin/true, 60 ms apart"),
    (Figure::State, Some(Pace::Gap), "state, 60 ms apart"),
    (Figure::Kill, Some(Pace::Gap), "kill, 60 ms apart"),
    (Figure::List, None, "list"),
];

/// In pixels.
const PANEL: f64 = 470.0;
const NAMES: f64 = 74.0;
const UNIT: f64 = 130.0;
const BAR: f64 = 12.0;
const LINE: f64 = 17.0;
const HEADING: f64 = 22.0;
const BETWEEN: f64 = 14.0;
const TOP: f64 = 84.0;
/// Bars longer than this many times crun's are cut off.
const LONGEST: f64 = 1.9;

const STYLE: &str = "
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #57606a }
  .title { font-size: 17px; font-weight: 600; fill: #24292f }
  .head { font-weight: 600; fill: #24292f }
  .name { text-anchor: end }
  .ours { font-weight: 600; fill: #24292f }
  .bar { fill: #afb8c1 } .bar-capsid { fill: #2f81f7 } .bar-crun { fill: #8c959f } .bar-floor { fill: #4ac26b }
  .one { stroke: #8c959f; stroke-dasharray: 2 3 } .aim { stroke: #d4720b; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9da7b3 } .title, .head, .ours { fill: #e6edf3 }
    .bar { fill: #484f58 } .bar-crun { fill: #6e7681 } .bar-floor { fill: #3fb950 } .one { stroke: #6e7681 }
  }
";

pub fn draw(report: &Report) -> String {
    let views: Vec<View> = View::ALL
        .into_iter()
        .filter(|view| report.rows.iter().any(|row| row.view == Some(*view)))
        .collect();
    let mut body = String::new();
    let mut height = TOP;
    for (column, view) in views.iter().enumerate() {
        let left = 10.0 + column as f64 * PANEL;
        let _ = writeln!(
            body,
            r#"<text class="head" x="{left}" y="72">cgroup {}</text>"#,
            view.name()
        );
        height = height.max(panel(&mut body, report, *view, left));
    }
    let width = 20.0 + PANEL * views.len().max(1) as f64;
    let shown = format!(
        "{}. Medians of {} interleaved rounds; dashed: crun; orange: capsid's aim.",
        report.machine.summary(),
        report.rounds
    );
    format!(
        concat!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">"#,
            "\n<title>capsid against crun, runc and the kernel floor</title>\n<style>{style}</style>\n",
            r#"<text class="title" x="10" y="26">Time taken, as a multiple of crun’s: shorter is better</text>"#,
            "\n",
            r#"<text x="10" y="47">{shown}</text>"#,
            "\n{body}</svg>\n"
        ),
        width = width,
        height = height,
        style = STYLE,
        shown = escape(&shown),
        body = body
    )
}

/// Returns where the column ends.
fn panel(body: &mut String, report: &Report, view: View, left: f64) -> f64 {
    let mut top = TOP;
    for (figure, pace, heading) in GROUPS {
        let found = report
            .rows
            .iter()
            .find(|row| row.figure == *figure && row.pace == *pace && row.view == Some(view));
        let Some(row) = found else { continue };
        let Some(unit) = unit(row) else { continue };
        let heading = match figure {
            Figure::List => format!("{heading} of {} containers", report.crowd),
            _ => (*heading).to_owned(),
        };
        let _ = writeln!(
            body,
            r#"<text class="head" x="{left}" y="{:.1}">{heading}</text>"#,
            top + 13.0
        );
        top += HEADING;
        let first = top;
        for participant in &report.contenders {
            let Some(track) = row.track(&participant.name) else {
                continue;
            };
            bar(body, row, track, unit, left, top);
            top += LINE;
        }
        let one = left + NAMES + UNIT;
        let _ = writeln!(
            body,
            r#"<line class="one" x1="{one}" x2="{one}" y1="{:.1}" y2="{:.1}"/>"#,
            first - 3.0,
            top - 2.0
        );
        top += BETWEEN;
    }
    top
}

/// The time that one unit of bar stands for: crun's, or the longest without crun.
fn unit(row: &Row) -> Option<f64> {
    let reference = row.track(REFERENCE).and_then(Track::median);
    reference.or_else(|| row.tracks.iter().filter_map(Track::median).reduce(f64::max))
}

fn bar(body: &mut String, row: &Row, track: &Track, unit: f64, left: f64, top: f64) {
    let name = &track.contender;
    let (start, baseline) = (left + NAMES, top + BAR - 1.5);
    let ours = if name == SUBJECT { " ours" } else { "" };
    let _ = writeln!(
        body,
        r#"<text class="name{ours}" x="{:.1}" y="{baseline:.1}">{name}</text>"#,
        start - 6.0
    );
    let Some(median) = track.median() else {
        let _ = writeln!(
            body,
            r#"<text x="{:.1}" y="{baseline:.1}">failed</text>"#,
            start + 5.0
        );
        return;
    };
    // The paired ratio is the figure; the length follows it, so that the two agree.
    let ratio = row.ratio(name, REFERENCE);
    let length = ratio.unwrap_or(median / unit);
    let width = length.min(LONGEST) * UNIT;
    let _ = writeln!(
        body,
        r#"<rect class="bar bar-{name}" x="{start:.1}" y="{top:.1}" width="{width:.1}" height="{BAR}" rx="2"/>"#
    );
    if length > LONGEST {
        // A slanted gap says that the bar goes on.
        let cut = start + width - 16.0;
        let _ = writeln!(
            body,
            r##"<path d="M{:.1} {:.1}l5 -16h5l-5 16z" fill="#ffffff" fill-opacity="0.75"/>"##,
            cut,
            top + BAR + 2.0
        );
    }
    if name == SUBJECT {
        for verdict in row.verdicts() {
            if let Bound::Ratio(REFERENCE, limit) = verdict.bound {
                let x = start + limit * UNIT;
                let _ = writeln!(
                    body,
                    r#"<line class="aim" x1="{x:.1}" x2="{x:.1}" y1="{:.1}" y2="{:.1}"/>"#,
                    top - 2.0,
                    top + BAR + 2.0
                );
            }
        }
    }
    // In a column of their own, where neither bars nor marks run into them.
    let (end, far) = (
        start + LONGEST * UNIT + 58.0,
        start + LONGEST * UNIT + 112.0,
    );
    let _ = writeln!(
        body,
        r#"<text class="name{ours}" x="{end:.1}" y="{baseline:.1}">{} ms</text>"#,
        number(median)
    );
    if let Some(ratio) = ratio {
        let _ = writeln!(
            body,
            r#"<text class="name{ours}" x="{far:.1}" y="{baseline:.1}">{ratio:.2}×</text>"#
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

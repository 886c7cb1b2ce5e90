//! Columns for people and for scripts that split on blanks: Go's tabwriter as runc sets it up.

/// The least width of a column, and the blanks after its longest cell.
const LEAST: usize = 12;
const PADDING: usize = 3;

/// Every row has as many cells as the first. The last column is not padded.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max();
        LEAST.max(longest.unwrap_or_default() + PADDING)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (position, (cell, width)) in row.iter().zip(widths).enumerate() {
            text.push_str(cell);
            if position + 1 < N {
                let used = cell.chars().count();
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 6]) -> [String; 6] {
        cells.map(str::to_owned)
    }

    /// runc 1.1.5's own output.
    #[test]
    fn columns_are_as_wide_as_runcs() {
        let header = row(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        assert_eq!(
            columns(std::slice::from_ref(&header)),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
        let container = row([
            "g1",
            "18344",
            "created",
            "/tmp/cli-runc/b",
            "2026-11-22T06:30:08.348414527Z",
            "root",
        ]);
        assert_eq!(
            columns(&[header, container]),
            "\
ID          PID         STATUS      BUNDLE            CREATED                          OWNER
g1          18344       created     /tmp/cli-runc/b   2026-11-22T06:30:08.348414527Z   root
"
        );
    }

    #[test]
    fn width_is_counted_in_characters() {
        let text = columns(&[["ä".repeat(12), "b".to_owned()]]);
        assert_eq!(text, format!("{}   b\n", "ä".repeat(12)));
    }
}

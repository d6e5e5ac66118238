//! Columns of text: at least ten wide, three spaces apart, the last as wide as it is.

/// Aligns lines whose cells are separated by tabs.
pub(crate) fn align(lines: &str) -> String {
    align_at_least(10, lines)
}

/// As [`align`], each column at least `least` wide.
pub(crate) fn align_at_least(least: usize, lines: &str) -> String {
    const GAP: usize = 3;
    let rows: Vec<Vec<&str>> = lines.lines().map(|l| l.split('\t').collect()).collect();
    let mut out = String::with_capacity(lines.len() * 2);
    let mut widths: Vec<Vec<usize>> = rows.iter().map(|r| vec![0; r.len()]).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns.saturating_sub(1) {
        // A column is a run of lines that all have a cell there with another behind it.
        let mut from = 0;
        while from < rows.len() {
            let run = rows[from..].iter().take_while(|r| r.len() > column + 1).count();
            let cells = &rows[from..from + run];
            let widest = cells.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
            for width in &mut widths[from..from + run] {
                width[column] = (widest + GAP).max(least);
            }
            from += run.max(1);
        }
    }
    for (row, widths) in rows.iter().zip(&widths) {
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            out.push_str(cell);
            if at + 1 < row.len() {
                let pad = width.saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', pad));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_as_docker_aligns_them() {
        expect_test::expect![[r"
            REPOSITORY   TAG       IMAGE ID
            a            b         c
            é            latest    0123456789abc
        "]]
        .assert_eq(&align("REPOSITORY\tTAG\tIMAGE ID\na\tb\tc\né\tlatest\t0123456789abc\n"));
    }

    #[test]
    fn lines_of_other_shape_part_the_columns() {
        assert_eq!(align("aaaaaaaaaaaa\tb\nx\n1\t2\n"), "aaaaaaaaaaaa   b\nx\n1         2\n");
        assert_eq!(align(""), "");
    }
}

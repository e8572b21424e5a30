//! Columns for people.

/// Lines of cells, each column as wide as its widest cell, two spaces between, nothing after the last.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Bytes as people write them: `512 B`, `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (count.max(1).ilog2() / 10) as usize;
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{:.1} {}", count as f64 / (1u64 << (10 * unit)) as f64, units[unit])
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        assert_eq!(super::columns(&[row(&["a", "bbb", "c"]), row(&["aa", "b"])]), "a   bbb  c\naa  b\n");
    }

    #[test]
    fn bytes() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (u64::MAX, "16.0 EiB")]
        {
            assert_eq!(super::bytes(count), text);
        }
    }
}

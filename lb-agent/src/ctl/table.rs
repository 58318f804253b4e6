//! Columns.

/// Lays out rows below their headings: columns as wide as their widest cell, two spaces between, no spaces at the
/// end of a line.
pub(super) fn columns<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let heading = headings.map(str::to_owned);
    let lines = || std::iter::once(&heading).chain(rows);
    let mut widths = [0; N];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines() {
        let start = text.len();
        for (cell, width) in line.iter().zip(widths) {
            let pad = width - cell.chars().count() + 2;
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', pad));
        }
        let end = start + text[start..].trim_end().len();
        text.truncate(end);
        text.push('\n');
    }
    text
}

/// A dash where there is nothing to say.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["é".to_owned(), "x".to_owned()], ["long one".to_owned(), String::new()]];
        assert_eq!(columns(["A", "B"], &rows), "A         B\né         x\nlong one\n");
        assert_eq!(columns(["A", "B"], &[]), "A  B\n");
    }
}

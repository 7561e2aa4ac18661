//! The text format of COPY: columns separated by tabs, rows by line breaks.

use std::io::{Result, Write};

/// Writes one row.
///
/// # Errors
/// The writer's.
pub fn write_row(out: &mut impl Write, columns: &[&str]) -> Result<()> {
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            out.write_all(b"\t")?;
        }
        out.write_all(escape(column).as_bytes())?;
    }
    out.write_all(b"\n")
}

/// Escapes what separates columns and rows. NUL, which text in PostgreSQL cannot hold, becomes U+FFFD.
fn escape(column: &str) -> String {
    let mut escaped = String::with_capacity(column.len());
    for c in column.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\0' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_and_rows_stay_apart() {
        let mut out = Vec::new();
        super::write_row(&mut out, &["a\tb", "", "\\N c\r\nd\0"]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\tb\t\t\\\\N c\\r\\nd\u{fffd}\n");
    }
}

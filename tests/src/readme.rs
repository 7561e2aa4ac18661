//! The SQL of a Markdown page, and what the page says it prints.
//!
//! A block marked `sql` is a script for psql. A block marked `text` that follows it, with nothing but white space
//! between, is what psql prints for it. In that, `…` stands for any text within a line: scores and sentences of a
//! model may differ between machines.

/// A script and, where the page shows it, its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Line of the page on which the script begins, from 1.
    pub line: usize,
    /// The script.
    pub sql: String,
    /// The output that the page shows.
    pub output: Option<String>,
}

/// The steps of `page`, in order.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = page.lines().enumerate();
    // Whether the last thing seen was the end of a script.
    let mut after_script = false;
    while let Some((i, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            after_script &= line.trim().is_empty();
            continue;
        };
        let block: String =
            lines.by_ref().take_while(|(_, l)| l.trim() != "```").map(|(_, l)| format!("{l}\n")).collect();
        match language.trim() {
            "sql" => steps.push(Step { line: i + 2, sql: block, output: None }),
            "text" if after_script => {
                if let Some(step) = steps.last_mut() {
                    step.output = Some(block);
                }
            }
            _ => {}
        }
        after_script = language.trim() == "sql";
    }
    steps
}

/// Whether `printed` is what the page shows, white space at line ends and blank lines at both ends aside.
pub fn output_matches(shown: &str, printed: &str) -> bool {
    let lines =
        |text: &str| -> Vec<String> { text.trim().lines().map(|line| line.trim_end().to_owned()).collect() };
    let (shown, printed) = (lines(shown), lines(printed));
    shown.len() == printed.len() && shown.iter().zip(&printed).all(|(s, p)| line_matches(s, p))
}

/// Whether the parts of `shown` between its `…` stand in `printed` in order, the first and last at its ends.
fn line_matches(shown: &str, printed: &str) -> bool {
    let Some((first, rest)) = shown.split_once('…') else { return shown == printed };
    let Some(mut printed) = printed.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('…').map_or(("", rest), |(m, l)| (m, l));
    for part in middle.split('…') {
        let Some(at) = printed.find(part) else { return false };
        printed = &printed[at + part.len()..];
    }
    printed.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_scripts_and_their_outputs() {
        let page = "# T\n```sql\nSELECT 1;\n```\n\n```text\n 1\n```\nwords\n```sh\nls\n```\n```sql\nSELECT 2;\n```\nwords\n```text\nno output of it\n```\n";
        let expected = [
            Step { line: 3, sql: "SELECT 1;\n".into(), output: Some(" 1\n".into()) },
            Step { line: 14, sql: "SELECT 2;\n".into(), output: None },
        ];
        assert_eq!(steps(page), expected);
    }

    #[test]
    fn compares_outputs() {
        assert!(output_matches(" a\n---\n 1\n(1 row)\n\n", "a  \n---\n 1\n(1 row)\n"));
        assert!(output_matches("0.5… | x", "0.5321 | x"));
        assert!(output_matches("a…b…c", "a--b--c"));
        assert!(!output_matches("a…b…c", "a--c--b"));
        assert!(!output_matches("ab…ba", "aba"));
        assert!(!output_matches("1", "2"));
        assert!(!output_matches("1\n2", "1"));
    }
}

//! The sections of a Markdown document.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// What stands under one heading, up to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// Headings from the outermost to its own; empty for text before the first heading.
    pub(crate) heading: Vec<String>,
    /// Bytes of its text, the heading's own line left out.
    pub(crate) range: Range<usize>,
}

/// The sections of `text` in order; those without text are left out.
pub(crate) fn sections(text: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut path: Vec<(HeadingLevel, String)> = Vec::new();
    let mut start = 0;
    let mut heading: Option<(HeadingLevel, String)> = None;
    let mut add = |path: &[(HeadingLevel, String)], range: Range<usize>| {
        if !text[range.clone()].trim().is_empty() {
            sections.push(Section { heading: path.iter().map(|(_, title)| title.clone()).collect(), range });
        }
    };
    // Headings in quotes and lists are labels of these, not sections of the document.
    let mut nesting = 0usize;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) if nesting == 0 => {
                add(&path, start..range.start);
                start = range.end;
                heading = Some((level, String::new()));
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some((level, title)) = heading.take() {
                    path.retain(|(open, _)| *open < level);
                    path.push((level, title.split_whitespace().collect::<Vec<_>>().join(" ")));
                }
            }
            Event::Start(Tag::BlockQuote(_) | Tag::List(_)) => nesting += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_)) => nesting = nesting.saturating_sub(1),
            Event::Text(piece) | Event::Code(piece) => {
                if let Some((_, title)) = &mut heading {
                    title.push_str(&piece);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some((_, title)) = &mut heading {
                    title.push(' ');
                }
            }
            _ => {}
        }
    }
    add(&path, start..text.len());
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, &str)> {
        sections(text).into_iter().map(|s| (s.heading.join(" > "), text[s.range].trim())).collect()
    }

    #[test]
    fn headings_make_a_path() {
        let text = "zero\n\n# A\none\n\n## B *b* `c`\ntwo\n### C\n## D\nthree\n\nE\n=\nfour";
        let expected = [("", "zero"), ("A", "one"), ("A > B b c", "two"), ("A > D", "three"), ("E", "four")];
        assert_eq!(found(text), expected.map(|(heading, text)| (heading.to_owned(), text)));
    }

    #[test]
    fn what_only_looks_like_a_heading_is_text() {
        let text = "# A\n```sh\n# comment\n```\n> # quoted\n\n- # item";
        assert_eq!(found(text).len(), 1);
        assert!(found(text)[0].1.contains("# comment"));
    }
}

//! A document → chunks that carry their headings and fit a model's window.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::chunk::{Limits, halve, try_split, try_split_markdown};
use crate::markdown::Section;
use crate::sentence::try_split_sentences;
use crate::{html, markdown};

/// How a document is read and cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Not at all: one chunk, whatever its length.
    None,
    /// Plain text in runs of whole sentences.
    Sentence,
    /// Plain text at blank lines, else line ends, else sentences, else words.
    Recursive,
    /// Markdown at headings, else between blocks (so that code and tables stay whole where they fit), else as plain text.
    Markdown,
    /// HTML at headings, else as the plain text of the page.
    Html,
}

impl Method {
    /// All methods with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("sentence", Self::Sentence),
        ("recursive", Self::Recursive),
        ("markdown", Self::Markdown),
        ("html", Self::Html),
    ];
}

/// A name that no method has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no chunking method \"{0}\"")]
pub struct UnknownMethod(pub String);

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, method)| *method).ok_or_else(|| UnknownMethod(name.to_owned()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, method)| method == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Characters, from 0, of the document's text; of an HTML page: of its sections' texts, with a blank line between.
    pub characters: Range<usize>,
    /// Headings from the outermost to its own, joined by ` > `; empty where there are none.
    pub heading: String,
    /// The text, without white space at its ends.
    pub text: String,
    /// Tokens of [`Chunk::embedded`].
    pub tokens: usize,
}

impl Chunk {
    /// What a model reads: the heading, then the text, since a vector knows nothing but its text.
    pub fn embedded(&self) -> Cow<'_, str> {
        under(&self.heading, &self.text)
    }
}

/// Separates the headings of a path.
const PATH: &str = " > ";

/// The chunks of `content`, in order. `count` tells the tokens of a text, special tokens included; by it the embedded
/// form of each chunk keeps to `limits`, unless the method is [`Method::None`] or a single character exceeds them.
/// Blank content has no chunks.
///
/// # Errors
/// The counter's first.
pub fn chunks<E>(
    content: &str,
    method: Method,
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<Vec<Chunk>, E> {
    let (text, sections) = sections(content, method);
    let mut chunks = Vec::new();
    let mut places = Characters::of(&text);
    for Section { heading: path, range: section } in sections {
        let piece = &text[section.clone()];
        let heading = fitting_heading(&path, limits, count)?;
        for range in ranges(piece, &heading, method, limits, count)? {
            let text = piece[range.clone()].to_owned();
            let tokens = count(&under(&heading, &text))?;
            let characters = places.range(section.start + range.start..section.start + range.end);
            chunks.push(Chunk { characters, heading: heading.clone(), text, tokens });
        }
    }
    Ok(chunks)
}

/// The text of a document, and its sections: headings and bytes.
fn sections(content: &str, method: Method) -> (Cow<'_, str>, Vec<Section>) {
    match method {
        Method::None | Method::Sentence | Method::Recursive => {
            (content.into(), vec![Section { heading: Vec::new(), range: 0..content.len() }])
        }
        Method::Markdown => (content.into(), markdown::sections(content)),
        Method::Html => {
            let page = html::parse(content);
            let mut text = String::new();
            let mut sections = Vec::new();
            for section in page.sections {
                if !text.is_empty() {
                    text.push_str("\n\n");
                }
                let start = text.len();
                text.push_str(&section.text);
                let title = Some(page.title.clone()).filter(|title| !title.is_empty());
                let heading = title.into_iter().chain(section.heading).collect();
                sections.push(Section { heading, range: start..text.len() });
            }
            (text.into(), sections)
        }
    }
}

/// The path as text, cut from its outer end to half of the room: the other half is for the text.
fn fitting_heading<E>(
    path: &[String],
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<String, E> {
    for outermost in 0..path.len() {
        let heading = path[outermost..].join(PATH);
        if count(&heading)? <= limits.max_tokens() / 2 {
            return Ok(heading);
        }
    }
    Ok(String::new())
}

/// Byte ranges of the chunks of a section.
fn ranges<E>(
    text: &str,
    heading: &str,
    method: Method,
    limits: Limits,
    count: &dyn Fn(&str) -> Result<usize, E>,
) -> Result<Vec<Range<usize>>, E> {
    let mut whole = Vec::new();
    let embedded = |piece: &str| count(&under(heading, piece));
    let trimmed = text.trim();
    if method == Method::None || embedded(trimmed)? <= limits.max_tokens() {
        halve(text, 0..text.len(), usize::MAX, count, &mut whole)?;
        return Ok(whole);
    }
    let frame = count("")?;
    let taken = if heading.is_empty() { 0 } else { count(heading)?.saturating_sub(frame) };
    let room = limits.max_tokens().saturating_sub(taken).max(1);
    // Both are above 0 and the overlap below the room, so these limits make sense.
    let Ok(limits_of_text) = Limits::new(room).and_then(|l| l.with_overlap(limits.overlap().min(room - 1)))
    else {
        unreachable!("the room is at least 1")
    };
    let found = match method {
        Method::Sentence => try_split_sentences(text, limits_of_text, count)?,
        Method::Markdown => try_split_markdown(text, limits_of_text, count)?,
        Method::None | Method::Recursive | Method::Html => try_split(text, limits_of_text, count)?,
    };
    // Two texts together may have more tokens than each by itself.
    let mut ranges = Vec::with_capacity(found.len());
    for range in found {
        halve(text, range, limits.max_tokens(), &embedded, &mut ranges)?;
    }
    Ok(ranges)
}

fn under<'t>(heading: &str, text: &'t str) -> Cow<'t, str> {
    if heading.is_empty() { text.into() } else { format!("{heading}\n{text}").into() }
}

/// Turns bytes into characters; asked for places that mostly go up, it counts each stretch once.
struct Characters<'t> {
    text: &'t str,
    byte: usize,
    character: usize,
}

impl<'t> Characters<'t> {
    fn of(text: &'t str) -> Self {
        Self { text, byte: 0, character: 0 }
    }

    fn at(&mut self, byte: usize) -> usize {
        if byte >= self.byte {
            self.character += self.text[self.byte..byte].chars().count();
        } else {
            self.character -= self.text[byte..self.byte].chars().count();
        }
        self.byte = byte;
        self.character
    }

    fn range(&mut self, bytes: Range<usize>) -> Range<usize> {
        self.at(bytes.start)..self.at(bytes.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn words(text: &str) -> Result<usize, Infallible> {
        Ok(2 + text.split_whitespace().count())
    }

    fn characters(text: &str) -> Result<usize, Infallible> {
        Ok(text.chars().count())
    }

    fn cut(content: &str, method: Method, max: usize, overlap: usize) -> Vec<Chunk> {
        let limits = Limits::new(max).unwrap().with_overlap(overlap).unwrap();
        chunks(content, method, limits, &words).unwrap()
    }

    fn texts(chunks: &[Chunk]) -> Vec<(&str, &str)> {
        chunks.iter().map(|c| (&c.heading[..], &c.text[..])).collect()
    }

    #[test]
    fn methods_have_names() {
        for (name, method) in Method::ALL {
            assert_eq!(name.parse(), Ok(method));
            assert_eq!(method.to_string(), name);
        }
        assert!("Markdown".parse::<Method>().is_err());
    }

    #[test]
    fn blank_content_has_no_chunks() {
        for (_, method) in Method::ALL {
            assert!(cut("", method, 8, 0).is_empty());
            assert!(cut(" \n\t\u{3000} ", method, 8, 0).is_empty());
        }
    }

    #[test]
    fn none_keeps_all() {
        let text = format!("\n{}end ", "word ".repeat(500));
        let found = cut(&text, Method::None, 8, 0);
        assert_eq!((found.len(), &found[0].text[..]), (1, text.trim()));
        assert_eq!(found[0].characters, 1..text.len() - 1);
    }

    #[test]
    fn sentences_are_packed_whole() {
        let text = "One two. Three four. Five six. Seven eight nine ten eleven.";
        let found = cut(text, Method::Sentence, 6, 0);
        let expected = ["One two. Three four.", "Five six.", "Seven eight nine ten", "eleven."];
        assert_eq!(found.iter().map(|c| &c.text[..]).collect::<Vec<_>>(), expected);
        let found = cut(text, Method::Sentence, 6, 4);
        assert_eq!(found[1].text, "Three four. Five six.");
    }

    #[test]
    fn chinese_sentences_are_packed_whole() {
        let limits = Limits::new(16).unwrap();
        let text = "数据库很重要。我们每天都用它。你知道吗？知道！";
        let found = chunks(text, Method::Sentence, limits, &characters).unwrap();
        let expected = ["数据库很重要。我们每天都用它。", "你知道吗？知道！"];
        assert_eq!(found.iter().map(|c| &c.text[..]).collect::<Vec<_>>(), expected);
        assert_eq!(found[1].characters, 15..23);
    }

    #[test]
    fn markdown_carries_its_headings() {
        let text = "# Tea\n\nAll about tea.\n\n## Green\n\nSteep at 70 degrees.";
        let found = cut(text, Method::Markdown, 20, 0);
        assert_eq!(texts(&found), [("Tea", "All about tea."), ("Tea > Green", "Steep at 70 degrees.")]);
        assert_eq!(found[1].embedded(), "Tea > Green\nSteep at 70 degrees.");
        assert_eq!(found[1].tokens, 2 + 3 + 4);
    }

    #[test]
    fn code_blocks_and_tables_stay_whole_where_they_fit() {
        let code = "```sql\nSELECT a b c;\n\nSELECT d e f;\n```";
        let table = "| a | b |\n|---|---|\n| 1 2 | 3 |\n| 4 | 5 6 |";
        let text =
            format!("Some words of text before it.\n\n{code}\n\nMore words.\n\n{table}\n\nThe end of it.");
        let found = cut(&text, Method::Markdown, 24, 0);
        assert!(found.len() > 1, "{found:#?}");
        assert!(found.iter().any(|c| c.text.contains(code)), "{found:#?}");
        assert!(found.iter().any(|c| c.text.contains(table)), "{found:#?}");
    }

    #[test]
    fn html_carries_its_title_and_headings() {
        let html = "<title>Tea</title><p>All.</p><h2>Green</h2><p>Some.</p>";
        let found = cut(html, Method::Html, 20, 0);
        assert_eq!(texts(&found), [("Tea", "All."), ("Tea > Green", "Some.")]);
        assert_eq!(found[1].characters, 6..11);
    }

    #[test]
    fn long_headings_leave_room() {
        let text = format!("# {}\n\n## Near\n\n{}", "far ".repeat(300), "word ".repeat(40));
        let found = cut(&text, Method::Markdown, 12, 0);
        assert!(found.iter().all(|c| c.heading == "Near" && c.tokens <= 12), "{found:#?}");
    }

    proptest! {
        #[test]
        fn any_document_keeps_to_its_limits(
            parts in proptest::collection::vec(prop_oneof![
                proptest::sample::select(vec![
                    "# ", "## ", "\n", "\n\n", "```\n", "| a | b |\n|---|---|\n", "- ", "> ", "<h2>", "</h2>", "<pre>",
                    "。", "！", ". ", " ", "<p>", "===\n", "\u{3000}",
                ]).prop_map(str::to_owned),
                "\\PC{0,12}",
                "[a-c ]{0,40}",
            ], 0..40),
            max in 3usize..16, overlap in 0usize..3, of_characters: bool,
        ) {
            let content = parts.concat();
            let count: &dyn Fn(&str) -> Result<usize, Infallible> = if of_characters { &characters } else { &words };
            for (name, method) in Method::ALL {
                let limits = Limits::new(max).unwrap().with_overlap(overlap).unwrap();
                let found = chunks(&content, method, limits, count).unwrap();
                let text: Vec<char> = sections(&content, method).0.chars().collect();
                for chunk in &found {
                    prop_assert!(!chunk.text.is_empty() && chunk.text.trim() == chunk.text);
                    let at: String = text[chunk.characters.clone()].iter().collect();
                    prop_assert_eq!(&at, &chunk.text, "{}", name);
                    prop_assert_eq!(count(&chunk.embedded()).unwrap(), chunk.tokens);
                    prop_assert!(
                        method == Method::None || chunk.tokens <= max || chunk.text.chars().count() == 1,
                        "{}: {:?}", name, chunk
                    );
                }
                if matches!(method, Method::None | Method::Sentence | Method::Recursive) {
                    let kept = |c: &&char| !c.is_whitespace();
                    let covered: usize = (0..text.len())
                        .filter(|&i| !text[i].is_whitespace() && found.iter().any(|c| c.characters.contains(&i)))
                        .count();
                    prop_assert_eq!(covered, text.iter().filter(kept).count(), "{} loses text", name);
                }
            }
        }
    }
}

//! A page → passages that carry their page's and section's title, since a vector knows nothing but its text.

use anyhow::Result;
use pg_answer_text::chunk::{Limits, try_split};

use crate::manual::Page;

/// A piece of a section.
pub struct Passage {
    /// Headings of the section; empty for what stands before the first.
    pub section: String,
    /// Titles, then the text.
    pub body: String,
}

/// The passages of `page`: at most `max_tokens` tokens each, by `count`, which counts special tokens too.
///
/// # Errors
/// The counter's.
pub fn of(
    page: &Page,
    max_tokens: usize,
    count: &dyn Fn(&str) -> pg_answer_inference::Result<usize>,
) -> Result<Vec<Passage>> {
    let mut passages = Vec::new();
    for section in &page.content.sections {
        let name = section.heading.join(" > ");
        let titles = [&page.content.title[..], &name].map(str::trim);
        let titles = titles.into_iter().filter(|title| !title.is_empty()).collect::<Vec<_>>().join(". ");
        // Half the room is for the text, however long the titles are.
        let titles = cut(&titles, max_tokens / 2, count)?;
        let frame = count("")?;
        let room = (max_tokens + frame).saturating_sub(count(&titles)?);
        for range in try_split(&section.text, Limits::new(room.max(1))?, count)? {
            let body = [&titles[..], &section.text[range]].join("\n").trim().to_owned();
            passages.push(Passage { section: name.clone(), body });
        }
    }
    Ok(passages)
}

/// The beginning of `text` that has at most `max_tokens` tokens.
fn cut(
    text: &str,
    max_tokens: usize,
    count: &dyn Fn(&str) -> pg_answer_inference::Result<usize>,
) -> Result<String> {
    let first = try_split(text, Limits::new(max_tokens.max(1))?, count)?.into_iter().next();
    Ok(first.map_or_else(String::new, |range| text[range].to_owned()))
}

#[cfg(test)]
mod tests {
    use pg_answer_text::html;

    use super::*;

    fn page(html: &str) -> Page {
        Page { name: "p.html".to_owned(), chapter: "C".to_owned(), content: html::parse(html) }
    }

    /// Words and two special tokens.
    fn words(text: &str) -> pg_answer_inference::Result<usize> {
        Ok(2 + text.split_whitespace().count())
    }

    #[test]
    fn titles_come_first() {
        let passages =
            of(&page("<title>Tea</title><p>All.</p><h2>Green</h2><p>Some.</p>"), 64, &words).unwrap();
        let found: Vec<_> = passages.iter().map(|p| (&p.section[..], &p.body[..])).collect();
        assert_eq!(found, [("", "Tea\nAll."), ("Green", "Tea. Green\nSome.")]);
    }

    #[test]
    fn titles_count_however_long_they_are() {
        let html = format!("<title>{}</title><p>{}</p>", "title ".repeat(500), "word ".repeat(300));
        let passages = of(&page(&html), 64, &words).unwrap();
        assert!(passages.len() > 5);
        assert!(passages.iter().all(|p| words(&p.body).unwrap() <= 64 && p.body.contains("word")));
    }
}

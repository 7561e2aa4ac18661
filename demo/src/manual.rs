//! The manual's pages in the order of its chapters.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pg_answer_text::html;
use scraper::{Html, Selector};

/// One HTML page of the manual.
pub struct Page {
    /// File name.
    pub name: String,
    /// Title of the chapter it stands in, such as "Chapter 11. Indexes".
    pub chapter: String,
    /// Title and sections.
    pub content: html::Page,
}

/// Pages that hold no prose of the manual's own.
const SKIPPED: [&str; 3] = ["index.html", "bookindex.html", "legalnotice.html"];

/// Reads the folder, or of it only the chapters in which the pages `only` stand, if there are any.
///
/// # Errors
/// When a file cannot be read, the folder is not the manual, or a page of `only` is not in it.
pub fn read(folder: &Path, only: &[String]) -> Result<Vec<Page>> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.ends_with(".html") && !SKIPPED.contains(&&name[..]) {
            let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            sources.push((name, source));
        }
    }
    ensure!(!sources.is_empty(), "no HTML pages in {}", folder.display());
    sources.sort();
    let parents =
        sources.iter().map(|(name, source)| (name.clone(), parent(source))).collect::<HashMap<_, _>>();
    for page in only {
        ensure!(parents.contains_key(page), "the manual has no page {page}");
    }
    let chosen: Vec<&str> = only.iter().map(|page| chapter(page, &parents)).collect();
    let mut pages = Vec::new();
    for (name, source) in &sources {
        let root = chapter(name, &parents);
        if only.is_empty() || chosen.contains(&root) {
            let title = sources.iter().find(|(name, _)| name == root).map(|(_, source)| title(source));
            let chapter = title.unwrap_or_else(|| root.to_owned());
            pages.push(Page { name: name.clone(), chapter, content: html::parse(source) });
        }
    }
    Ok(pages)
}

/// The page that a page's "Up" link names.
fn parent(source: &str) -> Option<String> {
    let up = Selector::parse(r#"a[accesskey="u"]"#).ok()?;
    Html::parse_document(source).select(&up).next()?.attr("href").map(str::to_owned)
}

fn title(source: &str) -> String {
    let selector = Selector::parse("title").ok();
    let document = Html::parse_document(source);
    let title = selector
        .and_then(|title| document.select(&title).next().map(|title| title.text().collect::<String>()));
    title.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The page of the chapter: the outermost page above `page`, but below the book and its parts.
fn chapter<'a>(page: &'a str, parents: &'a HashMap<String, Option<String>>) -> &'a str {
    let up = |page: &str| parents.get(page).and_then(Option::as_deref);
    // Parts hang on the index page, chapters on parts; a few chapters, such as the preface, on the index itself.
    let (mut chapter, mut steps) = (page, 0);
    while let Some(above) = up(chapter) {
        if !parents.contains_key(above) || is_part(above, parents) || steps > 8 {
            break;
        }
        chapter = above;
        steps += 1;
    }
    chapter
}

/// Whether the page is a part of the book: it hangs on the index page, and pages of pages hang on it.
fn is_part(page: &str, parents: &HashMap<String, Option<String>>) -> bool {
    const PARTS: [&str; 8] = [
        "tutorial.html",
        "sql.html",
        "admin.html",
        "client-interfaces.html",
        "server-programming.html",
        "reference.html",
        "internals.html",
        "appendixes.html",
    ];
    PARTS.contains(&page) && parents.get(page).is_some_and(Option::is_some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, up: &str, title: &str) {
        let html = format!(
            r#"<title>{title}</title><div class="navheader"><a accesskey="u" href="{up}">Up</a></div><p>Text of {name}.</p>"#
        );
        std::fs::write(folder.join(name), html).unwrap();
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "index.html", "x.html", "Manual");
        write(folder.path(), "preface.html", "index.html", "Preface");
        write(folder.path(), "sql.html", "index.html", "Part II. The SQL Language");
        write(folder.path(), "indexes.html", "sql.html", "Chapter 11.\u{a0}Indexes");
        write(folder.path(), "indexes-types.html", "indexes.html", "11.2. Index Types");
        folder
    }

    #[test]
    fn pages_know_their_chapters() {
        let pages = read(folder().path(), &[]).unwrap();
        let found: Vec<_> = pages.iter().map(|page| (&page.name[..], &page.chapter[..])).collect();
        let expected = [
            ("indexes-types.html", "Chapter 11. Indexes"),
            ("indexes.html", "Chapter 11. Indexes"),
            ("preface.html", "Preface"),
            ("sql.html", "Part II. The SQL Language"),
        ];
        assert_eq!(found, expected);
        assert_eq!(pages[0].content.sections[0].text, "Text of indexes-types.html.");
    }

    #[test]
    fn chapters_are_taken_whole() {
        let folder = folder();
        let pages = read(folder.path(), &["indexes-types.html".to_owned()]).unwrap();
        assert_eq!(
            pages.iter().map(|page| &page.name[..]).collect::<Vec<_>>(),
            ["indexes-types.html", "indexes.html"]
        );
        assert!(read(folder.path(), &["nothing.html".to_owned()]).is_err());
        assert!(read(&folder.path().join("nowhere"), &[]).is_err());
    }
}

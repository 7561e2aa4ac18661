//! HTML page → title and sections of clean text.
//!
//! Left out: scripts, styles, navigation, tables of contents, form controls. Kept: line breaks of `<pre>`,
//! tables as one line per row with ` | ` between the cells, lists as lines.

use ego_tree::iter::Edge;
use scraper::node::Element;
use scraper::{Html, Node};

use crate::lines::Lines;

/// A page as a reader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Text of `<title>`, or of the first heading where there is none; may be empty.
    pub title: String,
    /// Its sections in the order of the page. None is empty.
    pub sections: Vec<Section>,
}

/// What stands under one heading, up to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// Headings from the outermost to its own; empty for text before the first heading. A heading that only
    /// repeats the page's title is left out.
    pub heading: Vec<String>,
    /// Paragraphs, separated by blank lines; lines inside them by line breaks.
    pub text: String,
}

/// Separates the cells of a table's row.
const CELL: &str = "|";

/// Reads a page. Any string is one: broken markup is repaired as browsers do it.
///
/// ```
/// let page = pg_answer_text::html::parse("<title>Tea</title><h1>Tea</h1><h2>Green</h2><p>Steep\n at 70 °C.");
/// assert_eq!(page.title, "Tea");
/// assert_eq!(page.sections[0].heading, ["Green"]);
/// assert_eq!(page.sections[0].text, "Steep at 70 °C.");
/// ```
pub fn parse(html: &str) -> Page {
    let document = Html::parse_document(html);
    let mut reader = Reader::default();
    let mut skipping = None;
    // An iterator over edges, not recursion: a page may nest deeper than a stack is long.
    for edge in document.tree.root().traverse() {
        match edge {
            Edge::Open(node) if skipping.is_none() => match node.value() {
                Node::Element(element) if is_left_out(element) => skipping = Some(node.id()),
                Node::Element(element) => reader.open(element, || is_layout(&node)),
                Node::Text(text) => reader.text(text),
                _ => {}
            },
            Edge::Close(node) if skipping == Some(node.id()) => skipping = None,
            Edge::Close(node) if skipping.is_none() => {
                if let Node::Element(element) = node.value() {
                    reader.close(element);
                }
            }
            _ => {}
        }
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    title: Option<String>,
    sections: Vec<Section>,
    lines: Lines,
    /// Open headings: level and text.
    headings: Vec<(u8, String)>,
    /// For each open element that bounds its headings: how many were open before it.
    bounds: Vec<usize>,
    /// Level of the heading that is being read; its text is in `heading`.
    level: Option<u8>,
    heading: Lines,
    in_title: bool,
    title_text: Lines,
    /// Open `<pre>` elements.
    pre: usize,
    /// Open elements whose headings are mere labels.
    asides: usize,
    /// For each open table: whether it only arranges the page, and cells so far in the row.
    tables: Vec<(bool, usize)>,
}

impl Reader {
    fn open(&mut self, element: &Element, layout: impl Fn() -> bool) {
        match element.name() {
            "title" if self.title.is_none() => self.in_title = true,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if self.asides == 0 && !self.in_cell() => {
                self.end_section();
                self.level = element.name().as_bytes().last().map(|digit| digit - b'0');
            }
            "pre" => {
                self.break_lines(2);
                self.pre += 1;
            }
            "table" => {
                self.lines.break_lines(2);
                self.tables.push((layout(), 0));
            }
            "tr" => {
                self.lines.break_lines(1);
                if let Some((_, cells)) = self.tables.last_mut() {
                    *cells = 0;
                }
            }
            "td" | "th" => self.open_cell(),
            name => {
                if is_aside(element) {
                    self.asides += 1;
                }
                if is_bound(element) {
                    self.bounds.push(self.headings.len());
                }
                self.break_for(name);
            }
        }
    }

    fn close(&mut self, element: &Element) {
        match element.name() {
            "title" if self.in_title => {
                self.in_title = false;
                self.title = Some(self.title_text.take()).filter(|title| !title.is_empty());
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if self.level.is_some() => self.end_heading(),
            "pre" => {
                self.pre = self.pre.saturating_sub(1);
                self.break_lines(2);
            }
            "table" => {
                self.tables.pop();
                self.lines.break_lines(2);
            }
            "td" | "th" => self.lines.space(),
            name => {
                if is_aside(element) {
                    self.asides = self.asides.saturating_sub(1);
                }
                if is_bound(element) {
                    self.end_bound();
                }
                self.break_for(name);
            }
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_title {
            self.title_text.push(text);
        } else if self.pre > 0 && self.level.is_none() && !self.in_cell() {
            self.lines.push_verbatim(text);
        } else {
            self.out().push(text);
        }
    }

    /// Where running text goes.
    fn out(&mut self) -> &mut Lines {
        if self.level.is_some() { &mut self.heading } else { &mut self.lines }
    }

    /// Whether text stands in a cell of a table with rows of data: one line, whatever is inside.
    fn in_cell(&self) -> bool {
        self.tables.last().is_some_and(|(layout, cells)| !layout && *cells > 0)
    }

    fn open_cell(&mut self) {
        match self.tables.last_mut() {
            Some((false, cells)) => {
                *cells += 1;
                if *cells > 1 {
                    self.lines.push_mark(CELL);
                }
            }
            _ => self.lines.break_lines(2),
        }
    }

    fn break_for(&mut self, name: &str) {
        let newlines = match name {
            "p" | "div" | "section" | "article" | "main" | "blockquote" | "ul" | "ol" | "dl" | "figure"
            | "hr" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "aside" | "header" | "address" | "details"
            | "fieldset" | "body" => 2,
            "br" | "li" | "dt" | "dd" | "figcaption" | "caption" | "summary" | "tbody" | "thead"
            | "tfoot" => 1,
            _ => return,
        };
        self.break_lines(newlines);
    }

    fn break_lines(&mut self, newlines: usize) {
        if self.in_cell() { self.lines.space() } else { self.out().break_lines(newlines) }
    }

    fn end_heading(&mut self) {
        let Some(level) = self.level.take() else { return };
        let text = self.heading.take().replace('\n', " ");
        if text.is_empty() {
            return;
        }
        // A heading closes those of its own level and below, but none outside the element it stands in.
        let floor = self.bounds.last().copied().unwrap_or(0);
        while self.headings.len() > floor && self.headings.last().is_some_and(|(open, _)| *open >= level) {
            self.headings.pop();
        }
        self.headings.push((level, text));
    }

    fn end_bound(&mut self) {
        if let Some(bound) = self.bounds.pop()
            && self.headings.len() > bound
        {
            self.end_section();
            self.headings.truncate(bound);
        }
    }

    fn end_section(&mut self) {
        let text = self.lines.take();
        if !text.is_empty() {
            let heading = self.headings.iter().map(|(_, text)| text.clone()).collect();
            self.sections.push(Section { heading, text });
        }
    }

    fn finish(mut self) -> Page {
        self.end_heading();
        self.end_section();
        let first = || self.sections.iter().find_map(|section| section.heading.first().cloned());
        let title = self.title.take().or_else(first).unwrap_or_default();
        for section in &mut self.sections {
            if section.heading.first() == Some(&title) {
                section.heading.remove(0);
            }
        }
        Page { title, sections: self.sections }
    }
}

/// Elements without text of the page itself.
fn is_left_out(element: &Element) -> bool {
    const NAMES: [&str; 17] = [
        "script", "style", "noscript", "template", "nav", "footer", "svg", "math", "iframe", "object",
        "audio", "video", "canvas", "button", "select", "input", "textarea",
    ];
    const CLASSES: [&str; 11] = [
        "navheader",
        "navfooter",
        "navigation",
        "navbar",
        "sidebar",
        "sphinxsidebar",
        "breadcrumb",
        "breadcrumbs",
        "toc",
        "table-of-contents",
        "headerlink",
    ];
    NAMES.contains(&element.name())
        || element.attr("role") == Some("navigation")
        || element.attr("hidden").is_some()
        || matches!(element.attr("id"), Some("toc" | "navigation"))
        || element.classes().any(|class| CLASSES.iter().any(|left_out| class.eq_ignore_ascii_case(left_out)))
}

/// Elements whose headings are labels ("Note"), not sections.
fn is_aside(element: &Element) -> bool {
    const CLASSES: [&str; 7] = ["admonition", "note", "tip", "warning", "caution", "important", "example"];
    matches!(element.name(), "li" | "dd" | "blockquote" | "figure" | "aside" | "details")
        || element.name() == "div" && element.classes().any(|class| CLASSES.contains(&class))
}

/// Elements that hold a section with its heading.
fn is_bound(element: &Element) -> bool {
    const CLASSES: [&str; 7] =
        ["sect", "refsect", "section", "simplesect", "chapter", "appendix", "refsynopsisdiv"];
    matches!(element.name(), "section" | "article")
        || element.name() == "div"
            && element
                .classes()
                .any(|class| CLASSES.contains(&class.trim_end_matches(|c: char| c.is_ascii_digit())))
}

/// Whether a table only arranges the page: it holds headings or other tables.
fn is_layout(table: &ego_tree::NodeRef<'_, Node>) -> bool {
    table.descendants().skip(1).any(|node| match node.value() {
        Node::Element(e) => matches!(e.name(), "table" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6"),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sections(html: &str) -> Vec<(String, String)> {
        parse(html).sections.into_iter().map(|section| (section.heading.join(" > "), section.text)).collect()
    }

    fn text(html: &str) -> String {
        sections(html).into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n\n")
    }

    fn pair(heading: &str, text: &str) -> (String, String) {
        (heading.to_owned(), text.to_owned())
    }

    #[test]
    fn headings_make_a_path() {
        let html = "<title>T</title>zero<h1>A</h1>one<h2>B <i>b</i></h2>two<h3>C</h3>three<h2>D</h2>four";
        let expected =
            [("", "zero"), ("A", "one"), ("A > B b", "two"), ("A > B b > C", "three"), ("A > D", "four")];
        assert_eq!(sections(html), expected.map(|(heading, text)| pair(heading, text)));
    }

    #[test]
    fn a_heading_ends_with_the_element_around_its_section() {
        let html = r#"<div class="sect1"><h2>A</h2>one<div class="sect2"><h3>B</h3>two</div>three</div>four"#;
        let expected = [("A", "one"), ("A > B", "two"), ("A", "three"), ("", "four")];
        assert_eq!(sections(&format!("<title>T</title>{html}")), expected.map(|(h, t)| pair(h, t)));
    }

    #[test]
    fn the_title_is_not_repeated() {
        let page = parse("<title>Tea &amp; coffee</title><h1>Tea &amp; coffee</h1>x<h2>Green</h2>y");
        assert_eq!(page.title, "Tea & coffee");
        assert_eq!(page.sections[0].heading, [""; 0]);
        assert_eq!(page.sections[1].heading, ["Green"]);
        assert_eq!(parse("<h1>First</h1>x").title, "First");
        assert_eq!(parse("x").title, "");
    }

    #[test]
    fn white_space_collapses_and_blocks_break() {
        assert_eq!(text("<p>a\n  b<b> c</b>d&nbsp;e</p><p> f </p>g<br>h"), "a b cd e\n\nf\n\ng\nh");
        assert_eq!(text("<ul><li>a<li>b</ul>c"), "a\nb\n\nc");
        assert_eq!(text("<dl><dt>a</dt><dd><p>b</p></dd><dt>c</dt></dl>"), "a\n\nb\n\nc");
    }

    #[test]
    fn preformatted_text_keeps_its_lines() {
        let html = "<p>x</p><pre>\n  SELECT <b>1</b>\n    AS a;\n\nEND\n</pre><p>y</p>";
        assert_eq!(text(html), "x\n\n  SELECT 1\n    AS a;\n\nEND\n\ny");
    }

    #[test]
    fn tables_are_lines_of_cells() {
        let html =
            "<table><thead><tr><th>Name<th>Type</thead><tr><td><p>a</p><p>b</p><td>int<tr><td><td>c</table>";
        assert_eq!(text(html), "Name | Type\na b | int\n| c");
    }

    #[test]
    fn tables_that_arrange_the_page_are_no_tables() {
        let html = "<table><tr><td>left<td><h2>H</h2><p>a</p><p>b</p></table>";
        assert_eq!(sections(&format!("<title>T</title>{html}")), [pair("", "left"), pair("H", "a\n\nb")]);
    }

    #[test]
    fn notes_and_lists_make_no_sections() {
        let html = r#"<h2>H</h2>a<div class="note"><h3>Note</h3><p>b</p></div>c<ul><li><h4>d</h4>e</ul>"#;
        assert_eq!(
            sections(&format!("<title>T</title>{html}")),
            [pair("H", "a\n\nNote\n\nb\n\nc\n\nd\n\ne")]
        );
    }

    #[test]
    fn what_is_not_text_is_left_out() {
        let html = r#"<nav>a</nav><div class="big TOC">b</div><script>c</script><style>d</style><p hidden>e</p>
            <div role="navigation">f</div><select><option>g</select><template>h</template>i"#;
        assert_eq!(text(html), "i");
    }

    #[test]
    fn deep_nesting_is_no_problem() {
        let html = format!("{}x", "<div>".repeat(20_000));
        assert_eq!(text(&html), "x");
    }

    proptest! {
        #[test]
        fn any_markup_is_a_page(parts in proptest::collection::vec(prop_oneof![
            proptest::sample::select(vec![
                "<h1>", "</h1>", "<h3>", "<pre>", "</pre>", "<table>", "<tr>", "<td>", "</table>", "<li>", "<p>",
                "<div class=note>", "<section>", "</section>", "</div>", "<br>", "<title>", "</title>", "<nav>",
                "<!--", "-->", "<", "&#0;", "&", "<svg>", "<select>", "\r\n",
            ]).prop_map(str::to_owned),
            "\\PC{0,8}",
        ], 0..60)) {
            for section in parse(&parts.concat()).sections {
                prop_assert!(!section.text.trim().is_empty());
                prop_assert!(section.heading.iter().all(|heading| !heading.is_empty()));
            }
        }
    }
}

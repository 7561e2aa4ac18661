//! Collects text the way a browser lays it out: white space collapses, blocks begin new lines or paragraphs.

/// Text in the making. Breaks and spaces are pending until something visible follows, so none is ever
/// doubled, leading or trailing.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: String,
    space: bool,
    newlines: usize,
}

impl Lines {
    /// Asks for a line break (1) or a blank line (2) before what follows.
    pub(crate) fn break_lines(&mut self, newlines: usize) {
        self.newlines = self.newlines.max(newlines);
    }

    /// Asks for a space before what follows.
    pub(crate) fn space(&mut self) {
        self.space = true;
    }

    /// Adds running text; white space in it collapses.
    pub(crate) fn push(&mut self, text: &str) {
        if text.starts_with(is_space) {
            self.space();
        }
        for word in text.split(is_space).filter(|word| !word.is_empty()) {
            self.flush();
            self.text.push_str(word);
            self.space();
        }
        if !text.ends_with(is_space) && text.contains(|c| !is_space(c)) {
            self.space = false;
        }
    }

    /// Adds text as it stands, line breaks and indentation included.
    pub(crate) fn push_verbatim(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n");
        if !text.is_empty() {
            self.flush();
            self.text.push_str(&text);
        }
    }

    /// Adds a mark such as a cell border, with space around it.
    pub(crate) fn push_mark(&mut self, mark: &str) {
        self.space();
        self.flush();
        self.text.push_str(mark);
        self.space();
    }

    /// The text so far; starts anew.
    pub(crate) fn take(&mut self) -> String {
        self.space = false;
        self.newlines = 0;
        // Of verbatim text the first line's indentation means something, blank lines around it do not.
        std::mem::take(&mut self.text).trim_start_matches('\n').trim_end().to_owned()
    }

    fn flush(&mut self) {
        if self.text.is_empty() {
        } else if self.newlines > 0 {
            let end = self.text.trim_end_matches([' ', '\n']).len();
            self.text.truncate(end);
            self.text.extend(std::iter::repeat_n('\n', self.newlines));
        } else if self.space {
            self.text.push(' ');
        }
        self.space = false;
        self.newlines = 0;
    }
}

/// White space that HTML collapses, and the no-break space, which authors use for the same.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{a0}'
}

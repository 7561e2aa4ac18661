//! From tokens to text as it comes: whole characters only, and nothing of a stop string.

/// Text that tokens make, given out as soon as it is certain.
pub struct Stream {
    stops: Vec<String>,
    /// Bytes that are not a whole character yet.
    bytes: Vec<u8>,
    text: String,
    given: usize,
    stopped: bool,
}

impl Stream {
    /// An empty text that ends before the first of `stops`.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, bytes: Vec::new(), text: String::new(), given: 0, stopped: false }
    }

    /// Adds the bytes of a token and gives the text that is now certain.
    pub fn push(&mut self, bytes: &[u8]) -> &str {
        self.bytes.extend_from_slice(bytes);
        self.advance(false)
    }

    /// Gives the rest of the text, when no more tokens come.
    pub fn finish(&mut self) -> &str {
        self.advance(true)
    }

    /// Whether a stop string was met.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// All that has been given out.
    pub fn into_text(mut self) -> String {
        self.text.truncate(self.given);
        self.text
    }

    fn advance(&mut self, last: bool) -> &str {
        let start = self.given;
        if !self.stopped {
            // A stop string can begin in text that is held back already.
            let from = self.text.len().min(self.given);
            self.decode(last);
            let rest = &self.text[from..];
            let stop = self.stops.iter().filter_map(|stop| rest.find(stop.as_str())).min();
            if let Some(at) = stop {
                self.stopped = true;
                self.given = from + at;
            } else {
                let held = if last { 0 } else { self.held(rest) };
                self.given = self.text.len() - held;
            }
        }
        &self.text[start..self.given]
    }

    /// Moves whole characters into the text. Invalid bytes become U+FFFD, and so does U+0000, which PostgreSQL's
    /// text cannot hold.
    fn decode(&mut self, last: bool) {
        let mut used = 0;
        let mut chunks = self.bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.text.extend(chunk.valid().chars().map(|c| if c == '\0' { '\u{FFFD}' } else { c }));
            used += chunk.valid().len();
            let broken = chunk.invalid();
            let may_continue = chunks.peek().is_none()
                && !last
                && std::str::from_utf8(broken).is_err_and(|e| e.error_len().is_none());
            if !broken.is_empty() && !may_continue {
                self.text.push('\u{FFFD}');
                used += broken.len();
            }
        }
        self.bytes.drain(..used);
    }

    /// Length of the longest end of `rest` that a stop string begins with.
    fn held(&self, rest: &str) -> usize {
        let starts = rest.char_indices().map(|(at, _)| &rest[at..]);
        starts
            .filter(|end| self.stops.iter().any(|stop| stop.starts_with(end)))
            .map(str::len)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], tokens: &[&[u8]]) -> (Vec<String>, String, bool) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut stream = Stream::new(&stops);
        let mut pieces: Vec<String> = tokens.iter().map(|t| stream.push(t).to_owned()).collect();
        pieces.push(stream.finish().to_owned());
        let stopped = stream.stopped();
        (pieces, stream.into_text(), stopped)
    }

    #[test]
    fn characters_come_whole() {
        let (pieces, text, _) = run(&[], &[b"a\xe7", b"\x9f", b"\xb3!", b"\xf0\x9f"]);
        assert_eq!(pieces, ["a", "", "石!", "", "\u{FFFD}"]);
        assert_eq!(text, "a石!\u{FFFD}");
        let (pieces, ..) = run(&[], &[b"\xff\xe7", b"x\0"]);
        assert_eq!(pieces, ["\u{FFFD}", "\u{FFFD}x\u{FFFD}", ""]);
    }

    #[test]
    fn stop_strings_may_span_tokens() {
        let (pieces, text, stopped) = run(&["END"], &[b"one E", b"N", b"D two", b" three"]);
        assert_eq!(pieces, ["one ", "", "", "", ""]);
        assert_eq!((text.as_str(), stopped), ("one ", true));
        let (pieces, text, stopped) = run(&["END"], &[b"one E", b"N", b"X", b" E"]);
        assert_eq!(pieces, ["one ", "", "ENX", " ", "E"]);
        assert_eq!((text.as_str(), stopped), ("one ENX E", false));
    }

    #[test]
    fn the_first_stop_string_counts() {
        let (_, text, stopped) = run(&["\n\n", "b", ""], &[b"a\n", b"\nb"]);
        assert_eq!((text.as_str(), stopped), ("a", true));
        let (_, text, _) = run(&["\u{7802}"], &["石砂x".as_bytes()]);
        assert_eq!(text, "石");
    }
}

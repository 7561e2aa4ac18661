//! Any text → the words that a text index holds: what stands between blanks, for PostgreSQL's dictionaries to look up.

use std::borrow::Cow;

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{UnicodeNormalization, is_nfkc};

/// Longest word that is kept, in bytes; what is longer is no word.
const LONGEST_WORD: usize = 512;
/// Stands in identifiers for the characters that join their parts. It is a letter to every parser, and in no language's texts.
const JOINT: char = '\u{1C0}';

/// The words of `text` with a blank after each, at most `limit` bytes of them.
///
/// - Runs of letters, digits and marks are words.
/// - Scripts written without blanks (Chinese, Japanese, Korean, Thai and their neighbours) become pairs of characters; a run of
///   one stays one.
/// - Identifiers, versions and decimal numbers (`max_connections`, `pg_hba.conf`, `L6-v2`, `0.3`) are a word more as a whole,
///   after their parts: who asks for one by its name finds it before those that share a part.
///
/// Text in compatibility forms (full width) is read as the usual one.
pub fn search_words(text: &str, limit: usize) -> String {
    let text = if is_nfkc(text) { Cow::Borrowed(text) } else { text.nfkc().collect::<String>().into() };
    let mut words = Words { out: String::with_capacity(text.len().min(limit)), limit };
    for run in text.split(|c| !is_part(c) && !is_joint(c)) {
        if words.is_full() {
            break;
        }
        let run = run.trim_matches(is_joint);
        for part in run.split(is_joint) {
            words.push_scripts(part);
        }
        if is_identifier(run) {
            words.push(run.chars().map(|c| if is_joint(c) { JOINT } else { c }));
        }
    }
    words.out
}

struct Words {
    out: String,
    limit: usize,
}

impl Words {
    fn is_full(&self) -> bool {
        self.out.len() >= self.limit
    }

    fn push(&mut self, word: impl Iterator<Item = char>) {
        let begin = self.out.len();
        self.out.extend(word);
        let length = self.out.len() - begin;
        if length == 0 || length > LONGEST_WORD || self.out.len() >= self.limit {
            self.out.truncate(begin);
            // What comes after the first word that found no room would be short words only.
            self.limit = if length > 0 && length <= LONGEST_WORD { begin } else { self.limit };
        } else {
            self.out.push(' ');
        }
    }

    /// A run of letters, cut where scripts with and without blanks meet.
    fn push_scripts(&mut self, run: &str) {
        let mut rest = run;
        while let Some(first) = rest.chars().next() {
            let joined = is_without_blanks(first);
            let end = rest.find(|c| is_without_blanks(c) != joined).unwrap_or(rest.len());
            let (piece, next) = rest.split_at(end);
            rest = next;
            if joined && piece.chars().nth(1).is_some() {
                for (a, b) in piece.chars().zip(piece.chars().skip(1)) {
                    self.push([a, b].into_iter());
                }
            } else {
                self.push(piece.chars());
            }
        }
    }
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

fn is_joint(c: char) -> bool {
    matches!(c, '_' | '.' | '-' | ':')
}

/// Several parts that belong together: an underscore, a full stop or colons join them (`a_b`, `a.b`, `a::b`), or a hyphen
/// where there are digits. Words with a hyphen are words.
fn is_identifier(run: &str) -> bool {
    run.contains(is_joint)
        && !run.chars().any(is_without_blanks)
        && (run.contains(['_', '.', ':']) || run.contains(|c: char| c.is_numeric()))
}

/// Han, Kana, Hangul, Bopomofo, Thai, Lao, Myanmar, Khmer: words that no blank parts, or (Hangul) that grow endings.
pub fn is_without_blanks(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1100}'..='\u{11FF}' | '\u{1780}'..='\u{17FF}'
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30FF}' | '\u{3100}'..='\u{318F}' | '\u{31A0}'..='\u{31BF}'
        | '\u{31F0}'..='\u{31FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7FF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        search_words(text, usize::MAX)
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(|w| w.replace(JOINT, "+"))
            .collect()
    }

    #[test]
    fn keeps_words_and_drops_the_rest() {
        assert_eq!(words("It's 5 o'clock, naïve!"), ["It", "s", "5", "o", "clock", "naïve"]);
        assert_eq!(words("e\u{301}tude"), ["étude"]);
        assert!(words(" ...--- \n").is_empty());
    }

    #[test]
    fn pairs_characters_of_scripts_without_blanks() {
        assert_eq!(words("石英砂 price 38元"), ["石英", "英砂", "price", "38", "元"]);
        assert_eq!(words("ω-force开发的"), ["ω", "force", "开发", "发的"]);
        assert_eq!(words("カタカナ"), ["カタ", "タカ", "カナ"]);
        assert_eq!(words("ＡＢＣ１２"), ["ABC12"]);
    }

    #[test]
    fn identifiers_are_a_word_more() {
        assert_eq!(words("max_connections"), ["max", "connections", "max+connections"]);
        assert_eq!(words("in pg_hba.conf."), ["in", "pg", "hba", "conf", "pg+hba+conf"]);
        assert_eq!(words("0.3 or L6-v2"), ["0", "3", "0+3", "or", "L6", "v2", "L6+v2"]);
        assert_eq!(words("boundary-layer"), ["boundary", "layer"]);
        assert_eq!(words("08P01"), ["08P01"]);
    }

    #[test]
    fn stops_at_the_limit() {
        assert_eq!(search_words("one two three", 9), "one two ");
        assert_eq!(search_words(&"x".repeat(600), 1000), "");
    }

    proptest! {
        #[test]
        fn never_exceeds_the_limit(text in "\\PC{0,60}", limit in 0usize..80) {
            prop_assert!(search_words(&text, limit).len() <= limit);
        }
    }
}

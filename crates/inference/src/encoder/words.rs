//! How BERT cuts a text into words: characters are cleaned, then words end at white space and around punctuation.
//!
//! Categories and decompositions come from the tables that the tokenizers library uses, old as they are: models were
//! trained on what they say.

use serde::{Deserialize, Serialize};
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

/// What happens to the characters of a text before it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)]
pub struct Cleaning {
    /// Whether control characters are left out.
    pub drop_controls: bool,
    /// Whether each Chinese character is a word.
    pub part_chinese: bool,
    /// Whether letters lose their accents.
    pub strip_accents: bool,
    /// Whether letters become lower case.
    pub lower_case: bool,
}

impl Cleaning {
    /// Calls `emit` with each word of `text`.
    pub fn for_each_word(self, text: &str, emit: impl FnMut(&str)) {
        let kept = text.chars().filter(|&c| !(self.drop_controls && is_dropped(c)));
        let parted = kept.flat_map(|c| {
            let blank = (self.part_chinese && is_chinese(c)).then_some(' ');
            [blank, Some(c), blank].into_iter().flatten()
        });
        if self.strip_accents {
            let decomposed = parted.nfd().map(|(c, _)| c);
            self.cut(decomposed.filter(|c| c.is_ascii() || !c.is_mark_nonspacing()), emit);
        } else {
            self.cut(parted, emit);
        }
    }

    fn cut(self, chars: impl Iterator<Item = char>, mut emit: impl FnMut(&str)) {
        let mut word = String::new();
        let mut push = |c: char| {
            let (blank, mark) = (c.is_whitespace(), is_punctuation(c));
            if (blank || mark) && !word.is_empty() {
                emit(&word);
                word.clear();
            }
            if !blank {
                word.push(c);
            }
            if mark {
                emit(&word);
                word.clear();
            }
        };
        for c in chars {
            if self.lower_case {
                c.to_lowercase().for_each(&mut push);
            } else {
                push(c);
            }
        }
        // The last word ends with the text.
        push(' ');
    }
}

fn is_dropped(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{fffd}' => true,
        _ if c.is_ascii() => c.is_ascii_control(),
        _ => c.is_other(),
    }
}

fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { c.is_punctuation() }
}

/// The blocks of ideographs that BERT knows.
fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{4E00}'..='\u{9FFF}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{20000}'..='\u{2A6DF}'
            | '\u{2A700}'..='\u{2B73F}'
            | '\u{2B740}'..='\u{2B81F}'
            | '\u{2B920}'..='\u{2CEAF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{2F800}'..='\u{2FA1F}'
    )
}

//! The languages that questions are put in.

use pg_answer_text::words::is_without_blanks;

/// A language with templates of its own; others are asked about in English.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// And all languages without templates.
    English,
    /// Where a third of the letters or more are of scripts without blanks.
    Chinese,
}

impl Language {
    /// The language of `text`, by its letters.
    pub fn of(text: &str) -> Self {
        let letters = text.chars().filter(|c| c.is_alphabetic());
        let (all, own) =
            letters.fold((0, 0), |(all, own), c| (all + 1, own + usize::from(is_without_blanks(c))));
        if own > 0 && own * 3 >= all { Self::Chinese } else { Self::English }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_tell() {
        assert_eq!(Language::of("电炉螺纹钢 HRB400"), Language::Chinese);
        for text in ["", "42", "quartz sand 砂", "sable de quartz"] {
            assert_eq!(Language::of(text), Language::English, "{text}");
        }
    }
}

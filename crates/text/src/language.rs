//! The languages that models are asked in.

/// A language with templates of its own; others are asked about in English.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// And all languages without templates.
    English,
    /// Where a third of the letters or more are Han, and none are those of Japanese or Korean.
    Chinese,
}

impl Language {
    /// The language of `text`, by its letters.
    pub fn of(text: &str) -> Self {
        let (mut letters, mut han) = (0, 0);
        for c in text.chars().filter(|c| c.is_alphabetic()) {
            if is_japanese_or_korean(c) {
                return Self::English;
            }
            letters += 1;
            han += usize::from(is_han(c));
        }
        if han > 0 && han * 3 >= letters { Self::Chinese } else { Self::English }
    }

    /// Its name in English.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "Chinese",
        }
    }
}

/// Unified and compatibility ideographs (Unicode, Blocks.txt).
fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// Kana and hangul.
fn is_japanese_or_korean(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{1100}'..='\u{11FF}' | '\u{AC00}'..='\u{D7AF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_tell() {
        for text in ["电炉螺纹钢 HRB400", "PostgreSQL 的默认端口是多少？"] {
            assert_eq!(Language::of(text), Language::Chinese, "{text}");
        }
        for text in ["", "42", "quartz sand 砂", "sable de quartz", "東京の人口は？", "서울의 人口는?"]
        {
            assert_eq!(Language::of(text), Language::English, "{text}");
        }
    }
}

//! Texts about texts: summaries, translations, other wordings.

use crate::Turn;

/// Tokens that instructions and the frame of a conversation may take beside a text.
pub const FRAME: usize = 256;

/// A text and what is to become of it.
#[derive(Debug, Clone, Copy)]
pub enum Task<'a> {
    /// A summary; `instruction` says more about it.
    Summarize {
        /// Such as "in one sentence, for children".
        instruction: Option<&'a str>,
    },
    /// The same in another language, named in English or in itself.
    Translate {
        /// Its name.
        language: &'a str,
    },
    /// The same changed as `instruction` says.
    Rewrite {
        /// Such as "more formal".
        instruction: &'a str,
    },
}

impl Task<'_> {
    /// What asks a chat model for it.
    pub fn turns(self, content: &str) -> Vec<Turn> {
        let (system, task) = match self {
            Self::Summarize { instruction } => {
                let more = instruction.map_or_else(String::new, |more| format!(" ({more})"));
                let system = "You summarise texts in their own language, in one to three complete sentences. Keep the names and numbers that \
                    matter, and add nothing. Reply with the summary alone.";
                (system, format!("Summarise this text{more}:"))
            }
            Self::Translate { language } => {
                let system = "You are a translator. Keep names, numbers and line breaks. Reply with the translation alone.";
                (system, format!("Translate this text into {language}:"))
            }
            Self::Rewrite { instruction } => {
                let system = "You rewrite texts. You do not answer them. Keep their meaning, names and numbers. Reply with the new text alone.";
                (system, format!("Rewrite this text so: {instruction}."))
            }
        };
        vec![Turn::system(system), Turn::user(format!("{task}\n\n{content}"))]
    }

    /// Whether `task`, a task of an encoder-decoder whose texts begin with `prefix`, is this one.
    pub fn is_called(self, task: &str, prefix: &str) -> bool {
        match self {
            Self::Summarize { .. } => task.starts_with("summarization"),
            Self::Translate { language } => {
                let wanted = format!("to {}:", language.trim().to_lowercase());
                task.starts_with("translation") && prefix.trim().to_lowercase().ends_with(&wanted)
            }
            Self::Rewrite { .. } => false,
        }
    }
}

/// The part of `text` up to the end of its last whole sentence, or all where there is none.
pub fn whole_sentences(text: &str) -> &str {
    let end = text.char_indices().rev().find_map(|(at, c)| {
        let rest = &text[at + c.len_utf8()..];
        let ends = matches!(c, '。' | '！' | '？')
            || matches!(c, '.' | '!' | '?') && rest.chars().next().is_none_or(char::is_whitespace);
        ends.then(|| at + c.len_utf8())
    });
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sentence_that_is_cut_goes() {
        assert_eq!(whole_sentences("It is 3.5 m. It is gre"), "It is 3.5 m.");
        assert_eq!(whole_sentences("石英砂。它是"), "石英砂。");
        assert_eq!(whole_sentences("no end at 3.5"), "no end at 3.5");
        assert_eq!(whole_sentences(""), "");
    }

    #[test]
    fn tasks_are_known_by_their_prefixes() {
        let german = Task::Translate { language: " German" };
        assert!(german.is_called("translation_en_to_de", "translate English to German: "));
        assert!(!german.is_called("translation_en_to_fr", "translate English to French: "));
        let short = Task::Summarize { instruction: None };
        assert!(
            short.is_called("summarization", "summarize: ") && !short.is_called("translation_en_to_de", "")
        );
        assert!(!Task::Rewrite { instruction: "x" }.is_called("summarization", ""));
    }

    #[test]
    fn the_text_is_the_user_s() {
        let turns = Task::Rewrite { instruction: "shorter" }.turns("Ignore that.");
        assert!(turns[1].content.contains("shorter") && turns[1].content.ends_with("\n\nIgnore that."));
        assert!(!turns[0].content.contains("Ignore"));
    }
}

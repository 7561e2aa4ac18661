//! What is said in place of an answer.

use pg_answer_text::language::Language;

/// What `rag_answer` says when nothing retrieved can hold the answer, and what the model is asked to say.
pub const REFUSAL: &str = "I cannot answer this from the available sources.";
const CHINESE: &str = "现有资料无法回答这个问题。";

/// The refusal of a question in `language`.
pub fn refusal(language: Language) -> &'static str {
    match language {
        Language::English => REFUSAL,
        Language::Chinese => CHINESE,
    }
}

/// Whether `answer` has a refusal in it, in whatever language.
pub(crate) fn refuses(answer: &str) -> bool {
    [REFUSAL, CHINESE.trim_end_matches('。')].iter().any(|refusal| answer.contains(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_in_both_languages() {
        for language in [Language::English, Language::Chinese] {
            assert!(refuses(&format!("  {} ", refusal(language))));
        }
        assert!(refuses("对不起，现有资料无法回答这个问题"));
        for answer in ["", "I cannot answer this.", "资料在表中。"] {
            assert!(!refuses(answer), "{answer}");
        }
    }
}

//! Text → words that can be compared with those of other texts.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use unicode_segmentation::UnicodeSegmentation;

/// Letters of a word that count: its inflections are the same.
const BEGINNING: usize = 5;
/// Share of a text's words that are stop words of its language, at least; of another language's they are few.
const STOP_WORDS_SHARE: f64 = 0.2;
/// Not a language but two, with most of English among its stop words.
const MIXED: &str = "hinglish";
/// What operators are made of.
const OPERATOR: &str = "+-*/<>=~!@#%^&|?";
/// What a text may say in words and an answer in digits.
const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
];

/// The words of `text` in lower case; each Chinese character is one. Of a word of letters the beginning counts;
/// identifiers, numbers and operators ("->>") count whole, and a unit that adjoins its number ("16MB") is a word by itself.
pub(crate) fn words(text: &str) -> HashSet<String> {
    whole_words(text).map(|word| beginning(&word)).collect()
}

/// The words of a text that an answer is looked up in: numbers below thirteen also as digits.
pub(crate) fn held_words(text: &str) -> HashSet<String> {
    let number = |word: String| NUMBERS.iter().position(|n| *n == word).map(|n| n.to_string());
    let mut held = words(text);
    held.extend(whole_words(text).filter_map(number));
    held
}

/// Stop words of all languages, each with the places of those languages whose it is: put in order once for a process.
static STOP_WORDS: LazyLock<HashMap<&str, Vec<usize>>> = LazyLock::new(|| {
    let languages = stop_words::available_languages().iter().filter(|name| **name != MIXED);
    let mut owners: HashMap<&str, Vec<usize>> = HashMap::new();
    for (language, list) in languages.filter_map(stop_words::lookup).enumerate() {
        for word in list {
            owners.entry(word).or_default().push(language);
        }
    }
    owners
});

/// Words of a language that say nothing by themselves.
pub(crate) struct StopWords {
    language: Option<usize>,
}

impl StopWords {
    /// Those of the language that most words of `texts` are stop words of; none where no language has a fifth of them.
    pub(crate) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut counts: HashMap<usize, usize> = HashMap::new();
        let mut said = 0;
        for word in texts.flat_map(whole_words) {
            said += 1;
            for language in STOP_WORDS.get(word.as_str()).into_iter().flatten() {
                *counts.entry(*language).or_default() += 1;
            }
        }
        let most = counts.into_iter().max_by_key(|(language, count)| (*count, *language));
        let enough =
            |(language, count)| (count as f64 > STOP_WORDS_SHARE * f64::from(said)).then_some(language);
        Self { language: most.and_then(enough) }
    }

    /// The words of `text` that are none of these.
    pub(crate) fn leave(&self, text: &str) -> HashSet<String> {
        let is_stop_word = |word: &str| {
            self.language.is_some_and(|own| STOP_WORDS.get(word).is_some_and(|of| of.contains(&own)))
        };
        whole_words(text).filter(|word| !is_stop_word(word)).map(|word| beginning(&word)).collect()
    }
}

fn whole_words(text: &str) -> impl Iterator<Item = String> {
    let words = text.unicode_words().flat_map(|word| {
        let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (number, unit) = word.split_at(digits);
        let parts = if unit.chars().all(char::is_alphabetic) { [number, unit] } else { [word, ""] };
        parts.into_iter().filter(|part| !part.is_empty()).map(str::to_lowercase)
    });
    words.chain(text.split(|c| !OPERATOR.contains(c)).filter(|run| is_operator(run)).map(str::to_owned))
}

/// Whether `text` asks for more than 0, which is a bound and says no value.
pub(crate) fn says_positive(text: &str) -> bool {
    let mut before = String::new();
    whole_words(text).any(|word| {
        let is_bound = word == "0" && before == "than";
        before = word;
        is_bound
    })
}

/// Two or more of the characters that operators are made of, not all of which are used as punctuation.
pub(crate) fn is_operator(word: &str) -> bool {
    word.len() > 1 && word.contains(|c| OPERATOR.contains(c) && !"+-*/!?".contains(c))
}

fn beginning(word: &str) -> String {
    if word.chars().all(char::is_alphabetic) {
        word.chars().take(BEGINNING).collect()
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inflections_are_one_word_and_numbers_are_not() {
        assert_eq!(words("connections"), words("Connected"));
        assert_ne!(words("1000001"), words("1000002"));
        assert_eq!(words("16MB"), words("16 mb"));
        assert_eq!(words("md5 int4 1e5x").len(), 3);
        let operators = [words("a->>b"), words("`@>`, -- **not** _this_?!")]
            .map(|w| w.iter().filter(|w| is_operator(w)).count());
        assert_eq!((operators, words("->>") == words("->")), ([1, 1], false));
        assert!(held_words("The default is five minutes.").contains("5"));
        assert!(!words("five").contains("5"));
    }

    #[test]
    fn stop_words_are_those_of_the_language() {
        let english = StopWords::of(["You can see it by using the view that is there."].into_iter());
        assert_eq!(english.leave("by the best view"), words("best view"));
        let german = StopWords::of(["Das Haus, das die Frau mit dem Hund und der Katze hat."].into_iter());
        assert_eq!(german.leave("die Katze by"), words("Katze by"));
        let none = StopWords::of(["服务器默认监听端口 5432。", ""].into_iter());
        assert_eq!(none.leave("the 端口"), words("the 端口"));
        assert_eq!(StopWords::of([].into_iter()).leave("the"), words("the"));
    }
}

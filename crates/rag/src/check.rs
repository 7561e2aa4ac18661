//! What of an answer its passages hold: each sentence is looked up by the words that it adds to the question.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::str::FromStr;

use unicode_segmentation::UnicodeSegmentation;

use crate::Passage;
use crate::citation::{cited, without_citations};
use crate::refusal::refuses;
use crate::words::{StopWords, held_words, is_operator, says_positive, words};

/// Share of a sentence's own words, weighted by how few passages hold them, that a passage must have to support it.
const ENOUGH: f64 = 0.5;
/// What a number, name or operator counts beside a word: most of a short answer lies in it.
const EXACT: f64 = 2.0;
/// Words before a comma that may only introduce a sentence, at most.
const INTRODUCTION: usize = 5;
/// What the model's own citation of a passage counts beside the words.
const OWN_CITATION: f64 = 0.05;
/// Words of a line that may be only a term, at most.
const TERM: usize = 3;
/// What the question's words in a passage count beside those of the sentence: of passages that support it, the one about the
/// question is cited before one that mentions the same.
const ASKED: f64 = 0.2;
/// Passages that a sentence cites, at most.
const MOST_CITED: usize = 2;
/// What begins a sentence that is about the one before.
const REFERENCES: [&str; 7] = ["this", "these", "that", "those", "这", "這", "此"];

/// What becomes of a sentence that no passage supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// It is left out.
    Drop,
    /// It is marked with `[?]`.
    Mark,
    /// It stays as it is.
    Keep,
}

impl FromStr for Unsupported {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "drop" => Ok(Self::Drop),
            "mark" => Ok(Self::Mark),
            "keep" => Ok(Self::Keep),
            _ => Err(format!("on_unsupported \"{name}\" is not drop, mark or keep")),
        }
    }
}

/// An answer after the check.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Its sentences with the numbers of their passages.
    pub text: String,
    /// What supports them.
    pub citations: Vec<Citation>,
    /// Mean support of all its sentences, from 0 to 1.
    pub support: f64,
}

/// A passage that supports a sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    /// Its index.
    pub passage: usize,
    /// Bytes of its content: the sentence there that holds most of the answer's.
    pub quote: Range<usize>,
    /// Share of the sentence's words that it holds.
    pub support: f64,
}

/// What the sentences of an answer are looked up in.
pub struct Evidence {
    /// The words of each passage.
    held: Vec<HashSet<String>>,
    /// The words of the question.
    asked: HashSet<String>,
    /// Those of any text.
    stop: StopWords,
    /// Whether the sentence before was left out.
    left_out: bool,
}

/// A sentence after the check.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// The sentence with the numbers of its passages; none if it is left out.
    pub text: Option<String>,
    /// What supports it, best first.
    pub citations: Vec<Citation>,
}

impl Evidence {
    /// The words of `query` and `passages`.
    pub fn new(query: &str, passages: &[Passage]) -> Self {
        let held =
            |p: &Passage| &held_words(&p.content) | &held_words(p.title.as_deref().unwrap_or_default());
        let stop = StopWords::of(passages.iter().map(|p| p.content.as_str()));
        Self { held: passages.iter().map(held).collect(), asked: words(query), stop, left_out: false }
    }

    /// What becomes of `sentence`, the next of an answer, given the passages of [`Evidence::new`]; none if it says nothing.
    pub fn look_up(
        &mut self,
        sentence: &str,
        passages: &[Passage],
        unsupported: Unsupported,
    ) -> Option<Sentence> {
        let plain = without_citations(sentence);
        let said = words(&plain);
        if said.is_empty() {
            return None;
        }
        let mut telling = self.stop.leave(&plain[self.introduction(&plain)..]);
        if says_positive(&plain) {
            telling.remove("0");
        }
        // What it refers to is not there.
        let is_torn = self.left_out && plain.unicode_words().next().is_some_and(refers_back);
        let citations = match is_torn {
            true => Vec::new(),
            false => self.supporters(&said, &telling, passages, &cited(sentence)),
        };
        let numbers = || citations.iter().map(|c| format!("[{}]", c.passage + 1)).collect::<String>();
        let text = match unsupported {
            _ if !citations.is_empty() => Some(append(&plain, &numbers())),
            Unsupported::Drop => None,
            Unsupported::Mark => Some(append(&plain, "[?]")),
            Unsupported::Keep => Some(plain.trim().to_owned()),
        };
        self.left_out = text.is_none();
        Some(Sentence { text, citations })
    }

    /// Bytes at the beginning of `sentence` that say nothing of its subject, such as "Based on the passage,": a few words before
    /// a comma none of which the question or a passage has.
    fn introduction(&self, sentence: &str) -> usize {
        let Some(comma) = sentence.find(',') else { return 0 };
        let words = self.stop.leave(&sentence[..comma]);
        let is_known = |word| self.asked.contains(word) || self.held.iter().any(|p| p.contains(word));
        let introduces =
            words.len() <= INTRODUCTION && !words.iter().any(|word| is_exact(word) || is_known(word));
        if introduces { comma } else { 0 }
    }

    /// The passages that support a sentence, those with more of the question's words first, then the first of equals; none
    /// if none does enough.
    fn supporters(
        &self,
        said: &HashSet<String>,
        telling: &HashSet<String>,
        passages: &[Passage],
        cited: &[usize],
    ) -> Vec<Citation> {
        // What the question says already is no evidence, nor are words that stand in any text.
        let new = telling - &self.asked;
        if new.is_empty() {
            return repeated(said, passages).into_iter().collect();
        }
        // Rarer words weigh more, as in BM25. Most of those that no passage has are the glue of a sentence and weigh least;
        // numbers and names among them are looked at below.
        let weight = |word: &String| {
            let found = self.held.iter().filter(|p| p.contains(word)).count();
            let held = if found == 0 { self.held.len() } else { found };
            (1.0 + self.held.len() as f64 / held as f64).ln() * if is_exact(word) { EXACT } else { 1.0 }
        };
        // In the order of the words, so that sums of the same words are the same.
        let weighed = |words: &HashSet<String>| {
            words.iter().map(|word| (word.clone(), weight(word))).collect::<BTreeMap<_, _>>()
        };
        let (told, asked) = (weighed(&new), weighed(&self.asked));
        let mut found = Vec::new();
        for (i, passage) in self.held.iter().enumerate() {
            if new.iter().any(|word| is_exact(word) && !passage.contains(word)) {
                continue;
            }
            let support = share(&told, passage);
            if support >= ENOUGH {
                let about = share(&asked, passage);
                let own = if cited.contains(&(i + 1)) { OWN_CITATION } else { 0.0 };
                found.push((support + ASKED * about + own, support, i));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let citation = |(_, support, passage): (f64, f64, usize)| Citation {
            passage,
            quote: quote(&passages[passage].content, said, |word| {
                if new.contains(word) { weight(word) } else { 0.0 }
            }),
            support,
        };
        found.into_iter().take(MOST_CITED).map(citation).collect()
    }
}

/// `answer` to `query` with a citation of the passage that supports it after each sentence, whatever the model cited.
///
/// A sentence is supported by a passage that has half of the words that it adds to the question, rarer ones counting more, and
/// all of its numbers and names that the question does not have. One that adds nothing must stand in a passage as a whole, and
/// one that begins with "this" must not follow one that is left out. A refusal has no support.
pub fn check(answer: &str, query: &str, passages: &[Passage], unsupported: Unsupported) -> Checked {
    let mut checked = Checked { text: String::new(), citations: Vec::new(), support: 0.0 };
    if refuses(answer) {
        return checked;
    }
    let mut evidence = Evidence::new(query, passages);
    let mut sentences = 0;
    for sentence in answer.split_sentence_bounds() {
        let Some(found) = evidence.look_up(sentence, passages, unsupported) else { continue };
        sentences += 1;
        if let Some(text) = found.text {
            if !checked.text.is_empty() {
                checked.text.push(if sentence.starts_with('\n') { '\n' } else { ' ' });
            }
            checked.text.push_str(&text);
        }
        checked.support += found.citations.first().map_or(0.0, |c| c.support);
        checked.citations.extend(found.citations);
    }
    checked.support /= f64::from(sentences.max(1));
    checked
}

/// The first sentence of a passage that has all the words `said`: who only repeats the question may confirm it.
fn repeated(said: &HashSet<String>, passages: &[Passage]) -> Option<Citation> {
    passages.iter().enumerate().find_map(|(passage, p)| {
        let mut sentences = p.content.split_sentence_bound_indices();
        let (start, sentence) = sentences.find(|(_, s)| said.is_subset(&words(s)))?;
        Some(Citation { passage, quote: trimmed(start, sentence), support: 1.0 })
    })
}

/// Share of the `words`' weights that a passage has; 0 of none.
fn share(words: &BTreeMap<String, f64>, passage: &HashSet<String>) -> f64 {
    let sum = |has: &dyn Fn(&str) -> bool| -> f64 {
        words.iter().filter(|(word, _)| has(word)).map(|(_, weight)| weight).sum()
    };
    let total = sum(&|_| true);
    if total > 0.0 { sum(&|word| passage.contains(word)) / total } else { 0.0 }
}

fn refers_back(word: &str) -> bool {
    REFERENCES.contains(&word.to_lowercase().as_str())
}

/// Numbers, identifiers and operators are right or wrong; words have inflections and synonyms.
fn is_exact(word: &str) -> bool {
    word.contains(|c: char| c.is_numeric() || c == '_') || is_operator(word)
}

/// The sentence of `content` that has most of the words `said` by `weight`, then most of them all, the first of equals. A term on
/// a line of its own is quoted with the sentence after it, which explains it.
fn quote(content: &str, said: &HashSet<String>, weight: impl Fn(&String) -> f64) -> Range<usize> {
    let mut best = ((0.0, 0), 0..content.len());
    let mut sentences =
        content.split_sentence_bound_indices().filter(|(_, s)| !s.trim().is_empty()).peekable();
    while let Some((start, sentence)) = sentences.next() {
        // As for support: a number may be spelt another way.
        let words = held_words(sentence);
        let shared = words.intersection(said);
        let merit = (shared.clone().map(&weight).sum::<f64>(), shared.count());
        if merit > best.0 {
            let own = trimmed(start, sentence);
            let after = sentences.peek().filter(|_| is_term(sentence)).map(|(start, s)| trimmed(*start, s));
            best = (merit, own.start..after.map_or(own.end, |after| after.end));
        }
    }
    best.1
}

/// Whether `sentence` is only a few words that no mark ends.
fn is_term(sentence: &str) -> bool {
    let marks = ['.', '!', '?', ':', '。', '！', '？', '：'];
    !sentence.trim_end().ends_with(marks) && sentence.unicode_words().count() <= TERM
}

/// The bytes of `sentence`, which begins at `start`, without the blanks around it.
fn trimmed(start: usize, sentence: &str) -> Range<usize> {
    let start = start + (sentence.len() - sentence.trim_start().len());
    start..start + sentence.trim().len()
}

/// `sentence` with `citation` before the mark that ends it, where one does.
fn append(sentence: &str, citation: &str) -> String {
    let sentence = sentence.trim();
    match sentence.char_indices().next_back() {
        Some((at, mark @ ('.' | '!' | '?'))) => format!("{} {citation}{mark}", &sentence[..at]),
        Some((at, mark @ ('。' | '！' | '？'))) => format!("{}{citation}{mark}", &sentence[..at]),
        _ => format!("{sentence} {citation}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::REFUSAL;

    fn passages() -> Vec<Passage> {
        [
            ("Autovacuum", "The daemon runs VACUUM by itself."),
            (
                "Connections",
                "Every client takes memory. The setting max_connections says how many the server allows; the default is 100 connections.",
            ),
            ("端口", "服务器默认监听端口 5432。"),
        ]
        .map(|(title, content)| Passage { title: Some(title.to_owned()), content: content.to_owned() })
        .to_vec()
    }

    fn text(answer: &str, query: &str) -> String {
        check(answer, query, &passages(), Unsupported::Drop).text
    }

    const QUERY: &str = "How many connections are allowed?";

    #[test]
    fn the_passage_that_holds_a_sentence_is_cited() {
        assert_eq!(text("By default 100 are allowed.", QUERY), "By default 100 are allowed [2].");
        assert_eq!(text("By default 100 may connect [1].", QUERY), "By default 100 may connect [2].");
        assert_eq!(text("max_connections", QUERY), "max_connections [2]");
        assert_eq!(text("服务器监听 5432 端口。", "服务器监听哪个端口？"), "服务器监听 5432 端口[3]。");
    }

    #[test]
    fn the_passage_about_the_question_is_cited_first() {
        let passages = [
            "After a failover the old primary may be repaired with pg_rewind.",
            "Other tools are no help with this. They copy the files.",
            "pg_rewind brings an old primary back in line after a failover, without a copy of everything.",
        ]
        .map(|content| Passage { title: None, content: content.to_owned() });
        let query = "How do I bring an old primary back into line without copying everything?";
        let checked = check("You can take pg_rewind.", query, &passages, Unsupported::Drop);
        assert_eq!(checked.text, "You can take pg_rewind [3][1].");
    }

    #[test]
    fn the_words_that_support_are_quoted() {
        let checked = check("The default is 100 connections.", QUERY, &passages(), Unsupported::Drop);
        let [citation] = &checked.citations[..] else { panic!("{checked:?}") };
        assert!(passages()[1].content[citation.quote.clone()].starts_with("The setting"));
        assert!(checked.support > 0.5);
    }

    #[test]
    fn what_is_quoted_has_the_telling_words() {
        let content = "Shutting down\n\nSIGTERM\n\nThe server is told that this is a smart shutdown, which is for the sessions.\n\n\
                       SIGINT\n\nThis is the Fast Shutdown mode. It aborts transactions.";
        let quoted = |answer: &str| {
            let passages = [Passage { title: None, content: content.to_owned() }];
            let checked =
                check(answer, "Which signal do I send for a fast shutdown?", &passages, Unsupported::Drop);
            checked.citations.iter().map(|c| content[c.quote.clone()].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            quoted("The signal for a fast shutdown is SIGINT."),
            ["SIGINT\n\nThis is the Fast Shutdown mode."]
        );
        assert_eq!(quoted("It aborts the transactions."), ["It aborts transactions."]);
    }

    #[test]
    fn passages_that_say_the_same_are_both_cited() {
        let passages = [
            "USING may be left out: B-tree is the default.",
            "The default is a B-tree.",
            "Hash indexes are others.",
        ]
        .map(|content| Passage { title: None, content: content.to_owned() });
        let checked = check("It is a B-tree.", "Which index is made?", &passages, Unsupported::Drop);
        assert_eq!(checked.text, "It is a B-tree [1][2].");
        assert_eq!(checked.citations.iter().map(|c| c.passage).collect::<Vec<_>>(), [0, 1]);
        assert!((checked.support - 1.0).abs() < 1e-12);
    }

    #[test]
    fn words_of_any_text_and_other_spellings_of_numbers_do_not_count_against_a_sentence() {
        let passages = [
            "The pg_stat_activity view will have one row for each process. The default is five minutes (5min).",
            "If you have set it, it is shown by ps, and the others are told of using signals.",
        ]
        .map(|content| Passage { title: None, content: content.to_owned() });
        let text = |answer: &str, query: &str| check(answer, query, &passages, Unsupported::Drop).text;
        let view = "You can see that by using the `pg_stat_activity` view.";
        assert!(text(view, "Where can I see that?").ends_with("view [1]."));
        for minutes in ["5 minutes", "5min", "five minutes"] {
            assert!(text(&format!("It takes {minutes}."), "How long?").ends_with("[1]."), "{minutes}");
        }
        assert_eq!(text("It takes 6 minutes.", "How long?"), "");
        assert_eq!(text("The operator is @>.", "Which operator?"), "");
        assert_eq!(text("It takes 5 hours, said the moon.", "How long?"), "");
    }

    #[test]
    fn introductions_do_not_count_and_names_count_more_than_words() {
        let passages = [Passage {
            title: None,
            content: "pg_read_all_data: Read all data (tables, views, sequences), as if having SELECT rights on them. The others do less.".to_owned(),
        }];
        let text = |answer: &str| {
            check(answer, "Which role may read all tables?", &passages, Unsupported::Drop).text
        };
        for supported in [
            "Based on the passage, the built-in role that may read all tables is pg_read_all_data.",
            "According to the documentation provided here, it is pg_read_all_data.",
            "The predefined role is pg_read_all_data.",
        ] {
            assert!(text(supported).ends_with("[1]."), "{supported}");
        }
        for wrong in [
            "On Mars, the moon is cheese.",
            "Based on this, it is pg_read_nothing.",
            "With pg_nothing, read data.",
        ] {
            assert_eq!(text(wrong), "", "{wrong}");
        }
    }

    #[test]
    fn what_no_passage_holds_is_left_out_or_marked() {
        for answer in
            ["The moon is made of cheese.", "7", "", " ", "?!", REFUSAL, "The default is 101 connections."]
        {
            assert_eq!(text(answer, QUERY), "", "{answer}");
        }
        let answer = "The default is 100 connections. The moon is made of cheese.";
        assert_eq!(text(answer, QUERY), "The default is 100 connections [2].");
        let keep = |unsupported| check(answer, QUERY, &passages(), unsupported).text;
        assert_eq!(
            keep(Unsupported::Mark),
            "The default is 100 connections [2]. The moon is made of cheese [?]."
        );
        assert_eq!(
            keep(Unsupported::Keep),
            "The default is 100 connections [2]. The moon is made of cheese."
        );
        assert_eq!(check("100.", QUERY, &[], Unsupported::Drop).text, "");
    }

    #[test]
    fn a_sentence_goes_with_the_one_that_it_refers_to() {
        let cheese = "The moon is made of cheese.";
        for (rest, kept) in [
            ("This is why the default is 100 connections.", ""),
            ("这说明服务器监听 5432 端口。", ""),
            ("It is 100 connections.", "It is 100 connections [2]."),
        ] {
            assert_eq!(text(&format!("{cheese} {rest}"), QUERY), kept);
        }
        let all = format!("{cheese} The default is 100 connections. This is max_connections.");
        assert_eq!(text(&all, QUERY), "The default is 100 connections [2]. This is max_connections [2].");
        let marked =
            check(&format!("{cheese} This is max_connections."), QUERY, &passages(), Unsupported::Mark);
        assert!(marked.text.ends_with("max_connections [2]."), "{}", marked.text);
    }

    #[test]
    fn more_than_0_is_no_number_to_be_found() {
        assert_eq!(
            text("Set max_connections to more than 0 connections.", QUERY),
            "Set max_connections to more than 0 connections [2]."
        );
        for wrong in [
            "The default is 0.",
            "Set max_connections to more than 7.",
            "Set max_connections to more than 0.5.",
        ] {
            assert_eq!(text(wrong, QUERY), "", "{wrong}");
        }
    }

    #[test]
    fn the_question_s_words_are_no_evidence() {
        // All but "7" stands in the question and in passage 2.
        assert_eq!(text("The default is 7.", "What is the default?"), "");
        assert_eq!(
            text("The default number of connections is [2].", "What is the default number of connections?"),
            ""
        );
        assert_eq!(
            text("The default is 100 connections.", "Is the default 100 connections?"),
            "The default is 100 connections [2]."
        );
    }
}

//! Whether two texts name the same thing: what a model says when asked in both orders, and what vectors and words say.

use std::collections::HashSet;

use pg_answer_text::language::Language;
use pg_answer_text::words::search_words;

use crate::Turn;

/// Bytes of words that are compared.
const MOST_WORDS: usize = 10_000;

/// What similarity and shared words count beside the model's judgement. Few and round numbers, chosen among a grid of 30 by
/// leaving out one material after the other of `tests/fixtures/matching`; docs/tasks.md has the figures.
const OF_MEANING: f64 = 1.0;
const OF_WORDS: f64 = 0.25;
/// Odds for a unit of all that together.
const SLOPE: f64 = 1.6;
/// Meaning and words of a pair that could match as well as not.
const USUAL_MEANING: f64 = 0.5;
const USUAL_WORDS: f64 = 0.4;
/// Probabilities nearer to a half than this are no verdict.
const DOUBT: f64 = 0.02;
/// Most that one order of a pair counts.
const MOST: f64 = 10.0;

/// How a language puts the question.
struct Wording {
    system: &'static str,
    /// Pairs that match or do not, alike and unlike in different ways; none of them is of the fixture.
    examples: [(&'static str, &'static str, bool); 8],
    answers: [&'static str; 2],
    /// The judgement, so put, of a pair that matches as likely as not: models prefer one answer.
    even: f64,
    ask: fn(&str, &str) -> String,
    why: fn(&str, &str, bool) -> String,
    /// What reasons begin with: for a match, and for none.
    begin: [&'static str; 2],
}

const ENGLISH: Wording = Wording {
    system: "You judge whether two entries name the same thing: the same material, product, activity or service. Different names, \
        languages, amounts, packaging or details of the same thing match. Another kind, another grade, another way of making it, \
        or only its raw material or a product made from it does not match. Answer Yes or No.",
    examples: [
        ("laptop computer, 15 inch", "notebook PC", true),
        ("apple juice, 1 l carton", "apples, fresh", false),
        ("whole milk, pasteurised", "cow milk, full fat, heat treated", true),
        ("skimmed milk", "whole milk", false),
        ("beech firewood", "oak firewood", false),
        ("Aspirin 500 mg", "acetylsalicylic acid tablets", true),
        ("bus ticket, city", "urban passenger transport by coach", true),
        ("hotel night", "restaurant meal", false),
    ],
    answers: ["Yes", "No"],
    even: 0.2,
    ask: |a, b| format!("A: {a}\nB: {b}\nSame thing?"),
    why: |item, candidate, matches| {
        let is = if matches { "is the same thing as" } else { "is not the same thing as" };
        format!(
            "\"{candidate}\" {is} \"{item}\". Say why in one sentence of at most fifteen words: what does \"{candidate}\" describe?"
        )
    },
    begin: ["match: ", "no match: "],
};

const CHINESE: Wording = Wording {
    system: "判断两个条目是否指同一种东西：同一种材料、产品、活动或服务。名称、语言、数量、包装或细节不同但指同一种东西，算匹配。\
        种类、等级、生产方式不同，或者只是它的原料或由它制成的产品，不算匹配。请回答“是”或“否”。",
    examples: [
        ("15英寸手提电脑", "笔记本电脑", true),
        ("苹果汁，1升盒装", "新鲜苹果", false),
        ("巴氏杀菌全脂奶", "全脂牛奶，热处理", true),
        ("脱脂牛奶", "全脂牛奶", false),
        ("山毛榉木柴", "橡木柴", false),
        ("阿司匹林500毫克", "乙酰水杨酸片", true),
        ("市内公交车票", "城市客运，大巴", true),
        ("酒店住宿一晚", "餐馆用餐", false),
    ],
    answers: ["是", "否"],
    even: 1.9,
    ask: |a, b| format!("甲：{a}\n乙：{b}\n是同一种东西吗？"),
    why: |item, candidate, matches| {
        let is = if matches { "是" } else { "不是" };
        format!(
            "“{candidate}”和“{item}”{is}同一种东西。请用一句不超过三十个字的中文说明理由：“{candidate}”描述的是什么？"
        )
    },
    begin: ["匹配：", "不匹配："],
};

fn wording(item: &str) -> &'static Wording {
    match Language::of(item) {
        Language::English => &ENGLISH,
        Language::Chinese => &CHINESE,
    }
}

/// The question for a pair, to be asked in both orders, the item first in the second, and the answers for yes and no. The item's language is that of both.
pub fn question(item: &str, candidate: &str) -> ([Vec<Turn>; 2], [&'static str; 2]) {
    let wording = wording(item);
    let turns = |a: &str, b: &str| {
        let mut turns = vec![Turn::system(wording.system)];
        for (a, b, matches) in wording.examples {
            turns.push(Turn::user((wording.ask)(a, b)));
            turns.push(Turn::assistant(wording.answers[usize::from(!matches)]));
        }
        turns.push(Turn::user((wording.ask)(a, b)));
        turns
    };
    ([turns(candidate, item), turns(item, candidate)], wording.answers)
}

/// What asks why, and what the reason begins with. It goes on from the question, which the model has read.
pub fn reason(item: &str, candidate: &str, matches: bool) -> (Vec<Turn>, &'static str) {
    let wording = wording(item);
    let ([_, mut turns], _) = question(item, candidate);
    turns.push(Turn::assistant(wording.answers[usize::from(!matches)]));
    turns.push(Turn::user((wording.why)(item, candidate, matches)));
    (turns, wording.begin[usize::from(!matches)])
}

/// Texts of other things, in the language of `item`: how near they are to it is how near anything is.
pub fn others(item: &str) -> [&'static str; 8] {
    wording(item).examples.map(|(text, ..)| text)
}

/// Similarity of two vectors, from 0 for what they have with `others` to 1; all have length 1.
pub fn meaning(item: &[f32], candidate: &[f32], others: &[Vec<f32>]) -> f64 {
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let all: f64 = others.iter().map(|other| cosine(item, other) + cosine(candidate, other)).sum();
    let floor = all / (2 * others.len()).max(1) as f64;
    if floor < 1.0 { (cosine(item, candidate) - floor) / (1.0 - floor) } else { 0.0 }
}

/// The share of words that two texts have in common, of those of the text with fewer.
pub fn shared_words(a: &str, b: &str) -> f64 {
    let [a, b] = [a, b].map(|text| {
        let words = search_words(text, MOST_WORDS).to_lowercase();
        words.split_whitespace().map(str::to_owned).collect::<HashSet<String>>()
    });
    a.intersection(&b).count() as f64 / a.len().min(b.len()).max(1) as f64
}

/// What is known of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    /// For each order the logarithm of the odds that the model says yes.
    pub judgements: [f64; 2],
    /// See [`meaning`].
    pub meaning: f64,
    /// How far the encoder can read the texts, from 0 to 1.
    pub trust: f64,
    /// See [`shared_words`].
    pub words: f64,
}

impl Evidence {
    /// The probability that the candidate matches `item`, whose language the question was put in.
    pub fn probability(&self, item: &str) -> f64 {
        let judgement = self.judgements.iter().map(|j| j.clamp(-MOST, MOST)).sum::<f64>() / 2.0;
        let evidence = judgement - wording(item).even
            + OF_MEANING * self.trust * (self.meaning - USUAL_MEANING)
            + OF_WORDS * (self.words - USUAL_WORDS);
        1.0 / (1.0 + (-SLOPE * evidence).exp())
    }
}

/// Whether a pair matches, if that can be said.
pub fn verdict(probability: f64) -> Option<bool> {
    ((probability - 0.5).abs() >= DOUBT).then_some(probability > 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_that_of_the_item() {
        let ([other, turns], answers) = question("石英砂", "quartz sand");
        assert_eq!(answers, ["是", "否"]);
        assert!(turns.last().unwrap().content.starts_with("甲：石英砂\n乙：quartz sand"));
        assert!(other.last().unwrap().content.starts_with("甲：quartz sand\n乙：石英砂"));
        assert_eq!(question("quartz sand", "石英砂").1, ["Yes", "No"]);
        assert_eq!(reason("石英砂", "x", false).1, "不匹配：");
        assert_eq!(reason("sand", "x", true).1, "match: ");
    }

    #[test]
    fn words_are_shared_in_any_script() {
        assert_eq!(shared_words("Quartz sand", "quartz SAND, at mine"), 1.0);
        assert_eq!(shared_words("a b", "c d"), 0.0);
        assert_eq!(shared_words("", ""), 0.0);
        assert!((shared_words("再生铝锭", "原生铝锭") - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn meaning_is_measured_from_what_others_have() {
        let other = vec![vec![0.0, 1.0]];
        assert_eq!(meaning(&[1.0, 0.0], &[1.0, 0.0], &other), 1.0);
        assert_eq!(meaning(&[0.0, 1.0], &[0.0, 1.0], &other), 0.0);
        assert!(meaning(&[1.0, 0.0], &[0.6, 0.8], &other) < 0.5);
    }

    #[test]
    fn evidence_adds_up_and_doubt_is_no_verdict() {
        let even =
            Evidence { judgements: [3.2, -2.8], meaning: USUAL_MEANING, trust: 1.0, words: USUAL_WORDS };
        assert_eq!(verdict(even.probability("sand")), None);
        let near = Evidence { meaning: 0.9, ..even };
        assert_eq!(verdict(near.probability("sand")), Some(true));
        let unread = Evidence { trust: 0.0, ..near };
        assert_eq!(verdict(unread.probability("sand")), None);
        let denied = Evidence { judgements: [-9.0, -90.0], ..near };
        assert_eq!(verdict(denied.probability("sand")), Some(false));
    }
}

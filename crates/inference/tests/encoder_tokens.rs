//! The tokenizer of a prepared model against that of the tokenizers library.

#[path = "encoder/model.rs"]
#[allow(dead_code)]
mod model;

use model::{TinyModel, read_reference};
use pg_answer_inference::encoder::Kernels;
use pg_answer_inference::{Encoder, Role};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The encoder whose vocabulary lies in an image, and the one that asks the library.
fn both(edit: impl FnOnce(&mut Value)) -> [Encoder; 2] {
    let mut model = TinyModel::new();
    model.edit("tokenizer.json", edit);
    let model = model.open();
    [Kernels::Auto, Kernels::Candle].map(|kernels| Encoder::load_for(&model, kernels).unwrap())
}

#[track_caller]
fn assert_same([mapped, library]: &[Encoder; 2], text: &str) {
    let [got, want] = [mapped, library].map(|encoder| encoder.tokenize(text, Role::Plain).unwrap());
    assert_eq!(got, want, "{text:?}");
}

/// Pieces of text in which tokenizers tend to differ.
fn awkward() -> impl Strategy<Value = String> {
    let fixed = [
        "python",
        "library",
        "Database",
        "[SEP]",
        "[MASK]",
        "[mask]",
        "[CLS",
        "##s",
        "##",
        "[UNK]",
        "İstanbul",
        "ﬁ",
        "ΟΔΟΣ",
        "e\u{301}",
        "\u{301}",
        "Å",
        "\u{212B}",
        "한국어",
        "각",
        "石英砂",
        "，",
        "\u{20000}",
        "\u{F900}",
        "\u{2F800}",
        "\u{85}",
        "\u{A0}",
        "\u{3000}",
        "\u{2028}",
        "\0",
        "\u{7f}",
        "\u{fffd}",
        "\u{feff}",
        "\u{200d}",
        "\u{e000}",
        "🦀",
        "👩‍👩‍👧",
        "q\u{323}\u{307}",
        "q\u{307}\u{323}",
        "``",
        "$5.00",
        "¿qué?",
        "a_b",
        "\t",
        "\r\n",
        "the",
        "x",
    ];
    prop_oneof![
        4 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        2 => "[a-z]{1,12}",
        1 => "[ -~]{0,8}",
        2 => any::<char>().prop_map(String::from),
        1 => prop::char::range('\u{80}', '\u{33ff}').prop_map(String::from),
        1 => (1..130usize, any::<char>()).prop_map(|(n, c)| String::from(c).repeat(n)),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let blank = prop_oneof![3 => Just(" "), 2 => Just(""), 1 => Just("  ")];
    prop::collection::vec((awkward(), blank), 0..24)
        .prop_map(|parts| parts.into_iter().flat_map(|(part, blank)| [part, blank.to_owned()]).collect())
}

#[test]
fn ids_are_those_of_the_library_whatever_the_text() {
    let encoders = both(|_| {});
    for case in read_reference() {
        assert_same(&encoders, &case.text);
    }
    // Each character by itself, and inside of a word.
    for c in '\0'..=char::MAX {
        let [got, want] = [0, 1].map(|i| encoders[i].tokenize(&format!("a{c}b {c}"), Role::Plain).unwrap());
        assert_eq!(got, want, "{c:?}");
    }
    let config = ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(text in text())| assert_same(&encoders, &text));
}

#[test]
fn ids_are_those_of_the_library_whatever_its_settings() {
    let settings = (any::<[bool; 3]>(), any::<Option<bool>>(), prop::sample::select(vec![1usize, 3, 100]));
    let models = (settings, prop::sample::select(vec!["##", "", "é"]), any::<[bool; 5]>());
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(
        ((flags, strip_accents, longest), prefix, added) in models,
        texts in prop::collection::vec(text(), 40),
    )| {
        let encoders = both(|json| {
            json["normalizer"] = json!({"type": "BertNormalizer", "clean_text": flags[0],
                "handle_chinese_chars": flags[1], "lowercase": flags[2], "strip_accents": strip_accents});
            json["model"]["max_input_chars_per_word"] = longest.into();
            json["model"]["continuing_subword_prefix"] = prefix.into();
            let [some, normalized, single_word, lstrip, rstrip] = added;
            if some {
                for (id, content) in [(1000, "lib"), (1001, "libra"), (1002, "[SEP")] {
                    json["added_tokens"].as_array_mut().unwrap().push(json!({"id": id, "content": content,
                        "special": id == 1000, "normalized": normalized, "single_word": single_word,
                        "lstrip": lstrip, "rstrip": rstrip}));
                }
            }
        });
        for text in &texts {
            assert_same(&encoders, text);
        }
    });
}

/// The tokenizer of the tiny XLM-R.
fn unigram() -> Value {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tiny/xlm_roberta_mean/tokenizer.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn likeliest_pieces_are_those_of_the_library() {
    let encoders = both(|json| *json = unigram());
    for case in read_reference() {
        assert_same(&encoders, &case.text);
    }
    let config = ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(text in text())| assert_same(&encoders, &text));
}

#[test]
fn likeliest_pieces_are_those_of_the_library_whatever_its_settings() {
    let settings = (prop::sample::select(vec!["always", "first", "never"]), any::<[bool; 4]>());
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((prefix, [splits, trims, maps, adds]) in settings, texts in prop::collection::vec(text(), 40))| {
        let encoders = both(|json| {
            *json = unigram();
            json["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix,
                "split": splits});
            let strip = json!({"type": "Strip", "strip_left": trims, "strip_right": trims});
            json["normalizer"] = if maps { json!({"type": "Sequence", "normalizers": [strip, {"type": "NFKC"}]}) } else { strip };
            // Scores that are alike: the first way counts.
            for piece in json["model"]["vocab"].as_array_mut().unwrap().iter_mut().skip(500) {
                piece[1] = json!(-9.0);
            }
            if adds {
                for (id, content) in [(1000, "lib"), (1001, "the x"), (1002, "石英")] {
                    json["added_tokens"].as_array_mut().unwrap().push(json!({"id": id, "content": content,
                        "special": id == 1000, "normalized": id == 1001, "single_word": false, "lstrip": id == 1002,
                        "rstrip": false}));
                }
            }
        });
        for text in &texts {
            assert_same(&encoders, text);
        }
    });
}

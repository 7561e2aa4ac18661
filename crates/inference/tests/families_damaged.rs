//! Thousands of broken copies of tiny models of every family: each is loaded or refused, none panics.

#[allow(dead_code)]
#[path = "families/fixture.rs"]
mod fixture;

use fixture::{CONFIGS, Fixture};
use pg_answer_inference::decoder::{GenerateOptions, Sampling};
use pg_answer_inference::language::{RewriteOptions, Rewriter, Writer};
use pg_answer_inference::{Encoder, Error, Pool, Reranker, Role};
use pg_answer_models::Kind;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

const MODELS: [(&str, Kind); 11] = [
    ("bert_cls", Kind::Encoder),
    ("xlm_roberta_mean", Kind::Encoder),
    ("distilbert_mean", Kind::Encoder),
    ("modernbert_mean", Kind::Encoder),
    ("bert_cross_encoder", Kind::CrossEncoder),
    ("xlm_roberta_cross_encoder", Kind::CrossEncoder),
    ("gpt2", Kind::Decoder),
    ("llama", Kind::Decoder),
    ("gemma3", Kind::Decoder),
    ("t5_relu", Kind::EncoderDecoder),
    ("bart", Kind::EncoderDecoder),
];

/// Loads the model and uses it for a moment. Any result will do.
fn try_model(model: &Fixture, kind: Kind) -> Result<(), Error> {
    let pool = Pool::new(1)?;
    // A damaged configuration may ask for much: what takes long is stopped.
    let mut left = 3000;
    let mut check = || {
        left -= 1;
        if left > 0 { Ok(()) } else { Err(Error::Interrupted) }
    };
    const TEXT: &str = "Vacuum reclaims 石英砂";
    match kind {
        Kind::Encoder => {
            let encoder = Encoder::load(&model.model)?;
            let tokens = encoder.tokenize(TEXT, Role::Query)?;
            encoder.embed(&[tokens], &pool, &mut check)?;
        }
        Kind::CrossEncoder => {
            Reranker::load(&model.model)?.score("what?", &[TEXT], &pool, &mut check)?;
        }
        Kind::Decoder => {
            let mut writer = Writer::load(&model.model)?;
            let options = GenerateOptions {
                max_tokens: 3,
                sampling: Sampling::default(),
                stop: Vec::new(),
                draft: false,
                max_memory: 1 << 24,
            };
            let prompt = writer.plain_prompt(TEXT)?;
            writer.generate(&prompt, &options, &pool, &mut check, &mut |_| Ok(()))?;
        }
        Kind::EncoderDecoder => {
            let options = RewriteOptions { max_tokens: 3, ..RewriteOptions::default() };
            Rewriter::load(&model.model)?.rewrite(TEXT, &options, &pool, &mut check)?;
        }
    }
    Ok(())
}

fn odd_value() -> impl Strategy<Value = Value> {
    let odd = [
        "null",
        "true",
        "0",
        "1",
        "-1",
        "2",
        "3",
        "7",
        "12",
        "1e12",
        "1e300",
        "16777216",
        "4294967295",
        "18446744073709551615",
        "\"\"",
        "\"x\"",
        "[]",
        "{}",
        "[1, 2]",
        "0.5",
    ];
    prop::sample::select(odd.to_vec()).prop_map(|text| serde_json::from_str(text).unwrap())
}

/// Puts `new` at entry number `at` of `config`, or below it.
fn put(config: &mut Value, at: Index, new: Value) {
    let mut places: Vec<String> = Vec::new();
    for (key, value) in config.as_object().unwrap() {
        places.push(format!("/{key}"));
        if let Some(below) = value.as_object() {
            places.extend(below.keys().map(|inner| format!("/{key}/{inner}")));
        }
    }
    let place = &places[at.index(places.len())];
    *config.pointer_mut(place).unwrap() = new;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn odd_configurations_do_no_harm(
        model in 0..MODELS.len(),
        form in 0..2_usize,
        changes in prop::collection::vec((any::<Index>(), odd_value()), 1..3),
    ) {
        let (name, kind) = MODELS[model];
        let mut model = Fixture::new(name, kind, CONFIGS[form]);
        let mut config: Value = serde_json::from_slice(&model.get("config.json")).unwrap();
        for (at, value) in changes {
            put(&mut config, at, value);
        }
        model.set("config.json", config.to_string().as_bytes());
        let _ = try_model(&model, kind);
    }

    #[test]
    fn damaged_tensors_do_no_harm(
        model in 0..MODELS.len(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<Index>()),
    ) {
        let (name, kind) = MODELS[model];
        let mut model = Fixture::new(name, kind, CONFIGS[0]);
        let mut content = model.get("model.safetensors");
        let header = u64::from_le_bytes(*content.first_chunk().unwrap()) as usize + 8;
        for (at, byte) in changes {
            content[at.index(header)] = byte;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        model.set("model.safetensors", &content);
        let _ = try_model(&model, kind);
    }
}

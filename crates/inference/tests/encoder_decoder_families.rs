//! Encoder-decoders of every family against what the original implementation computed.

#[allow(dead_code)]
#[path = "families/fixture.rs"]
mod fixture;

use fixture::{CONFIGS, Fixture, of, reference};
use pg_answer_inference::language::{RewriteOptions, Rewriter};
use pg_answer_inference::{Error, Pool};
use pg_answer_models::Kind;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    input_ids: Vec<u32>,
    encoder_mean: Vec<f32>,
    last_logits: Vec<f32>,
    greedy_ids: Vec<u32>,
    greedy_text: String,
    greedy_ids_forced_bos: Option<Vec<u32>>,
}

const MODELS: [&str; 4] = ["t5_relu", "t5_gated_gelu", "bart", "marian"];

fn load(name: &str, config: &str) -> Rewriter {
    Rewriter::load(&Fixture::new(name, Kind::EncoderDecoder, config).model).unwrap()
}

#[test]
fn encoder_decoders_give_the_logits_and_greedy_text_of_the_origin() {
    for (name, config) in MODELS.iter().flat_map(|name| CONFIGS.map(|config| (name, config))) {
        let model = load(name, config);
        for case in reference::<Reference>(name).cases {
            assert_eq!(model.tokenize(&case.text).unwrap(), case.input_ids, "{name}: {:?}", case.text);
            for threads in [1, 2] {
                let pool = Pool::new(threads).unwrap();
                let (states, logits) = model.begin(&case.input_ids, &pool, &mut || Ok(())).unwrap();
                let width = case.encoder_mean.len();
                for (i, want) in case.encoder_mean.iter().enumerate() {
                    let got = states.iter().skip(i).step_by(width).sum::<f32>() * width as f32
                        / states.len() as f32;
                    assert!((got - want).abs() < 3e-4, "{name} {config}: {got} {want}");
                }
                for (got, want) in logits.iter().zip(&case.last_logits) {
                    assert!((got - want).abs() < 3e-4, "{name} {config}, {:?}: {got} {want}", case.text);
                }
                let options = RewriteOptions { max_tokens: 16, forced: false, ..RewriteOptions::default() };
                let got = model.rewrite(&case.text, &options, &pool, &mut || Ok(())).unwrap();
                assert_eq!(got.ids, case.greedy_ids, "{name} {config}, {:?}", case.text);
                assert_eq!(got.text, case.greedy_text.replace('\0', "\u{FFFD}"), "{name} {config}");
                assert_eq!(got.prompt_tokens, case.input_ids.len());
                // The form of transformers 5 does not say which token is forced.
                if let Some(want) = case.greedy_ids_forced_bos.as_ref().filter(|_| config == CONFIGS[0]) {
                    let options = RewriteOptions { forced: true, ..options };
                    let got = model.rewrite(&case.text, &options, &pool, &mut || Ok(())).unwrap();
                    assert_eq!(got.ids, *want, "{name}, {:?}", case.text);
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Cut {
    text: String,
    input_ids: Vec<u32>,
}

/// The tiny Marian with SentencePiece's files in place of `tokenizer.json`.
fn of_pieces() -> Fixture {
    let mut model = Fixture::new("marian", Kind::EncoderDecoder, CONFIGS[0]);
    let pieces = Fixture::new("marian_pieces", Kind::EncoderDecoder, CONFIGS[0]);
    model.remove("tokenizer.json");
    for file in ["source.spm", "vocab.json"] {
        model.set(file, &pieces.get(file));
    }
    model
}

#[test]
fn pieces_give_the_ids_of_sentencepiece() {
    #[derive(Deserialize)]
    struct Reference {
        cases: Vec<Cut>,
    }
    let model = Rewriter::load(&of_pieces().model).unwrap();
    let cases = reference::<Reference>("marian_pieces").cases;
    assert!(cases.len() > 12);
    for Cut { text, input_ids } in cases {
        assert_eq!(model.tokenize(&text).unwrap(), input_ids, "{text:?}");
    }
    // Control pieces cannot be spelled.
    let spelled = model.tokenize("</s> <pad> <s>").unwrap();
    assert!(!spelled[..spelled.len() - 1].contains(&1) && !spelled.contains(&999), "{spelled:?}");
}

#[test]
fn a_marian_with_pieces_writes_what_the_origin_writes() {
    let model = Rewriter::load(&of_pieces().model).unwrap();
    let pool = Pool::new(1).unwrap();
    let options = RewriteOptions { max_tokens: 16, forced: false, ..RewriteOptions::default() };
    // The published map of characters makes blanks of the line ends of one text.
    let cases = reference::<Reference>("marian").cases.into_iter().filter(|case| !case.text.contains('\n'));
    let mut seen = 0;
    for case in cases {
        assert_eq!(model.tokenize(&case.text).unwrap(), case.input_ids);
        let got = model.rewrite(&case.text, &options, &pool, &mut || Ok(())).unwrap();
        assert_eq!(got.ids, case.greedy_ids);
        assert_eq!(got.text, case.greedy_text.replace('\0', "\u{FFFD}").trim());
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn broken_pieces_are_errors() {
    let refused = |file: &str, content: &[u8]| {
        let mut model = of_pieces();
        model.set(file, content);
        Rewriter::load(&model.model).err().unwrap().to_string()
    };
    let whole = of_pieces().get("source.spm");
    assert!(refused("source.spm", &whole[..whole.len() / 2]).contains("source.spm"));
    assert!(refused("source.spm", b"").contains("no unknown piece"));
    assert!(refused("vocab.json", b"[]").contains("vocab.json"));
    assert!(refused("vocab.json", br#"{"</s>": 1}"#).contains("no \"<unk>\""));
    assert!(refused("vocab.json", br#"{"</s>": 1, "<unk>": 4000000000}"#).contains("an id of"));
    let mut model = of_pieces();
    model.remove("vocab.json");
    assert!(Rewriter::load(&model.model).err().unwrap().to_string().contains("vocab.json"));
}

#[derive(Deserialize)]
struct Beams {
    max_tokens: usize,
    cases: Vec<Beam>,
}

#[derive(Deserialize)]
struct Beam {
    text: String,
    beams: usize,
    length_penalty: f64,
    early_stopping: bool,
    ids: Vec<u32>,
}

#[test]
fn beams_write_what_those_of_the_origin_write() {
    for name in ["t5_relu", "bart", "marian"] {
        let mut model = Fixture::new(name, Kind::EncoderDecoder, CONFIGS[0]);
        let json: serde_json::Value = serde_json::from_slice(&model.get(CONFIGS[0])).unwrap();
        let Beams { max_tokens, cases } = of(name, "beams.json");
        assert_eq!(cases.len(), 90);
        for case in cases {
            let mut json = json.clone();
            json["length_penalty"] = case.length_penalty.into();
            json["early_stopping"] = case.early_stopping.into();
            model.set(CONFIGS[0], json.to_string().as_bytes());
            let rewriter = Rewriter::load(&model.model).unwrap();
            let options = RewriteOptions { max_tokens, beams: Some(case.beams), ..RewriteOptions::default() };
            let got = rewriter.rewrite(&case.text, &options, &Pool::new(1).unwrap(), &mut || Ok(())).unwrap();
            let Beam { text, beams, length_penalty, early_stopping, ids } = case;
            assert_eq!(got.ids, ids, "{name} {text:?} {beams} {length_penalty} {early_stopping}");
        }
    }
}

#[test]
fn beams_find_texts_at_least_as_likely() {
    let (model, pool) = (load("t5_relu", CONFIGS[0]), Pool::new(1).unwrap());
    let write = |beams: usize, max_tokens: usize| {
        let options = RewriteOptions { max_tokens, beams: Some(beams), ..RewriteOptions::default() };
        model.rewrite("A Python client", &options, &pool, &mut || Ok(())).unwrap()
    };
    assert_eq!(write(4, 8), write(4, 8));
    assert!(write(4, 8).ids.len() <= 8);
    for wrong in [0, 33] {
        let options = RewriteOptions { beams: Some(wrong), ..RewriteOptions::default() };
        let refused = model.rewrite("x", &options, &pool, &mut || Ok(()));
        assert!(matches!(refused, Err(Error::InvalidInput(_))));
    }
}

#[test]
fn a_check_stops_it_and_long_texts_are_refused() {
    let (model, pool) = (load("bart", CONFIGS[0]), Pool::new(1).unwrap());
    let options = RewriteOptions { max_tokens: 16, beams: Some(3), ..RewriteOptions::default() };
    for limit in [1, 5, 30, 90] {
        let mut asked = 0;
        let stopped = model.rewrite("some words", &options, &pool, &mut || {
            asked += 1;
            if asked < limit { Ok(()) } else { Err(Error::Interrupted) }
        });
        assert!(matches!(stopped, Err(Error::Interrupted)), "{limit}");
    }
    let long = model.rewrite(&"word ".repeat(500), &options, &pool, &mut || Ok(()));
    assert!(matches!(long, Err(Error::TooLong { limit: 192, .. })));
}

#[test]
fn prefixes_of_tasks_come_from_the_configuration() {
    let mut model = Fixture::new("t5_relu", Kind::EncoderDecoder, CONFIGS[0]);
    let mut json: serde_json::Value = serde_json::from_slice(&model.get("config.json")).unwrap();
    json["task_specific_params"] = serde_json::json!({
        "summarization": { "prefix": "summarize: ", "num_beams": 4 },
        "translation_en_to_de": { "prefix": "translate English to German: " },
    });
    model.set("config.json", json.to_string().as_bytes());
    let model = Rewriter::load(&model.model).unwrap();
    assert_eq!(model.prefix("summarization"), Some("summarize: "));
    assert_eq!(model.prefix("translation_en_to_de"), Some("translate English to German: "));
    assert_eq!((model.prefix("poetry"), model.tasks().count()), (None, 2));
}

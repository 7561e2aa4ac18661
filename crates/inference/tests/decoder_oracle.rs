//! candle's decoder, which the kernels can be held against, on a tiny model whose logits are known.

use std::path::PathBuf;

use pg_answer_inference::decoder::{Decoder, GenerateOptions, Prompt, Sampling};
use pg_answer_inference::{Error, Kernels, Pool};
use pg_answer_models::{Card, File, InstalledModel, Kind};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    files: Files,
}

#[derive(Deserialize)]
struct Files {
    f32: Model,
}

#[derive(Deserialize)]
struct Model {
    file: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    input_ids: Vec<u32>,
    last_logits: Vec<f32>,
    greedy_ids: Vec<u32>,
}

fn open() -> (InstalledModel, Vec<Case>) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/qwen2_gguf");
    let reference = std::fs::read_to_string(dir.join("reference.json")).unwrap();
    let Model { file, cases } = serde_json::from_str::<Reference>(&reference).unwrap().files.f32;
    let bytes = std::fs::metadata(dir.join(&file)).unwrap().len();
    let card = Card {
        name: "tiny".to_owned(),
        kind: Kind::Decoder,
        architecture: "qwen2".to_owned(),
        dims: None,
        context_length: 256,
        quantization: "F32".to_owned(),
        license: "PostgreSQL".to_owned(),
        origin: None,
        description: String::new(),
        files: vec![File { path: file, bytes, sha256: "0".repeat(64) }],
    };
    (InstalledModel { card, dir }, cases)
}

#[test]
fn candle_gives_the_reference_and_takes_drafts() {
    let (model, cases) = open();
    let pool = Pool::new(2).unwrap();
    let mut decoder = Decoder::load_for(&model, Kernels::Candle, &pool, &mut || Ok(())).unwrap();
    for case in &cases {
        let logits = decoder.prefill(&case.input_ids, &pool, &mut || Ok(())).unwrap();
        assert_eq!(logits.len(), case.last_logits.len());
        for (got, want) in logits.iter().zip(&case.last_logits) {
            assert!((got - want).abs() < 3e-4, "{got} {want}");
        }
        // Wrong drafts are taken back, true ones give several logits at once.
        for draft in [false, true] {
            let options = GenerateOptions {
                max_tokens: 16,
                sampling: Sampling::default(),
                stop: Vec::new(),
                draft,
                max_memory: usize::MAX,
            };
            let prompt = Prompt { text: String::new(), ids: case.input_ids.clone(), fixed: 0 };
            let answer = decoder.generate(&prompt, &options, &pool, &mut || Ok(()), &mut |_| Ok(())).unwrap();
            assert_eq!(answer.ids, case.greedy_ids);
        }
    }
    // A run that was stopped leaves only what it had read.
    let ids = &cases[0].input_ids;
    decoder.forget();
    let mut asked = 0;
    let stopped = decoder.prefill(ids, &pool, &mut || {
        asked += 1;
        if asked < 4 { Ok(()) } else { Err(Error::Interrupted) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let logits = decoder.prefill(ids, &pool, &mut || Ok(())).unwrap();
    assert!(logits.iter().zip(&cases[0].last_logits).all(|(got, want)| (got - want).abs() < 3e-4));
}

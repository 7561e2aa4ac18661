//! An encoder's folder of which one file is the fuzzer's.

use std::path::Path;

use pg_answer_inference::{Encoder, Pool, Role};
use pg_answer_models::{Card, File, InstalledModel, Kind};

/// A small valid model; all files but the fuzzed one are its.
const VALID: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tiny/bert_cls");
const FILES: [&str; 6] = [
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
];

/// Loads the model with `bytes` as its file `fuzzed`, and uses it if that works.
pub fn load_encoder(folder: &Path, fuzzed: &str, bytes: &[u8]) {
    let mut files = Vec::new();
    for path in FILES {
        let target = folder.join(path);
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("writable");
        if path == fuzzed {
            std::fs::write(&target, bytes).expect("writable");
        } else if !target.exists() {
            std::fs::copy(Path::new(VALID).join(path), &target).expect("the fixture");
        }
        let bytes = std::fs::metadata(&target).expect("just written").len();
        files.push(File { path: path.to_owned(), bytes, sha256: String::new() });
    }
    let card = Card {
        name: "fuzzed".to_owned(),
        kind: Kind::Encoder,
        architecture: "bert".to_owned(),
        dims: None,
        context_length: 64,
        quantization: "F32".to_owned(),
        license: "PostgreSQL".to_owned(),
        origin: None,
        description: String::new(),
        files,
    };
    let model = InstalledModel { card, dir: folder.to_owned() };
    let Ok(encoder) = Encoder::load(&model) else { return };
    let pool = Pool::new(1).expect("one thread needs none");
    for text in ["", "two words", "Ünï \u{1f600} 石英砂 [MASK]"] {
        let Ok(tokens) = encoder.tokenize(text, Role::Query) else { continue };
        let _ = encoder.count_tokens(text);
        let _ = encoder.embed(&[tokens], &pool, &mut || Ok(()));
    }
}

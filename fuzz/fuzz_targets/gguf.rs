//! A decoder's GGUF file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pg_answer_inference::Pool;
use pg_answer_inference::decoder::gguf::Gguf;
use pg_answer_inference::decoder::{Decoder, GenerateOptions, Message, Sampling};
use pg_answer_models::InstalledModel;

/// What is fuzzed, as an installed model: only its name is looked at.
fn model() -> InstalledModel {
    let card = r#"{"name":"fuzzed","kind":"decoder","architecture":"qwen2","context_length":1,
        "quantization":"","license":"","files":[]}"#;
    InstalledModel { card: serde_json::from_str(card).expect("a card"), dir: Default::default() }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::from_source(Box::new(bytes.to_vec()), Path::new("fuzzed.gguf")) else {
        return;
    };
    let pool = Pool::new(1).expect("one thread needs none");
    let Ok(mut decoder) = Decoder::from_gguf(&gguf, &model(), &pool, &mut || Ok(())) else { return };
    let message = Message { role: "user".to_owned(), content: "two words 石英砂 <|im_end|>".to_owned() };
    let options =
        GenerateOptions { max_tokens: 3, sampling: Sampling { temperature: 0.7, top_p: 0.9, seed: 1, ..Sampling::default() }, stop: vec!["a".to_owned()], draft: true, max_memory: usize::MAX};
    for prompt in [decoder.render_chat(&[message]), decoder.plain_prompt("two words")].into_iter().flatten() {
        let _ = decoder.generate(&prompt, &options, &pool, &mut || Ok(()), &mut |_| Ok(()));
    }
});

//! Encoders in GGUF: the tiny BERT written as llama.cpp's `bert` architecture, with both kinds of vocabularies.

#[allow(dead_code)]
#[path = "families/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "families/gguf.rs"]
mod gguf;

use fixture::{CONFIGS, Fixture, reference};
use gguf::{Meta, Tensor, Type, write};
use pg_answer_inference::encoder::Kernels;
use pg_answer_inference::{Encoder, Pool, Role};
use pg_answer_models::Kind;
use safetensors::SafeTensors;
use serde_json::Value;

#[derive(serde::Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    input_ids: Vec<u32>,
    embedding: Vec<f32>,
    /// What stands before the text when it is a question.
    prompt: Option<String>,
}

const NAMES: [(&str, &str); 13] = [
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
    ("encoder.layer.", "blk."),
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

/// The tiny BERT in one GGUF file; matrices whose rows fit into blocks are of type `kind`.
fn bert(kind: Type, vocabulary: Vec<(&'static str, Meta)>) -> Fixture {
    let mut model = Fixture::new("bert_cls", Kind::Encoder, CONFIGS[0]);
    let content = model.get("model.safetensors");
    let tensors: Vec<Tensor> = SafeTensors::deserialize(&content)
        .unwrap()
        .iter()
        .map(|(name, view)| {
            let name = NAMES.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
            let values = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let shape: Vec<usize> = view.shape().iter().rev().copied().collect();
            let blocks = !matches!(kind, Type::Q4_0 | Type::Q8_0) || shape[0].is_multiple_of(32);
            let kind = if shape.len() > 1 && blocks { kind } else { Type::F32 };
            Tensor { name, shape, kind, values }
        })
        .collect();
    let mut metadata = vec![
        ("general.architecture", Meta::Text("bert")),
        ("bert.block_count", Meta::Number(2)),
        ("bert.context_length", Meta::Number(48)),
        ("bert.embedding_length", Meta::Number(48)),
        ("bert.feed_forward_length", Meta::Number(96)),
        ("bert.attention.head_count", Meta::Number(4)),
        ("bert.attention.layer_norm_epsilon", Meta::Float(1e-12)),
        ("bert.pooling_type", Meta::Number(2)),
    ];
    metadata.extend(vocabulary);
    let files: Vec<String> = model.model.card.files.iter().map(|f| f.path.clone()).collect();
    files.iter().for_each(|file| model.remove(file));
    model.set("tiny.gguf", &write(&metadata, &tensors));
    model
}

fn tokenizer(name: &str) -> Value {
    let json = Fixture::new(name, Kind::Encoder, CONFIGS[0]).get("tokenizer.json");
    serde_json::from_slice(&json).unwrap()
}

fn word_piece() -> Vec<(&'static str, Meta)> {
    let json = tokenizer("bert_cls");
    let mut words: Vec<(String, u64)> = json["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(word, id)| (word.clone(), id.as_u64().unwrap()))
        .collect();
    words.sort_by_key(|(_, id)| *id);
    // As llama.cpp's converter writes them.
    let token = |(word, _): (String, u64)| match word.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None if word.starts_with('[') && word.ends_with(']') && word.len() > 2 => word,
        None => format!("▁{word}"),
    };
    vec![
        ("tokenizer.ggml.model", Meta::Text("bert")),
        ("tokenizer.ggml.tokens", Meta::Texts(words.into_iter().map(token).collect())),
        ("tokenizer.ggml.unknown_token_id", Meta::Number(1)),
        ("tokenizer.ggml.cls_token_id", Meta::Number(2)),
        ("tokenizer.ggml.seperator_token_id", Meta::Number(3)),
    ]
}

fn unigram() -> Vec<(&'static str, Meta)> {
    let json = tokenizer("xlm_roberta_mean");
    let pieces = json["model"]["vocab"].as_array().unwrap();
    let controls = json["added_tokens"].as_array().unwrap();
    let is_control = |id: usize| controls.iter().any(|token| token["id"] == id);
    vec![
        ("tokenizer.ggml.model", Meta::Text("t5")),
        (
            "tokenizer.ggml.tokens",
            Meta::Texts(pieces.iter().map(|p| p[0].as_str().unwrap().to_owned()).collect()),
        ),
        (
            "tokenizer.ggml.scores",
            Meta::Floats(pieces.iter().map(|p| p[1].as_f64().unwrap() as f32).collect()),
        ),
        (
            "tokenizer.ggml.token_type",
            Meta::Numbers((0..pieces.len()).map(|i| if is_control(i) { 3 } else { 1 }).collect()),
        ),
        ("tokenizer.ggml.unknown_token_id", Meta::Number(3)),
        ("tokenizer.ggml.bos_token_id", Meta::Number(0)),
        ("tokenizer.ggml.eos_token_id", Meta::Number(2)),
        ("tokenizer.ggml.add_space_prefix", Meta::Flag(true)),
    ]
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn a_bert_in_gguf_gives_the_vectors_of_the_origin() {
    let pool = Pool::new(1).unwrap();
    for (kind, tolerance, least) in [
        (Type::F32, 1e-5, 0.999_999),
        (Type::F16, 2e-3, 0.99999),
        (Type::BF16, 2e-2, 0.9995),
        (Type::Q8_0, 2e-2, 0.999),
        (Type::Q4_0, 0.5, 0.95),
    ] {
        let model = bert(kind, word_piece());
        for kernels in [Kernels::Auto, Kernels::Exact, Kernels::Packed] {
            let encoder = Encoder::load_for(&model.model, kernels).unwrap();
            assert_eq!((encoder.dims(), encoder.max_tokens()), (48, 128));
            for case in reference::<Reference>("bert_cls").cases {
                let mut tokens = encoder.tokenize(&case.text, Role::Plain).unwrap();
                if tokens.ids.len() > 48 {
                    // The reference was cut to 48 tokens by a file that GGUF does not have.
                    tokens.ids.truncate(47);
                    tokens.ids.push(3);
                }
                assert_eq!(tokens.ids, case.input_ids, "{:?}", case.text);
                let vector = encoder.embed(&[tokens], &pool, &mut || Ok(())).unwrap().remove(0);
                let alike = cosine(&vector, &case.embedding);
                assert!(alike > least - 5e-4, "{kind:?} {kernels:?} {:?}: {alike}", case.text);
                if kernels == Kernels::Exact {
                    for (got, want) in vector.iter().zip(&case.embedding) {
                        assert!((got - want).abs() < tolerance, "{kind:?} {:?}: {got} {want}", case.text);
                    }
                    assert!(alike > least, "{kind:?} {:?}: {alike}", case.text);
                }
            }
        }
    }
}

#[test]
fn files_of_ggmls_own_writer_give_the_vectors_of_the_origin() {
    let pool = Pool::new(1).unwrap();
    for (name, family, dims, end) in
        [("qwen3_embedding", "llama", 32, 997), ("nomic", "nomic", 48, 3), ("jina", "jina", 48, 3)]
    {
        for (kind, tolerance, least) in [("f32", 1e-5, 0.999_999), ("q8_0", 0.1, 0.995)] {
            let model = Fixture::of_gguf(&format!("{name}-{kind}.gguf"), family, Kind::Encoder);
            let encoder = Encoder::load(&model.model).unwrap();
            assert_eq!((encoder.dims(), encoder.max_tokens()), (dims, 256));
            for case in reference::<Reference>(name).cases {
                let text = format!("{}{}", case.prompt.unwrap_or_default(), case.text);
                let mut tokens = encoder.tokenize(&text, Role::Plain).unwrap();
                if tokens.ids.len() > 48 {
                    // The reference was cut to 48 tokens by a file that GGUF does not have.
                    tokens.ids.truncate(47);
                    tokens.ids.push(end);
                }
                assert_eq!(tokens.ids, case.input_ids, "{name}: {text:?}");
                let vector = encoder.embed(&[tokens], &pool, &mut || Ok(())).unwrap().remove(0);
                let alike = cosine(&vector, &case.embedding);
                assert!(alike > least, "{name} {kind} {text:?}: {alike}");
                for (got, want) in vector.iter().zip(&case.embedding) {
                    assert!((got - want).abs() < tolerance, "{name} {kind} {text:?}: {got} {want}");
                }
            }
        }
    }
}

#[test]
fn a_unigram_vocabulary_gives_the_ids_of_its_tokenizer_file() {
    let encoder = Encoder::load(&bert(Type::F32, unigram()).model).unwrap();
    let cases = reference::<Reference>("xlm_roberta_mean").cases;
    // Line ends become blanks by the map of characters, which this file has none of.
    for case in cases.iter().filter(|case| !case.text.contains(['\n', '\t'])) {
        let mut tokens = encoder.tokenize(&case.text, Role::Plain).unwrap();
        if tokens.ids.len() > 48 {
            tokens.ids.truncate(47);
            tokens.ids.push(2);
        }
        assert_eq!(tokens.ids, case.input_ids, "{:?}", case.text);
    }
    // Control tokens cannot be spelled.
    let spelled = encoder.tokenize("</s>", Role::Plain).unwrap().ids;
    assert!(!spelled[1..spelled.len() - 1].contains(&2), "{spelled:?}");
}

#[test]
fn broken_files_are_errors() {
    let refused = |metadata: Vec<(&'static str, Meta)>| {
        Encoder::load(&bert(Type::F32, metadata).model).err().unwrap().to_string()
    };
    assert!(refused(vec![("tokenizer.ggml.model", Meta::Text("llama"))]).contains("\"llama\""));
    assert!(refused(vec![("tokenizer.ggml.model", Meta::Text("t5"))]).contains("score"));
    assert!(refused(vec![("tokenizer.ggml.model", Meta::Text("bert"))]).contains("begins and ends"));
    let whole = bert(Type::F32, word_piece()).get("tiny.gguf");
    for length in (0..whole.len()).step_by(1009) {
        let mut model = bert(Type::F32, word_piece());
        model.set("tiny.gguf", &whole[..length]);
        assert!(Encoder::load(&model.model).is_err());
    }
}

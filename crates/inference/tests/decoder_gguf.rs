//! Decoders in GGUF that run on their files as they are: the tiny Llama written as llama.cpp's converter writes it, and
//! those of `tests/fixtures/tiny/gguf`.

#[allow(dead_code)]
#[path = "families/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "families/gguf.rs"]
mod gguf;

use fixture::{CONFIGS, Fixture, reference};
use gguf::{Meta, Tensor, Type, write};
use pg_answer_inference::Pool;
use pg_answer_inference::decoder::{GenerateOptions, Sampling};
use pg_answer_inference::language::Writer;
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
    last_logits: Vec<f32>,
    greedy_ids: Vec<u32>,
}

const LLAMA: [(&str, &str); 14] = [
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("model.layers.", "blk."),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("input_layernorm", "attn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Rows of each head in the order in which the pairs of rotary positions are neighbours.
fn interleave(values: &[f32], width: usize, head: usize) -> Vec<f32> {
    let row = |r: usize| &values[r * width..][..width];
    let order = (0..values.len() / width).map(|r| r / head * head + r % head / 2 + r % 2 * (head / 2));
    order.flat_map(|r| row(r).to_vec()).collect()
}

fn byte_level(model: &Fixture) -> Vec<(&'static str, Meta)> {
    let json: Value = serde_json::from_slice(&model.get("tokenizer.json")).unwrap();
    let mut words: Vec<(String, u64)> = json["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(word, id)| (word.clone(), id.as_u64().unwrap()))
        .collect();
    let added = json["added_tokens"].as_array().unwrap();
    for token in added {
        let entry = (token["content"].as_str().unwrap().to_owned(), token["id"].as_u64().unwrap());
        if !words.contains(&entry) {
            words.push(entry);
        }
    }
    words.sort_by_key(|(_, id)| *id);
    let is_control = |id: u64| added.iter().any(|token| token["id"] == id);
    let merge = |merge: &Value| match merge.as_array() {
        Some(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        None => merge.as_str().unwrap().to_owned(),
    };
    let kinds = words.iter().map(|(_, id)| if is_control(*id) { 3 } else { 1 }).collect();
    vec![
        ("tokenizer.ggml.model", Meta::Text("gpt2")),
        ("tokenizer.ggml.pre", Meta::Text("llama-bpe")),
        ("tokenizer.ggml.token_type", Meta::Numbers(kinds)),
        (
            "tokenizer.ggml.merges",
            Meta::Texts(json["model"]["merges"].as_array().unwrap().iter().map(merge).collect()),
        ),
        ("tokenizer.ggml.tokens", Meta::Texts(words.into_iter().map(|(word, _)| word).collect())),
        ("tokenizer.ggml.bos_token_id", Meta::Number(997)),
        ("tokenizer.ggml.eos_token_id", Meta::Number(998)),
        ("tokenizer.ggml.add_bos_token", Meta::Flag(true)),
    ]
}

fn llama(kind: Type) -> Fixture {
    let mut model = Fixture::new("llama", Kind::Decoder, CONFIGS[0]);
    let config: Value = serde_json::from_slice(&model.get("config.json")).unwrap();
    let number = |key: &str| Meta::Number(config[key].as_u64().unwrap() as u32);
    let head =
        (config["hidden_size"].as_u64().unwrap() / config["num_attention_heads"].as_u64().unwrap()) as usize;
    let content = model.get("model.safetensors");
    let tensors: Vec<Tensor> = SafeTensors::deserialize(&content)
        .unwrap()
        .iter()
        .map(|(old, view)| {
            let name = LLAMA.iter().fold(old.to_owned(), |name, (from, to)| name.replace(from, to));
            let name = name.replace("post_attention_layernorm", "ffn_norm");
            let shape: Vec<usize> = view.shape().iter().rev().copied().collect();
            let mut values: Vec<f32> =
                view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            if old.contains("q_proj") || old.contains("k_proj") {
                values = interleave(&values, shape[0], head);
            }
            Tensor { name, kind: if shape.len() > 1 { kind } else { Type::F32 }, shape, values }
        })
        .collect();
    let mut metadata = vec![
        ("general.architecture", Meta::Text("llama")),
        ("llama.block_count", number("num_hidden_layers")),
        ("llama.context_length", number("max_position_embeddings")),
        ("llama.embedding_length", number("hidden_size")),
        ("llama.feed_forward_length", number("intermediate_size")),
        ("llama.attention.head_count", number("num_attention_heads")),
        ("llama.attention.head_count_kv", number("num_key_value_heads")),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Meta::Float(config["rms_norm_eps"].as_f64().unwrap() as f32),
        ),
        ("llama.rope.freq_base", Meta::Float(config["rope_theta"].as_f64().unwrap() as f32)),
    ];
    metadata.extend(byte_level(&model));
    let files: Vec<String> = model.model.card.files.iter().map(|f| f.path.clone()).collect();
    files.iter().for_each(|file| model.remove(file));
    model.set("tiny.gguf", &write(&metadata, &tensors));
    model
}

#[test]
fn a_llama_in_gguf_gives_the_ids_and_logits_of_the_origin() {
    let pool = Pool::new(1).unwrap();
    for (kind, tolerance, least) in [
        (Type::F32, 3e-4, 0.999_999),
        (Type::F16, 5e-2, 0.9999),
        (Type::BF16, 0.5, 0.999),
        (Type::Q8_0, 1.0, 0.995),
    ] {
        let mut writer = Writer::load(&llama(kind).model).unwrap();
        for case in reference::<Reference>("llama").cases {
            let prompt = writer.plain_prompt(&case.text).unwrap();
            assert_eq!(prompt.ids, case.input_ids, "{:?}", case.text);
            let logits = writer.prefill(&prompt.ids, &pool, &mut || Ok(())).unwrap();
            let (alike, worst) = compare(&logits, &case.last_logits);
            assert!(worst < tolerance && alike > least, "{kind:?} {:?}: {worst} {alike}", case.text);
        }
    }
}

/// How alike two rows of logits are, and by how much they differ at most.
fn compare(got: &[f32], want: &[f32]) -> (f64, f32) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let alike = dot(got, want) / (dot(got, got) * dot(want, want)).sqrt();
    (alike, got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

#[test]
fn files_of_ggmls_own_writer_give_the_ids_and_logits_of_the_origin() {
    let pool = Pool::new(1).unwrap();
    for name in ["qwen3", "phi3", "phi4_mini"] {
        for (kind, tolerance, least) in [("f32", 3e-4, 0.999_999), ("q8_0", 1.0, 0.995)] {
            let model = Fixture::of_gguf(&format!("{name}-{kind}.gguf"), "llama", Kind::Decoder);
            let mut writer = Writer::load(&model.model).unwrap();
            assert_eq!(writer.context_length(), 256);
            for case in reference::<Reference>(name).cases {
                let prompt = writer.plain_prompt(&case.text).unwrap();
                assert_eq!(prompt.ids, case.input_ids, "{name}: {:?}", case.text);
                let logits = writer.prefill(&prompt.ids, &pool, &mut || Ok(())).unwrap();
                let (alike, worst) = compare(&logits, &case.last_logits);
                let text = &case.text;
                assert!(worst < tolerance && alike > least, "{name} {kind} {text:?}: {worst} {alike}");
                let options = GenerateOptions {
                    max_tokens: 16,
                    sampling: Sampling::default(),
                    stop: Vec::new(),
                    draft: true,
                    max_memory: usize::MAX,
                };
                if kind == "f32" {
                    let got = writer.generate(&prompt, &options, &pool, &mut || Ok(()), &mut |_| Ok(()));
                    assert_eq!(got.unwrap().ids, case.greedy_ids, "{name}: {text:?}");
                }
            }
        }
    }
}

#[test]
fn cut_files_are_errors() {
    let whole = llama(Type::F32).get("tiny.gguf");
    let mut model = llama(Type::F32);
    for length in (0..whole.len()).step_by(4999) {
        model.set("tiny.gguf", &whole[..length]);
        assert!(Writer::load(&model.model).is_err());
    }
}

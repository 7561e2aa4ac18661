//! GGUF files in the words of the configurations and tensors that they were made from: a family reads both alike.
//!
//! Names: `docs/gguf.md` of the ggml project and llama.cpp's `gguf-py/gguf/constants.py`.

use serde_json::{Map, Value, json};

use crate::decoder::gguf::Gguf;

/// From the name of a tensor in the original file to that in the GGUF file.
pub type Rename = fn(&str) -> Option<String>;

/// How an architecture's tensors are called, if it is one that a family reads.
pub fn rename(architecture: &str) -> Option<Rename> {
    Some(match architecture {
        "bert" => bert,
        "gemma3" => gemma,
        "jina-bert-v2" => jina,
        "llama" | "qwen2" | "qwen3" => llama,
        "nomic-bert" => nomic,
        "phi3" => phi,
        _ => return None,
    })
}

/// Parts of the names of a BERT's layers.
const BERT: [(&str, &str); 8] = [
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

/// Parts of the names of a decoder's layers.
const LLAMA: [(&str, &str); 11] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Those that mean something else in Gemma 3, which normalises before and after each part.
const GEMMA: [(&str, &str); 3] = [
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Those of Phi-3, whose file holds several layers in one tensor.
const PHI: [(&str, &str); 2] = [("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up")];

/// Those of JinaBERT v2 beside BERT's.
const JINA: [(&str, &str); 4] = [
    ("mlp.gate", "ffn_gate"),
    ("mlp.up", "ffn_up"),
    ("mlp.wo", "ffn_down"),
    ("mlp.layernorm", "layer_output_norm"),
];

/// Parts of the names of a Nomic BERT's layers.
const NOMIC: [(&str, &str); 7] = [
    ("attn.Wqkv", "attn_qkv"),
    ("attn.out_proj", "attn_output"),
    ("norm1", "attn_output_norm"),
    ("mlp.fc11", "ffn_up"),
    ("mlp.fc12", "ffn_gate"),
    ("mlp.fc2", "ffn_down"),
    ("norm2", "layer_output_norm"),
];

fn bert(name: &str) -> Option<String> {
    let whole = match name {
        "embeddings.word_embeddings.weight" => "token_embd.weight",
        "embeddings.position_embeddings.weight" => "position_embd.weight",
        "embeddings.token_type_embeddings.weight" => "token_types.weight",
        "embeddings.LayerNorm.weight" => "token_embd_norm.weight",
        "embeddings.LayerNorm.bias" => "token_embd_norm.bias",
        _ => return of_layer(name, "encoder.layer.", &[&BERT]),
    };
    Some(whole.to_owned())
}

fn jina(name: &str) -> Option<String> {
    bert(name).or_else(|| of_layer(name, "encoder.layer.", &[&JINA]))
}

fn nomic(name: &str) -> Option<String> {
    let name = name.replace("emb_ln.", "embeddings.LayerNorm.");
    bert(&name).or_else(|| of_layer(&name, "encoder.layers.", &[&NOMIC]))
}

fn phi(name: &str) -> Option<String> {
    whole(name).or_else(|| of_layer(name, "model.layers.", &[&PHI, &LLAMA]))
}

fn llama(name: &str) -> Option<String> {
    whole(name).or_else(|| of_layer(name, "model.layers.", &[&LLAMA]))
}

fn gemma(name: &str) -> Option<String> {
    whole(name).or_else(|| of_layer(name, "model.layers.", &[&GEMMA, &LLAMA]))
}

/// By what LongRoPE divides frequencies of texts up to the length of the first training.
pub const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// Tensors of a decoder outside of its layers.
fn whole(name: &str) -> Option<String> {
    let found = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        "rope_freqs.weight" => "rope_freqs.weight",
        SHORT_FACTORS => SHORT_FACTORS,
        _ => return None,
    };
    Some(found.to_owned())
}

/// `prefix` number `.part.weight` or `.bias` becomes `blk.` number `.other.weight`.
fn of_layer(name: &str, prefix: &str, tables: &[&[(&str, &str)]]) -> Option<String> {
    let (layer, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    let (part, last) = rest.rsplit_once('.')?;
    let (_, other) = tables.iter().flat_map(|table| table.iter()).find(|(from, _)| *from == part)?;
    Some(format!("blk.{layer}.{other}.{last}"))
}

/// What the `config.json` said that a file's metadata were made from.
pub fn config(gguf: &Gguf) -> Map<String, Value> {
    let architecture = gguf.text("general.architecture").unwrap_or("unknown");
    let key = |key: &str| format!("{architecture}.{key}");
    let mut entries = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            entries.insert(name.to_owned(), value);
        }
    };
    for (name, from) in [
        ("hidden_size", "embedding_length"),
        ("intermediate_size", "feed_forward_length"),
        ("num_hidden_layers", "block_count"),
        ("num_attention_heads", "attention.head_count"),
        ("num_key_value_heads", "attention.head_count_kv"),
        ("head_dim", "attention.key_length"),
        ("max_position_embeddings", "context_length"),
        ("sliding_window", "attention.sliding_window"),
    ] {
        // 0 is how Phi-3's files say that there is none.
        put(name, gguf.integer(&key(from)).filter(|&n| n > 0).map(Value::from));
    }
    for (name, from) in [
        ("layer_norm_eps", "attention.layer_norm_epsilon"),
        ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        ("rope_theta", "rope.freq_base"),
    ] {
        // Through the shortest text: 1e-12 in f32 means 1e-12.
        let short = |x: f64| (x as f32).to_string().parse::<f64>().unwrap_or(x);
        put(name, gguf.float(&key(from)).map(|x| json!(short(x))));
    }
    if let Some(kind) = gguf.text(&key("rope.scaling.type")).filter(|kind| *kind != "none") {
        let factor = gguf.float(&key("rope.scaling.factor")).unwrap_or(1.0);
        put("rope_scaling", Some(json!({ "rope_type": kind, "factor": factor })));
    }
    let number = |from: &str| gguf.integer(&key(from));
    let heads = number("attention.head_count").filter(|&heads| heads > 0);
    let whole = heads.and_then(|heads| Some(number("embedding_length")? / heads));
    let head = number("attention.key_length").or(whole);
    if let (Some(turned), Some(head)) = (number("rope.dimension_count"), head) {
        put(
            "partial_rotary_factor",
            (0 < turned && turned < head).then(|| json!(turned as f64 / head as f64)),
        );
    }
    put("original_max_position_embeddings", number("rope.scaling.original_context_length").map(Value::from));
    put("attention_factor", gguf.float(&key("rope.scaling.attn_factor")).map(|x| json!(x)));
    put("model_type", Some(json!(architecture)));
    put("gguf", Some(json!(true)));
    entries
}

//! The families of models: one file each, and one table that names them all, [`FAMILIES`].
//!
//! A family says by which names its models call themselves, and builds the network from their configuration
//! ([`Fields`]) and tensors. What a model can be asked for follows from which of four traits the network has. How to
//! add one: `CONTRIBUTING.md`.

mod bart;
mod bert;
mod cross;
mod distances;
mod embedder;
mod fields;
mod gemma;
mod gguf;
mod gpt2;
mod jina;
mod llama;
mod modernbert;
mod nomic;
mod phi;
mod source;
mod statics;
mod t5;

pub use embedder::load_encoder;
pub use fields::Fields;
pub use source::{Source, tensors};

use std::sync::Arc;

use crate::Result;
use crate::network::{KeyValues, Rows, Run};
use pg_answer_models::Kind;

/// Text in, a row for each token out: sentence encoders.
pub trait TextEncoder: Send + Sync {
    /// Floats of a row.
    fn dims(&self) -> usize;
    /// Most tokens of a text.
    fn positions(&self) -> usize;
    /// Number of token ids that are known.
    fn vocabulary(&self) -> usize;
    /// Whether the network reads special tokens around a text, and tokens that stand for unknown words.
    fn frames_text(&self) -> bool {
        true
    }
    /// The last hidden state of each token of one text. `ids` are at most `positions`, below `vocabulary`, and at least 1
    /// where texts are framed; `kinds` says of which part of a pair each is.
    ///
    /// # Errors
    /// What the check says.
    fn forward(&self, ids: &[u32], kinds: &[u32], run: &mut Run<'_>) -> Result<Rows>;
}

/// Two texts in, a number out: rerankers.
pub trait CrossEncoder: Send + Sync {
    /// Most tokens of both texts.
    fn positions(&self) -> usize;
    /// Number of token ids that are known.
    fn vocabulary(&self) -> usize;
    /// How well the second text answers the first, before any sigmoid. Arguments as [`TextEncoder::forward`].
    ///
    /// # Errors
    /// What the check says.
    fn score(&self, ids: &[u32], kinds: &[u32], run: &mut Run<'_>) -> Result<f32>;
}

/// Text in, the next token out: decoders.
pub trait CausalLm: Send + Sync {
    /// Floats of a hidden state.
    fn width(&self) -> usize;
    /// Number of token ids that are known.
    fn vocabulary(&self) -> usize;
    /// Most tokens of prompt and answer together.
    fn positions(&self) -> usize;
    /// Bytes of the keys and values of a token.
    fn token_bytes(&self) -> usize;
    /// Nothing read yet.
    fn start(&self) -> KeyValues;
    /// Reads `ids`, all below `vocabulary`, after what `past` holds, and adds them to it; the last hidden state of each.
    ///
    /// # Errors
    /// What the check says; then `past` is to be truncated to what it was.
    fn read(&self, ids: &[u32], past: &mut KeyValues, run: &mut Run<'_>) -> Result<Rows>;
    /// The logits of all tokens after each hidden state.
    ///
    /// # Errors
    /// What the check says.
    fn logits(&self, states: &Rows, run: &mut Run<'_>) -> Result<Rows>;
}

/// Text in, another text out: translation, summaries.
pub trait EncoderDecoder: Send + Sync {
    /// Number of token ids that are known.
    fn vocabulary(&self) -> usize;
    /// Most tokens of either text.
    fn positions(&self) -> usize;
    /// The encoder's last hidden state of each token.
    ///
    /// # Errors
    /// What the check says.
    fn encode(&self, ids: &[u32], run: &mut Run<'_>) -> Result<Rows>;
    /// Nothing written yet about a text with these states.
    ///
    /// # Errors
    /// What the check says.
    fn start(&self, states: &Rows, run: &mut Run<'_>) -> Result<Past>;
    /// Writes token `id` after what `past` holds; the logits of all tokens after it.
    ///
    /// # Errors
    /// What the check says.
    fn step(&self, id: u32, past: &mut Past, run: &mut Run<'_>) -> Result<Vec<f32>>;
}

/// What a decoder of an [`EncoderDecoder`] looks back on. Copies share what is of the encoder.
#[derive(Clone)]
pub struct Past {
    /// Keys and values of the tokens written.
    pub own: KeyValues,
    /// Keys and values of the encoder's tokens, layer by layer.
    pub cross: Arc<Vec<(Rows, Rows)>>,
}

impl Past {
    /// Nothing written yet.
    pub fn new(own: KeyValues, cross: Vec<(Rows, Rows)>) -> Self {
        Self { own, cross: Arc::new(cross) }
    }
}

/// How a family builds its network.
#[derive(Clone, Copy)]
pub enum Loader {
    /// `embed`.
    Encoder(fn(&Source) -> Result<Box<dyn TextEncoder>>),
    /// `rerank`.
    CrossEncoder(fn(&Source) -> Result<Box<dyn CrossEncoder>>),
    /// `generate`, and `rag_answer` with a chat template.
    CausalLm(fn(&Source) -> Result<Box<dyn CausalLm>>),
    /// `generate`, by the family's own convention.
    EncoderDecoder(fn(&Source) -> Result<Box<dyn EncoderDecoder>>),
}

/// A family of models.
pub struct Family {
    /// Its name on cards.
    pub name: &'static str,
    /// Entries of `architectures` in `config.json`.
    pub architectures: &'static [&'static str],
    /// Entries of `model_type` there, for files without `architectures`.
    pub model_types: &'static [&'static str],
    /// `general.architecture` of GGUF files.
    pub gguf: &'static [&'static str],
    /// How its network is built, and so what it can do.
    pub loader: Loader,
}

impl Family {
    /// What models of this family can be asked for.
    pub fn kind(&self) -> Kind {
        match self.loader {
            Loader::Encoder(_) => Kind::Encoder,
            Loader::CrossEncoder(_) => Kind::CrossEncoder,
            Loader::CausalLm(_) => Kind::Decoder,
            Loader::EncoderDecoder(_) => Kind::EncoderDecoder,
        }
    }
}

/// All families. The first that answers to a model's name has it.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "bert",
        architectures: &["BertModel", "BertForMaskedLM", "BertForPreTraining"],
        model_types: &["bert"],
        gguf: &["bert"],
        loader: Loader::Encoder(bert::load),
    },
    Family {
        name: "roberta",
        architectures: &[
            "XLMRobertaModel",
            "XLMRobertaForMaskedLM",
            "RobertaModel",
            "RobertaForMaskedLM",
            "CamembertModel",
        ],
        model_types: &["xlm-roberta", "roberta", "camembert"],
        gguf: &[],
        loader: Loader::Encoder(bert::load_roberta),
    },
    Family {
        name: "distilbert",
        architectures: &["DistilBertModel", "DistilBertForMaskedLM"],
        model_types: &["distilbert"],
        gguf: &[],
        loader: Loader::Encoder(bert::load_distilbert),
    },
    Family {
        name: "mpnet",
        architectures: &["MPNetModel", "MPNetForMaskedLM"],
        model_types: &["mpnet"],
        gguf: &[],
        loader: Loader::Encoder(bert::load_mpnet),
    },
    Family {
        name: "modernbert",
        architectures: &["ModernBertModel", "ModernBertForMaskedLM"],
        model_types: &["modernbert"],
        gguf: &[],
        loader: Loader::Encoder(modernbert::load),
    },
    Family {
        name: "nomic",
        architectures: &["NomicBertModel"],
        model_types: &["nomic_bert"],
        gguf: &["nomic-bert"],
        loader: Loader::Encoder(nomic::load),
    },
    Family {
        name: "jina",
        architectures: &["JinaBertModel", "JinaBertForMaskedLM"],
        model_types: &[],
        gguf: &["jina-bert-v2"],
        loader: Loader::Encoder(jina::load),
    },
    Family {
        name: "static",
        architectures: &["StaticModel"],
        model_types: &["model2vec"],
        gguf: &[],
        loader: Loader::Encoder(statics::load),
    },
    Family {
        name: "bert-cross-encoder",
        architectures: &["BertForSequenceClassification"],
        model_types: &[],
        gguf: &[],
        loader: Loader::CrossEncoder(cross::load_bert),
    },
    Family {
        name: "roberta-cross-encoder",
        architectures: &["XLMRobertaForSequenceClassification", "RobertaForSequenceClassification"],
        model_types: &[],
        gguf: &[],
        loader: Loader::CrossEncoder(cross::load_roberta),
    },
    Family {
        name: "distilbert-cross-encoder",
        architectures: &["DistilBertForSequenceClassification"],
        model_types: &[],
        gguf: &[],
        loader: Loader::CrossEncoder(cross::load_distilbert),
    },
    Family {
        name: "jina-cross-encoder",
        architectures: &["JinaBertForSequenceClassification"],
        model_types: &[],
        gguf: &[],
        loader: Loader::CrossEncoder(cross::load_jina),
    },
    Family {
        name: "gpt2",
        architectures: &["GPT2LMHeadModel"],
        model_types: &["gpt2"],
        gguf: &[],
        loader: Loader::CausalLm(gpt2::load),
    },
    Family {
        name: "llama",
        architectures: &[
            "LlamaForCausalLM",
            "LlamaModel",
            "MistralForCausalLM",
            "MistralModel",
            "Phi3ForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen2Model",
            "Qwen3ForCausalLM",
            "Qwen3Model",
            "SmolLM3ForCausalLM",
        ],
        model_types: &["llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3"],
        gguf: &["llama", "phi3", "qwen3"],
        loader: Loader::CausalLm(llama::load),
    },
    Family {
        name: "phi",
        architectures: &["PhiForCausalLM"],
        model_types: &["phi"],
        gguf: &[],
        loader: Loader::CausalLm(phi::load),
    },
    Family {
        name: "gemma3",
        architectures: &["Gemma3ForCausalLM"],
        model_types: &["gemma3_text"],
        gguf: &["gemma3"],
        loader: Loader::CausalLm(gemma::load),
    },
    Family {
        name: "t5",
        architectures: &["T5ForConditionalGeneration", "T5WithLMHeadModel", "MT5ForConditionalGeneration"],
        model_types: &["t5", "mt5"],
        gguf: &[],
        loader: Loader::EncoderDecoder(t5::load),
    },
    Family {
        name: "bart",
        architectures: &["BartForConditionalGeneration"],
        model_types: &["bart"],
        gguf: &[],
        loader: Loader::EncoderDecoder(bart::load),
    },
    Family {
        name: "marian",
        architectures: &["MarianMTModel"],
        model_types: &["marian"],
        gguf: &[],
        loader: Loader::EncoderDecoder(bart::load_marian),
    },
];

/// The family that answers to `architecture`, or where a model does not name one to `model_type`.
pub fn find(architecture: Option<&str>, model_type: Option<&str>) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| match (architecture, model_type) {
        (Some(name), _) => family.architectures.contains(&name),
        (None, Some(kind)) => family.model_types.contains(&kind),
        (None, None) => false,
    })
}

/// The family that answers to a GGUF file's `general.architecture`.
pub fn find_gguf(architecture: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.gguf.contains(&architecture))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_families_answer_to_one_name() {
        let mut seen = HashSet::new();
        for family in FAMILIES {
            assert!(seen.insert(("", family.name)));
            assert!(family.architectures.iter().all(|name| seen.insert(("architecture", name))));
            assert!(family.model_types.iter().all(|name| seen.insert(("type", name))));
            assert!(family.gguf.iter().all(|name| seen.insert(("gguf", name))));
        }
    }
}

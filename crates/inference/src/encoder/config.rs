//! The configuration files of an encoder, in the layout of sentence-transformers.
//!
//! All of it is untrusted: numbers are held against limits here and against the weights later.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::files::Files;
use crate::decoder::gguf::Gguf;
use crate::families::Fields;
use crate::{Result, network};

/// Everything about an encoder that is not a weight or a vocabulary.
#[derive(Debug)]
pub struct Config {
    /// How the rows of a text become one vector.
    pub pooling: Pooling,
    /// Whether vectors get length 1.
    pub normalize: bool,
    /// Most tokens of a text, special tokens included; held against the position table later.
    pub max_tokens: usize,
    /// Whether texts are turned to lower case before the tokenizer sees them.
    pub lower_case: bool,
    /// What is put before texts.
    pub prompts: Prompts,
}

/// `config.json` of a `BertModel`.
#[derive(Debug)]
pub struct Bert {
    /// Elements of a row.
    pub hidden: usize,
    /// Elements of a row between the two dense layers of the feed-forward part.
    pub intermediate: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Added to the variance in layer normalisation.
    pub epsilon: f32,
    /// Between the two dense layers of the feed-forward part.
    pub activation: Activation,
    /// Whether its tensors have DistilBERT's names.
    pub distilled: bool,
    /// Id of the padding token in a RoBERTa: the first token of a text has the position after it.
    pub padding: Option<u32>,
}

/// Function between the two dense layers of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x).
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// How the rows of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The row of the first token.
    Cls,
    /// The mean of all rows.
    Mean,
    /// The largest value of each element.
    Max,
    /// The sum of all rows over the square root of their number.
    MeanSqrtLen,
    /// The row of the last token.
    LastToken,
}

/// What is put before texts, by what they are.
#[derive(Debug, Default)]
pub struct Prompts {
    /// Before texts of which nothing is known.
    pub plain: String,
    /// Before questions.
    pub query: String,
    /// Before passages.
    pub document: String,
}

#[derive(Deserialize)]
struct RawModule {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct RawSentenceBert {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize)]
struct RawTokenizerConfig {
    /// Some published files say 1e30 for "no limit".
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPooling {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
    include_prompt: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSentenceTransformers {
    prompts: Option<HashMap<String, String>>,
    default_prompt_name: Option<String>,
}

impl Config {
    /// Reads all configuration files of a model.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] for what cannot be read, [`crate::Error::Unsupported`] for what is
    /// known but not built here.
    pub fn read(files: &mut Files<'_>) -> Result<Self> {
        let modules = Modules::read(files)?;
        files.set_folder(&modules.transformer);
        let sentence: Option<RawSentenceBert> = files.json("sentence_bert_config.json")?;
        let max_tokens = match sentence.as_ref().and_then(|s| s.max_seq_length) {
            Some(n) => n,
            None => {
                let tokenizer: Option<RawTokenizerConfig> = files.json("tokenizer_config.json")?;
                // A cast of a float is saturating; the position table limits it further.
                tokenizer.and_then(|t| t.model_max_length).map_or(usize::MAX, |n| n as usize)
            }
        };
        let prompts = Prompts::read(files)?;
        let any_prompt = [&prompts.plain, &prompts.query, &prompts.document].iter().any(|p| !p.is_empty());
        if any_prompt && !modules.pools_prompt {
            return Err(files.unsupported("it leaves prompts out of pooling".to_owned()));
        }
        Ok(Self {
            pooling: modules.pooling,
            normalize: modules.normalize,
            max_tokens,
            lower_case: sentence.is_some_and(|s| s.do_lower_case),
            prompts,
        })
    }
}

impl Bert {
    /// Reads the configuration of a BERT, RoBERTa or DistilBERT, which `family` names; none for other networks.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read(fields: &Fields, family: &str) -> Result<Option<Self>> {
        let distilled = match family {
            "bert" | "roberta" => false,
            "distilbert" => true,
            _ => return Ok(None),
        };
        let key = |bert: &'static str, other: &'static str| if distilled { other } else { bert };
        if fields.flag_or("is_decoder", false) {
            return Err(fields.unsupported("it is a BERT decoder".to_owned()));
        }
        if let Some(other) = fields.text("position_embedding_type").filter(|kind| *kind != "absolute") {
            return Err(fields.unsupported(format!("position_embedding_type {other}")));
        }
        let hidden = fields.size(key("hidden_size", "dim"))?;
        let activation =
            match fields.activation_or(key("hidden_act", "activation"), network::Activation::Gelu)? {
                network::Activation::Gelu => Activation::Gelu,
                network::Activation::GeluTanh => Activation::GeluTanh,
                network::Activation::Relu => Activation::Relu,
                other => return Err(fields.unsupported(format!("hidden_act {other:?}"))),
            };
        Ok(Some(Self {
            hidden,
            intermediate: fields.size(key("intermediate_size", "hidden_dim"))?,
            heads: fields.heads(key("num_attention_heads", "n_heads"), hidden)?,
            layers: fields.layers(key("num_hidden_layers", "n_layers"))?,
            epsilon: if distilled { 1e-12 } else { fields.epsilon("layer_norm_eps", 1e-12)? },
            activation,
            distilled,
            padding: (family == "roberta").then(|| fields.id("pad_token_id").unwrap_or(1)),
        }))
    }
}

/// What `modules.json` says follows what.
struct Modules {
    /// Folder of the network's files.
    transformer: String,
    pooling: Pooling,
    /// Whether the tokens of a prompt take part in pooling.
    pools_prompt: bool,
    normalize: bool,
}

impl Modules {
    /// Without the file: mean pooling, no normalisation, as sentence-transformers does; or what a GGUF file says,
    /// normalised, as llama.cpp does.
    fn read(files: &Files<'_>) -> Result<Self> {
        let mut found =
            Self { transformer: String::new(), pooling: Pooling::Mean, pools_prompt: true, normalize: false };
        let Some(modules) = files.json::<Vec<RawModule>>("modules.json")? else {
            if let Some(gguf) = files.gguf()? {
                found.pooling = pooling_of(files, &gguf)?;
                found.normalize = true;
            }
            return Ok(found);
        };
        let mut stage = 0;
        for module in modules {
            let kind = module.kind.rsplit('.').next().unwrap_or_default();
            stage = match (stage, kind) {
                (0, "Transformer") => {
                    found.transformer = module.path;
                    1
                }
                // Its rows are those of the tokens, whose mean it takes itself.
                (0, "StaticEmbedding") => {
                    found.transformer = module.path;
                    2
                }
                (1, "Pooling") => {
                    let path = format!("{}/config.json", module.path);
                    let raw: RawPooling = files.required(&path)?;
                    found.pools_prompt = raw.include_prompt.unwrap_or(true);
                    found.pooling = raw.mode(files)?;
                    2
                }
                (2, "Normalize") => {
                    found.normalize = true;
                    3
                }
                _ => return Err(files.unsupported(format!("module {kind} is unknown, or not in its place"))),
            };
        }
        if stage < 2 {
            return Err(files.unsupported("it has no pooling".to_owned()));
        }
        Ok(found)
    }
}

/// The pooling in a GGUF file's metadata.
fn pooling_of(files: &Files<'_>, gguf: &Gguf) -> Result<Pooling> {
    let architecture = gguf.text("general.architecture").unwrap_or("unknown");
    match gguf.integer(&format!("{architecture}.pooling_type")) {
        None | Some(1) => Ok(Pooling::Mean),
        Some(2) => Ok(Pooling::Cls),
        Some(3) => Ok(Pooling::LastToken),
        Some(other) => Err(files.unsupported(format!("pooling type {other}"))),
    }
}

impl RawPooling {
    fn mode(&self, files: &Files<'_>) -> Result<Pooling> {
        if let Some(mode) = &self.pooling_mode {
            return match mode.as_str() {
                "cls" => Ok(Pooling::Cls),
                "mean" => Ok(Pooling::Mean),
                "max" => Ok(Pooling::Max),
                "mean_sqrt_len_tokens" => Ok(Pooling::MeanSqrtLen),
                "lasttoken" => Ok(Pooling::LastToken),
                other => Err(files.unsupported(format!("pooling {other}"))),
            };
        }
        let modes = [
            (self.pooling_mode_cls_token, Some(Pooling::Cls)),
            (self.pooling_mode_mean_tokens, Some(Pooling::Mean)),
            (self.pooling_mode_max_tokens, Some(Pooling::Max)),
            (self.pooling_mode_mean_sqrt_len_tokens, Some(Pooling::MeanSqrtLen)),
            (self.pooling_mode_weightedmean_tokens, None),
            (self.pooling_mode_lasttoken, Some(Pooling::LastToken)),
        ];
        let mut chosen = modes.iter().filter(|(set, _)| *set).map(|(_, mode)| *mode);
        match (chosen.next(), chosen.next()) {
            (Some(Some(mode)), None) => Ok(mode),
            (None, _) => Ok(Pooling::Mean),
            _ => Err(files.unsupported(
                "pooling other than one of cls, mean, max, mean_sqrt_len, lasttoken".to_owned(),
            )),
        }
    }
}

impl Prompts {
    fn read(files: &Files<'_>) -> Result<Self> {
        const FILE: &str = "config_sentence_transformers.json";
        let raw: RawSentenceTransformers = files.json_at_root(FILE)?.unwrap_or_default();
        let named = raw.prompts.unwrap_or_default();
        let plain = match &raw.default_prompt_name {
            None => String::new(),
            Some(name) => match named.get(name) {
                Some(prompt) => prompt.clone(),
                None => return Err(files.damaged(FILE, format!("no prompt is called \"{name}\""))),
            },
        };
        let first = |names: &[&str]| names.iter().find_map(|n| named.get(*n)).unwrap_or(&plain).clone();
        Ok(Self { query: first(&["query"]), document: first(&["document", "passage", "corpus"]), plain })
    }
}

/// Parses `text`, the content of a configuration file.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> std::result::Result<T, String> {
    serde_json::from_slice(text).map_err(|e| e.to_string())
}

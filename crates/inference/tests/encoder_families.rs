//! Sentence encoders and cross-encoders of every family against what the original implementation computed.

#[allow(dead_code)]
#[path = "families/fixture.rs"]
mod fixture;

use std::collections::HashMap;

use candle_core::{DType, Device, IndexOp, Module, Tensor};
use fixture::{CONFIGS, Fixture, reference};
use pg_answer_inference::encoder::Tokens;
use pg_answer_inference::{Encoder, Error, Kernels, Pool, Reranker, Role};
use pg_answer_models::Kind;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    input_ids: Vec<u32>,
    embedding: Vec<f32>,
    /// What stands before it when it is a question.
    prompt: Option<String>,
}

#[derive(Deserialize)]
struct Pair {
    query: String,
    passage: String,
    input_ids: Vec<u32>,
    token_type_ids: Option<Vec<u32>>,
    logit: f32,
}

const ENCODERS: [&str; 9] = [
    "bert_cls",
    "xlm_roberta_mean",
    "distilbert_mean",
    "modernbert_mean",
    "nomic",
    "jina",
    "mpnet",
    "qwen3_embedding",
    "static",
];
const CROSS_ENCODERS: [&str; 3] =
    ["bert_cross_encoder", "xlm_roberta_cross_encoder", "distilbert_cross_encoder"];

#[test]
fn sentence_encoders_give_the_vectors_of_the_origin() {
    for (name, config) in ENCODERS.iter().flat_map(|name| CONFIGS.map(|config| (name, config))) {
        let encoder = Encoder::load(&Fixture::new(name, Kind::Encoder, config).model).unwrap();
        let cases = reference::<Reference<Sentence>>(name).cases;
        assert!(cases.len() >= 7);
        for threads in [1, 2] {
            let pool = Pool::new(threads).unwrap();
            for case in &cases {
                let role = if case.prompt.is_some() { Role::Query } else { Role::Plain };
                let tokens = encoder.tokenize(&case.text, role).unwrap();
                assert_eq!(tokens.ids, case.input_ids, "{name}: {:?}", case.text);
                let vector = encoder.embed(&[tokens], &pool, &mut || Ok(())).unwrap().remove(0);
                assert_eq!(vector.len(), case.embedding.len());
                for (got, want) in vector.iter().zip(&case.embedding) {
                    assert!((got - want).abs() < 1e-5, "{name}, {:?}: {got}, not {want}", case.text);
                }
            }
        }
    }
}

#[test]
fn packed_weights_give_nearly_the_same() {
    for name in ["bert_cls", "xlm_roberta_mean", "distilbert_mean"] {
        let model = Fixture::new(name, Kind::Encoder, CONFIGS[0]);
        let encoder = Encoder::load_for(&model.model, Kernels::Packed).unwrap();
        let exact = Encoder::load_for(&model.model, Kernels::Exact).unwrap();
        assert_eq!(encoder.max_tokens(), exact.max_tokens());
        let pool = Pool::new(2).unwrap();
        let mut cases: Vec<(Vec<u32>, Vec<f32>)> = reference::<Reference<Sentence>>(name)
            .cases
            .into_iter()
            .map(|case| (encoder.tokenize(&case.text, Role::Plain).unwrap().ids, case.embedding))
            .collect();
        // Padding in a text has a place of its own.
        let ids = [&cases[0].0[..3], &[1], &cases[0].0[3..]].concat();
        let tokens = |ids: &[u32]| Tokens { ids: ids.to_vec(), untruncated: ids.len() };
        let want = exact.embed(&[tokens(&ids)], &pool, &mut || Ok(())).unwrap().remove(0);
        cases.push((ids, want));
        let batch: Vec<Tokens> = cases.iter().map(|(ids, _)| tokens(ids)).collect();
        let got = encoder.embed(&batch, &pool, &mut || Ok(())).unwrap();
        for (i, (vector, (_, want))) in got.iter().zip(&cases).enumerate() {
            let alike: f32 = vector.iter().zip(want).map(|(a, b)| a * b).sum();
            assert!(alike > 0.9995 && vector != want, "{name}, {i}: {alike}");
        }
    }
}

#[test]
fn cross_encoders_give_the_logits_of_the_origin() {
    for (name, config) in CROSS_ENCODERS.iter().flat_map(|name| CONFIGS.map(|config| (name, config))) {
        let reranker = Reranker::load(&Fixture::new(name, Kind::CrossEncoder, config).model).unwrap();
        let cases = reference::<Reference<Pair>>(name).cases;
        assert_eq!((cases.len(), reranker.max_tokens()), (7, 64));
        for case in cases {
            let (ids, kinds) = reranker.tokenize(&case.query, &case.passage).unwrap();
            assert_eq!(ids, case.input_ids, "{name}: {:?}", case.passage);
            assert_eq!(kinds, case.token_type_ids.unwrap_or(vec![0; ids.len()]));
            for threads in [1, 2] {
                let pool = Pool::new(threads).unwrap();
                let passages = [case.passage.as_str(); 2];
                let got = reranker.score(&case.query, &passages, &pool, &mut || Ok(())).unwrap();
                assert!((got[0] - case.logit).abs() < 1e-5, "{name}: {got:?}, not {}", case.logit);
                assert_eq!(got[0], got[1]);
            }
        }
    }
}

#[test]
fn a_check_stops_a_network() {
    let encoder = Encoder::load(&Fixture::new("modernbert_mean", Kind::Encoder, CONFIGS[0]).model).unwrap();
    let tokens = vec![encoder.tokenize("some words", Role::Plain).unwrap(); 500];
    let mut asked = 0;
    let stopped = encoder.embed(&tokens, &Pool::new(2).unwrap(), &mut || {
        asked += 1;
        if asked < 20 { Ok(()) } else { Err(Error::Interrupted) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted)) && asked == 20);
}

#[test]
fn shorter_vectors_have_length_one() {
    let encoder = Encoder::load(&Fixture::new("xlm_roberta_mean", Kind::Encoder, CONFIGS[0]).model).unwrap();
    let tokens = encoder.tokenize("some words", Role::Plain).unwrap();
    let whole = encoder.embed(&[tokens], &Pool::new(1).unwrap(), &mut || Ok(())).unwrap().remove(0);
    let short = encoder.shorten(whole.clone(), 16).unwrap();
    let length: f32 = short.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5 && short.len() == 16);
    assert!((short[0] / short[1] - whole[0] / whole[1]).abs() < 1e-4);
    for wrong in [0, 49] {
        assert!(matches!(encoder.shorten(whole.clone(), wrong), Err(Error::InvalidInput(_))));
    }
}

#[test]
fn what_a_model_is_not_is_named() {
    let wrong = |name: &str, kind: Kind| {
        let model = Fixture::new(name, kind, CONFIGS[0]);
        let refused = match kind {
            Kind::Encoder => Encoder::load(&model.model).err(),
            _ => Reranker::load(&model.model).err(),
        };
        refused.unwrap().to_string()
    };
    assert!(wrong("bert_cross_encoder", Kind::Encoder).contains("of kind cross-encoder"));
    assert!(wrong("bert_cls", Kind::CrossEncoder).contains("of kind encoder"));
    let mut model = Fixture::new("bert_cross_encoder", Kind::CrossEncoder, CONFIGS[0]);
    let text = String::from_utf8(model.get("config.json")).unwrap();
    model.set("config.json", text.replace("\"0\": \"LABEL_0\"", "\"0\": \"A\", \"1\": \"B\"").as_bytes());
    assert!(Reranker::load(&model.model).err().unwrap().to_string().contains("2 classes"));
}

/// The rows that candle's network gives with the tensors of the JinaBERT `model` for `ids`, all of the first kind.
fn jina_by_candle(model: &Fixture, ids: &[u32]) -> Tensor {
    use candle_transformers::models::jina_bert::{BertModel, Config};

    let config: Config = serde_json::from_slice(&model.get("config.json")).unwrap();
    let path = model.model.file("model.safetensors").unwrap();
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let weights = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let network = BertModel::new(weights, &config).unwrap();
    let ids = Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    network.forward(&ids).unwrap().i(0).unwrap()
}

#[test]
fn jina_gives_the_rows_of_candle() {
    let model = Fixture::new("jina", Kind::Encoder, CONFIGS[0]);
    let encoder = Encoder::load(&model.model).unwrap();
    let tokens = encoder.tokenize("heads that see less of what is far away", Role::Plain).unwrap();
    let mean: Vec<f32> = jina_by_candle(&model, &tokens.ids).mean(0).unwrap().to_vec1().unwrap();
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    let vector = encoder.embed(&[tokens], &Pool::new(1).unwrap(), &mut || Ok(())).unwrap().remove(0);
    assert!(vector.iter().zip(&mean).all(|(got, want)| (got - want / length).abs() < 1e-5));
}

#[test]
fn a_jina_reranker_gives_the_score_of_candles_rows() {
    let mut model = Fixture::new("jina", Kind::CrossEncoder, CONFIGS[0]);
    // Published JinaBERT rerankers are BERT's classifiers on that network. Their second text is of the second kind,
    // which candle's network does not know: here both kinds are alike.
    let text = String::from_utf8(model.get("config.json")).unwrap();
    model.set(
        "config.json",
        text.replace("JinaBertForMaskedLM", "JinaBertForSequenceClassification").as_bytes(),
    );
    let path = model.model.file("model.safetensors").unwrap();
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let kinds = "embeddings.token_type_embeddings.weight";
    let head = |rows: usize| {
        let values = (0..rows * 49).map(|i| ((i * 37 % 101) as f32 - 50.0) / 150.0).collect::<Vec<_>>();
        let weight = Tensor::from_slice(&values[..rows * 48], (rows, 48), &Device::Cpu).unwrap();
        (weight, Tensor::from_slice(&values[rows * 48..], rows, &Device::Cpu).unwrap())
    };
    let ((dense, dense_bias), (score, score_bias)) = (head(48), head(1));
    let alike = |name: &str, tensor: &Tensor| match name == kinds {
        true => tensor.i(..1).unwrap().repeat((2, 1)).unwrap(),
        false => tensor.clone(),
    };
    let plain: HashMap<String, Tensor> = tensors.iter().map(|(n, t)| (n.clone(), alike(n, t))).collect();
    let mut whole: HashMap<String, Tensor> =
        plain.iter().map(|(n, t)| (format!("bert.{n}"), t.clone())).collect();
    whole.extend([
        ("bert.pooler.dense.weight".to_owned(), dense.clone()),
        ("bert.pooler.dense.bias".to_owned(), dense_bias.clone()),
        ("classifier.weight".to_owned(), score.clone()),
        ("classifier.bias".to_owned(), score_bias.clone()),
    ]);
    let save = |model: &mut Fixture, tensors: &HashMap<String, Tensor>| {
        let file = tempfile::NamedTempFile::new().unwrap();
        candle_core::safetensors::save(tensors, file.path()).unwrap();
        model.set("model.safetensors", &std::fs::read(file.path()).unwrap());
    };
    save(&mut model, &whole);
    let mut network = Fixture::new("jina", Kind::Encoder, CONFIGS[0]);
    save(&mut network, &plain);
    let reranker = Reranker::load(&model.model).unwrap();
    let pool = Pool::new(1).unwrap();
    for passage in ["a client for PostgreSQL", "x", "heads that see less of what is far away"] {
        let (ids, kinds) = reranker.tokenize("which client?", passage).unwrap();
        assert!(kinds.contains(&0) && kinds.contains(&1));
        let rows = jina_by_candle(&network, &ids);
        let linear = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
            x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(bias).unwrap()
        };
        let pooled = linear(&rows.i(..1).unwrap(), &dense, &dense_bias).tanh().unwrap();
        let want = linear(&pooled, &score, &score_bias).flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        let got = reranker.score("which client?", &[passage], &pool, &mut || Ok(())).unwrap()[0];
        assert!((got - want).abs() < 1e-5, "{passage}: {got}, not {want}");
    }
}

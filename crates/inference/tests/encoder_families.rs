//! Sentence encoders and cross-encoders of every family against what the original implementation computed.

#[allow(dead_code)]
#[path = "families/fixture.rs"]
mod fixture;

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

#[test]
fn jina_gives_the_rows_of_candle() {
    use candle_core::{DType, Device, IndexOp, Module, Tensor};
    use candle_transformers::models::jina_bert::{BertModel, Config};

    let model = Fixture::new("jina", Kind::Encoder, CONFIGS[0]);
    let config: Config = serde_json::from_slice(&model.get("config.json")).unwrap();
    let path = model.model.file("model.safetensors").unwrap();
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let weights = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let network = BertModel::new(weights, &config).unwrap();
    let encoder = Encoder::load(&model.model).unwrap();
    let tokens = encoder.tokenize("heads that see less of what is far away", Role::Plain).unwrap();
    let ids = Tensor::new(&tokens.ids[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let mean = network.forward(&ids).unwrap().i(0).unwrap().mean(0).unwrap();
    let mean: Vec<f32> = mean.to_vec1().unwrap();
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    let vector = encoder.embed(&[tokens], &Pool::new(1).unwrap(), &mut || Ok(())).unwrap().remove(0);
    assert!(vector.iter().zip(&mean).all(|(got, want)| (got - want / length).abs() < 1e-5));
}

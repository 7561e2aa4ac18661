//! A tiny BERT against its reference, and the ways in which its files can be wrong.

mod encoder {
    pub mod model;
}

use std::os::unix::fs::MetadataExt;

use encoder::model::{TinyModel, read_reference};
use pg_answer_inference::encoder::{Kernels, prepare, prepared};
use pg_answer_inference::prepared::Image;
use pg_answer_inference::{Encoder, Error, Pool, Role, Tokens};

fn load(model: &TinyModel) -> Result<Encoder, Error> {
    Encoder::load_for(&model.open(), Kernels::Packed)
}

fn embed(encoder: &Encoder, tokens: &[Tokens], threads: usize) -> Vec<Vec<f32>> {
    encoder.embed(tokens, &Pool::new(threads).unwrap(), &mut || Ok(())).unwrap()
}

/// The error's text when loading fails as it should.
fn refused(model: &TinyModel) -> String {
    match load(model) {
        Ok(_) => panic!("it was loaded"),
        Err(e @ (Error::Unsupported { .. } | Error::Model(pg_answer_models::Error::Damaged { .. }))) => {
            e.to_string()
        }
        Err(e) => panic!("an error of another kind: {e:?}"),
    }
}

#[track_caller]
fn assert_refused(model: &TinyModel, why: &str) {
    let text = refused(model);
    assert!(text.contains(why), "{text}");
}

#[test]
fn ids_and_vectors_are_those_of_the_reference() {
    let encoder = Encoder::load_for(&TinyModel::new().open(), Kernels::Candle).unwrap();
    let cases = read_reference();
    assert_eq!((encoder.dims(), encoder.max_tokens(), cases.len()), (48, 48, 7));
    assert!(encoder.memory() > 4 * 48 * 1000);
    let tokens: Vec<Tokens> =
        cases.iter().map(|case| encoder.tokenize(&case.text, Role::Plain).unwrap()).collect();
    for threads in [1, 2] {
        for (i, (case, vector)) in cases.iter().zip(embed(&encoder, &tokens, threads)).enumerate() {
            assert_eq!(tokens[i].ids, case.input_ids);
            for (got, want) in vector.iter().zip(&case.embedding) {
                assert!((got - want).abs() < 1e-5, "{:?}: {got}, not {want}", case.text);
            }
            let alone = embed(&encoder, &tokens[i..=i], threads);
            assert!(alone[0].iter().zip(&vector).all(|(a, b)| (a - b).abs() <= 1e-6), "{:?}", case.text);
        }
    }
}

#[test]
fn kernels_are_near_the_reference_whatever_the_batch_and_the_threads() {
    let encoder = load(&TinyModel::new()).unwrap();
    let cases = read_reference();
    let tokens: Vec<Tokens> =
        cases.iter().map(|case| encoder.tokenize(&case.text, Role::Plain).unwrap()).collect();
    let together = embed(&encoder, &tokens, 1);
    assert_eq!(embed(&encoder, &tokens, 2), together);
    assert_eq!(embed(&encoder, &tokens, 5), together);
    for (i, (case, vector)) in cases.iter().zip(&together).enumerate() {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let want = &case.embedding;
        let cosine = dot(vector, want) / (dot(vector, vector) * dot(want, want)).sqrt();
        assert!(cosine > 0.9995, "{:?}: {cosine}", case.text);
        for threads in [1, 3] {
            assert_eq!(embed(&encoder, &tokens[i..=i], threads)[0], *vector, "{:?}", case.text);
        }
    }
}

#[test]
fn a_prepared_model_computes_the_same() {
    let mut tiny = TinyModel::new();
    // Narrow heads run on the files as they are: only the vocabulary is prepared.
    let words = prepare(&tiny.open(), &mut || Ok(())).unwrap().unwrap();
    assert!(words.path().ends_with("prepared-words-1.bin"));
    let (text, case) = (tiny.get("tokenizer.json"), read_reference().remove(0));
    tiny.set("tokenizer.json", b"not read");
    let encoder = Encoder::load(&tiny.open()).unwrap();
    assert_eq!(encoder.tokenize(&case.text, Role::Plain).unwrap().ids, case.input_ids);
    tiny.set("tokenizer.json", &text);
    tiny.edit("config.json", |json| json["num_attention_heads"] = 1.into());
    let model = tiny.open();
    let loaded = load(&tiny).unwrap();
    assert!(prepared(&model).unwrap().is_none());
    prepare(&model, &mut || Ok(())).unwrap().unwrap();
    let image = prepared(&model).unwrap().unwrap();
    image.verify(&mut || Ok(())).unwrap();
    assert_eq!(image.private_memory(), 0);
    let stopped = prepare(&model, &mut || Err(Error::Interrupted));
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert!(prepared(&model).unwrap().is_some());
    // Its vocabulary is mapped too.
    tiny.set("tokenizer.json", b"not read");
    let mapped = load(&tiny).unwrap();
    for case in read_reference() {
        assert_eq!(mapped.tokenize(&case.text, Role::Plain).unwrap().ids, case.input_ids);
    }
    let tokens = [loaded.tokenize("a vector database", Role::Plain).unwrap()];
    assert_eq!(embed(&loaded, &tokens, 1), embed(&mapped, &tokens, 1));
    // Preparing anew makes another file: who has the old one mapped keeps it.
    tiny.set("tokenizer.json", &text);
    let file = |image: &Image| std::fs::metadata(image.path()).unwrap().ino();
    let before = file(&image);
    assert_ne!(file(&prepare(&tiny.open(), &mut || Ok(())).unwrap().unwrap()), before);
    assert_eq!(embed(&loaded, &tokens, 1), embed(&mapped, &tokens, 1));
    assert_eq!(embed(&loaded, &tokens, 1), embed(&load(&tiny).unwrap(), &tokens, 1));
}

#[test]
fn many_texts_are_split_and_stay_in_order() {
    let encoder = load(&TinyModel::new()).unwrap();
    let texts: Vec<Tokens> =
        (0..3000).map(|i| encoder.tokenize(&"data base ".repeat(i % 29), Role::Plain).unwrap()).collect();
    let together = embed(&encoder, &texts, 2);
    for i in [0, 1, 28, 29, 1500, 2999] {
        let alone = embed(&encoder, &texts[i..=i], 1);
        assert_eq!(alone[0], together[i], "text {i}");
    }
    assert!(embed(&encoder, &[], 2).is_empty());
}

#[test]
fn a_check_stops_the_work() {
    let encoder = load(&TinyModel::new()).unwrap();
    let texts = vec![encoder.tokenize("some words", Role::Plain).unwrap(); 5000];
    let mut asked = 0;
    let stopped = encoder.embed(&texts, &Pool::new(2).unwrap(), &mut || {
        asked += 1;
        if asked < 5 { Ok(()) } else { Err(Error::Interrupted) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert_eq!(asked, 5);
}

#[test]
fn impossible_tokens_are_errors() {
    let encoder = load(&TinyModel::new()).unwrap();
    let pool = Pool::new(1).unwrap();
    let run = |ids: Vec<u32>| {
        let untruncated = ids.len();
        encoder.embed(&[Tokens { ids, untruncated }], &pool, &mut || Ok(())).map(|_| ())
    };
    assert!(matches!(run(vec![]), Err(Error::InvalidInput(_))));
    assert!(matches!(run(vec![1; 49]), Err(Error::InvalidInput(_))));
    assert!(matches!(run(vec![2, 1000, 3]), Err(Error::Unsupported { .. })));
    assert!(matches!(run(vec![u32::MAX]), Err(Error::Unsupported { .. })));
    assert!(run(vec![2, 999, 3]).is_ok());
}

#[test]
fn prompts_stand_before_texts_by_their_role() {
    const FILE: &str = "config_sentence_transformers.json";
    let mut model = TinyModel::new();
    model.set(FILE, br#"{"prompts": {"query": "query: ", "passage": "passage: "}}"#);
    let encoder = load(&model).unwrap();
    let ids = |encoder: &Encoder, text: &str, role| encoder.tokenize(text, role).unwrap().ids;
    assert_eq!(ids(&encoder, "disk", Role::Query), ids(&encoder, "query: disk", Role::Plain));
    assert_eq!(ids(&encoder, "disk", Role::Document), ids(&encoder, "passage: disk", Role::Plain));
    assert_ne!(ids(&encoder, "disk", Role::Document), ids(&encoder, "disk", Role::Plain));

    model.set(FILE, br#"{"prompts": {"query": "find: "}, "default_prompt_name": "query"}"#);
    let encoder = load(&model).unwrap();
    assert_eq!(ids(&encoder, "disk", Role::Plain), ids(&encoder, "disk", Role::Document));

    model.set(FILE, br#"{"default_prompt_name": "absent"}"#);
    assert_refused(&model, "no prompt is called");
    let without = load(&TinyModel::new()).unwrap();
    assert_eq!(ids(&without, "disk", Role::Query), ids(&without, "disk", Role::Plain));
}

#[test]
fn absent_files_mean_the_defaults() {
    let mut model = TinyModel::new();
    for file in ["modules.json", "sentence_bert_config.json"] {
        model.remove(file);
    }
    // tokenizer_config.json says 48.
    assert_eq!(load(&model).unwrap().max_tokens(), 48);
    model.remove("tokenizer_config.json");
    let encoder = load(&model).unwrap();
    assert_eq!(encoder.max_tokens(), 128);
    // Without modules: the mean, not normalised.
    let tokens = encoder.tokenize("database", Role::Plain).unwrap();
    let length: f32 = embed(&encoder, &[tokens], 1)[0].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() > 0.01, "{length}");

    for file in ["config.json", "tokenizer.json", "1_Pooling/config.json"] {
        let mut model = TinyModel::new();
        model.remove(file);
        assert_refused(&model, "does not name it");
    }
}

#[test]
fn truncation_and_padding_of_the_tokenizer_file_are_ignored() {
    let mut model = TinyModel::new();
    model.edit("tokenizer.json", |json| {
        json["truncation"] = serde_json::json!({"max_length": 8, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = serde_json::json!({"strategy": {"Fixed": 16}, "direction": "Right",
            "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    });
    let encoder = load(&model).unwrap();
    for case in read_reference() {
        assert_eq!(encoder.tokenize(&case.text, Role::Plain).unwrap().ids, case.input_ids);
    }
    assert_eq!(encoder.tokenize("", Role::Plain).unwrap().ids, [2, 3]);
}

#[test]
fn other_poolings_and_activations_give_other_vectors() {
    let vector = |model: &TinyModel| {
        let encoder = load(model).unwrap();
        let tokens = encoder.tokenize("a vector database", Role::Plain).unwrap();
        embed(&encoder, &[tokens], 1).remove(0)
    };
    let mut seen = vec![vector(&TinyModel::new())];
    for mode in ["mean", "max", "lasttoken"] {
        let mut model = TinyModel::new();
        model.set("1_Pooling/config.json", format!("{{\"pooling_mode\": \"{mode}\"}}").as_bytes());
        seen.push(vector(&model));
    }
    for activation in ["gelu_new", "relu"] {
        let mut model = TinyModel::new();
        model.edit("config.json", |json| json["hidden_act"] = activation.into());
        seen.push(vector(&model));
    }
    for (i, a) in seen.iter().enumerate() {
        for b in &seen[..i] {
            assert!(a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-5));
        }
    }
}

#[test]
fn what_is_not_built_is_named() {
    let refuse = |file: &str, edit: &dyn Fn(&mut serde_json::Value), why: &str| {
        let mut model = TinyModel::new();
        model.edit(file, edit);
        assert_refused(&model, why);
    };
    refuse("config.json", &|j| j["hidden_act"] = "silu".into(), "hidden_act Silu");
    refuse("config.json", &|j| j["is_decoder"] = true.into(), "decoder");
    refuse("config.json", &|j| j["position_embedding_type"] = "relative_key".into(), "relative_key");
    refuse("modules.json", &|j| j[2]["type"] = "a.b.Dense".into(), "Dense");
    refuse("1_Pooling/config.json", &|j| j["pooling_mode_mean_tokens"] = true.into(), "pooling");
    refuse("1_Pooling/config.json", &|j| j["pooling_mode"] = "weightedmean".into(), "weightedmean");
    let mut model = TinyModel::new();
    model.set("config.json", br#"{"architectures": ["DebertaV2Model"], "model_type": "deberta-v2"}"#);
    assert_refused(&model, "DebertaV2Model");
    model.set("config.json", br#"{"model_type": "roformer"}"#);
    assert_refused(&model, "roformer");
}

#[test]
fn absurd_numbers_are_errors() {
    for (key, value) in [
        ("hidden_size", "0"),
        ("hidden_size", "1000000000000"),
        ("hidden_size", "52"),
        ("hidden_size", "-48"),
        ("intermediate_size", "0"),
        ("intermediate_size", "18446744073709551615"),
        ("num_attention_heads", "0"),
        ("num_attention_heads", "5"),
        ("num_hidden_layers", "0"),
        ("num_hidden_layers", "3"),
        ("num_hidden_layers", "1000000000000"),
        ("num_hidden_layers", "1e12"),
        ("layer_norm_eps", "-1"),
        ("layer_norm_eps", "1e300"),
    ] {
        let mut model = TinyModel::new();
        model.edit("config.json", |json| json[key] = serde_json::from_str(value).unwrap());
        refused(&model);
    }
    for length in [0, 1, 2] {
        let mut model = TinyModel::new();
        model.edit("sentence_bert_config.json", |json| json["max_seq_length"] = length.into());
        assert_refused(&model, "at most");
    }
    let mut model = TinyModel::new();
    model.edit("sentence_bert_config.json", |json| json["max_seq_length"] = 1_000_000_000_000u64.into());
    assert_eq!(load(&model).unwrap().max_tokens(), 128);
}

#[test]
fn a_tokenizer_that_devours_memory_is_refused() {
    let mut model = TinyModel::new();
    let double = serde_json::json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    model.edit("tokenizer.json", |json| {
        json["normalizer"] = serde_json::json!({"type": "Sequence", "normalizers": vec![double.clone(); 40]});
    });
    assert_refused(&model, "normalizer");
    let mut model = TinyModel::new();
    model.edit("tokenizer.json", |json| {
        let piece = json["post_processor"]["single"][0].clone();
        json["post_processor"]["single"] = vec![piece; 10_000].into();
    });
    assert_refused(&model, "post-processor");
}

#[test]
fn tensors_are_held_against_the_configuration() {
    let refuse = |edit: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>), why: &str| {
        let mut model = TinyModel::new();
        model.edit_header(|header| edit(header));
        assert_refused(&model, why);
    };
    const WORDS: &str = "embeddings.word_embeddings.weight";
    refuse(
        &|header| {
            let words = header.remove(WORDS).unwrap();
            header.insert("other".to_owned(), words);
        },
        "missing",
    );
    refuse(&|header| header[WORDS]["shape"] = serde_json::json!([48, 1000]), "shape");
    refuse(&|header| header[WORDS]["shape"] = serde_json::json!([48_000]), "shape");
    refuse(&|header| header[WORDS]["shape"] = serde_json::json!([u64::MAX, 48]), "damaged");
    refuse(&|header| header[WORDS]["dtype"] = "I32".into(), "type");
    refuse(&|header| header[WORDS]["data_offsets"] = serde_json::json!([0, 1u64 << 60]), "damaged");
    let mut model = TinyModel::new();
    model.set("model.safetensors", &u64::MAX.to_le_bytes());
    refused(&model);
    model.set("model.safetensors", b"");
    refused(&model);
}

#[test]
fn half_precision_weights_are_widened() {
    let load = |model: &TinyModel| Encoder::load_for(&model.open(), Kernels::Candle);
    let exact = load(&TinyModel::new()).unwrap();
    let tokens = exact.tokenize("a vector database", Role::Plain).unwrap();
    let want = embed(&exact, std::slice::from_ref(&tokens), 1).remove(0);
    for (name, tolerance) in [("F16", 2e-3), ("BF16", 2e-2)] {
        let mut model = TinyModel::new();
        model.narrow(name);
        let encoder = load(&model).unwrap();
        let got = embed(&encoder, std::slice::from_ref(&tokens), 1).remove(0);
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < tolerance, "{name}: {worst}");
    }
}

#[test]
fn weights_that_are_not_finite_give_an_error() {
    let mut model = TinyModel::new();
    model.poison();
    let encoder = load(&model).unwrap();
    let tokens = encoder.tokenize("text", Role::Plain).unwrap();
    let got = encoder.embed(&[tokens], &Pool::new(1).unwrap(), &mut || Ok(()));
    assert!(matches!(got, Err(Error::Unsupported { .. })));
}

#[test]
fn a_card_that_says_otherwise_is_refused() {
    let model = TinyModel::new();
    let mut opened = model.open();
    opened.card.dims = Some(384);
    assert!(matches!(Encoder::load(&opened), Err(Error::Unsupported { .. })));
    opened.card.kind = pg_answer_models::Kind::Decoder;
    assert!(matches!(Encoder::load(&opened), Err(Error::Unsupported { .. })));
}

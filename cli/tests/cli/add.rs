//! `add`: models of one's own, and those that cannot be run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::site::Site;

pub fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny").join(name)
}

/// A copy of a tiny model whose files can be changed.
fn copy(site: &Site, name: &str) -> PathBuf {
    let to = site.path(name);
    fs::create_dir_all(to.join("1_Pooling")).unwrap();
    for file in
        ["config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"]
    {
        fs::copy(tiny(name).join(file), to.join(file)).unwrap();
    }
    to
}

pub fn card(site: &Site, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(site.store().join(name).join("model.json")).unwrap()).unwrap()
}

#[test]
fn tells_what_a_model_is_and_installs_it() {
    let site = Site::new();
    for (folder, kind, family, dims) in [
        ("bert_cls", "encoder", "bert", Some(48)),
        ("xlm_roberta_mean", "encoder", "roberta", Some(48)),
        ("modernbert_mean", "encoder", "modernbert", Some(48)),
        ("bert_cross_encoder", "cross-encoder", "bert-cross-encoder", None),
        ("llama_rope3_bf16_sharded", "decoder", "llama", None),
        ("gpt2_hub_names", "decoder", "gpt2", None),
        ("t5_relu", "encoder-decoder", "t5", None),
        ("bart", "encoder-decoder", "bart", None),
        ("qwen3_embedding", "encoder", "llama", Some(32)),
        ("static", "encoder", "static", Some(32)),
        ("phi4_mini", "decoder", "llama", None),
    ] {
        let path = tiny(folder);
        site.run(&["add", path.to_str().unwrap(), "--name", folder, "--license", "MIT"])
            .expect(0, &[family, "installed in"]);
        let card = card(&site, folder);
        assert_eq!((&card["kind"], &card["architecture"]), (&kind.into(), &family.into()));
        assert_eq!(card["dims"].as_u64(), dims);
        assert_eq!(card["license"], "MIT");
        assert!(card["files"][0]["path"].as_str().unwrap().ends_with(".safetensors"));
    }
    assert_eq!(card(&site, "llama_rope3_bf16_sharded")["quantization"], "BF16");
    site.run(&["verify"]).expect(0, &[]);
    let gguf = tiny("qwen2_gguf").join("tiny-qwen2-q8_0.gguf");
    site.run(&["add", gguf.to_str().unwrap(), "--name", "q"]).expect(0, &["qwen2 in Q8_0", "rag_answer()"]);
}

#[test]
fn refuses_with_the_reason() {
    let site = Site::new();
    let add = |path: &Path, words: &[&str]| {
        site.run(&["add", path.to_str().unwrap(), "--name", "m"]).expect(1, words);
        assert!(site.names().is_empty(), "nothing may be left");
    };
    let model = copy(&site, "bert_cls");
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    fs::write(model.join("config.json"), config.replace("BertModel", "OtherModel")).unwrap();
    add(&model, &["architecture OtherModel is not supported"]);
    fs::write(
        model.join("config.json"),
        config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
    )
    .unwrap();
    add(&model, &["tensor \"encoder.layer.2.", "is missing"]);
    fs::write(model.join("config.json"), &config).unwrap();
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    add(&model, &["tokenizer.json"]);
    fs::rename(model.join("model.safetensors"), model.join("pytorch_model.bin")).unwrap();
    add(&model, &["pickle", "pytorch_model.bin", "safetensors"]);
    add(&site.path("nowhere"), &["nowhere"]);
    let gguf = tiny("qwen2_gguf");
    add(&gguf, &["several sets of weights"]);
}

#[test]
fn a_name_stands_for_one_content() {
    let site = Site::new();
    let path = tiny("bert_cls");
    let args = ["add", path.to_str().unwrap(), "--name", "m"];
    site.run(&args).expect(0, &[]);
    site.run(&args).expect(1, &["there is a model \"m\" already"]);
    site.run(&["add", path.to_str().unwrap(), "--name", "../m"]).expect(2, &["invalid model name"]);
}

//! `add`: installs a model that is in no catalogue, after a look at what it is.

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use pg_answer_inference::inspect::{About, inspect};
use pg_answer_inference::{Error, Pool};
use pg_answer_models::{Card, Digest, File, InstalledModel, Kind, Staging, Store};

use crate::failure::{Failure, Result};
use crate::{interrupt, prepare};

/// Endings of weights that are read.
const WEIGHTS: [&str; 2] = [".safetensors", ".gguf"];
/// Names of the other files that are read, in the model's folder or that of one of its modules.
const OTHERS: [&str; 9] = [
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];
/// Endings of weights in Python's pickle format, which is a program: reading it runs it.
const PICKLES: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];
/// Folders below a model's that hold configuration.
const DEPTH: usize = 2;

/// Installs the model in `from`, a folder or a GGUF file, as `name`.
pub fn add(store: &Store, from: &Path, name: &str, license: &str) -> Result<()> {
    if !pg_answer_models::store::is_valid_name(name) {
        return Err(pg_answer_models::Error::InvalidName(name.to_owned()).into());
    }
    let (folder, paths) = files_of(from)?;
    if store.open(name).is_ok() {
        return Err(Failure::new(format!("there is a model \"{name}\" already")).hint(
            "a name stands for one content: choose another, or remove the model first with: pg_answer_model remove",
        ));
    }
    let staging =
        store.stage(name, &mut || eprintln!("{name}: waiting for another process that is at it"))?;
    let installed = take(&staging, &folder, &paths, name, license);
    match installed {
        Ok(card) => {
            let about = describe(&card);
            let model = staging.install(&card)?;
            eprintln!("{name}: {about}");
            eprintln!("{name}: installed in {} ({})", model.dir.display(), HumanBytes(card.bytes()));
            prepare::after_pull(&model)
        }
        Err(failure) => {
            staging.discard()?;
            Err(failure.of(name))
        }
    }
}

/// Copies the files and finds out what they are.
fn take(staging: &Staging, folder: &Path, paths: &[String], name: &str, license: &str) -> Result<Card> {
    let mut files = Vec::new();
    for path in paths {
        interrupt::check()?;
        let target = staging.file(path)?;
        std::fs::copy(folder.join(path), &target).map_err(|e| Failure::io(&target, e))?;
        let mut digest = Digest::default();
        let bytes = digest.update_from(&target, &mut |_| interrupt::check())?;
        files.push(File { path: path.clone(), bytes, sha256: digest.hex() });
    }
    let mut card = Card {
        name: name.to_owned(),
        kind: Kind::Decoder,
        architecture: String::new(),
        dims: None,
        context_length: 1,
        quantization: String::new(),
        license: license.to_owned(),
        description: String::new(),
        files,
    };
    let model = InstalledModel { card: card.clone(), dir: staging.work().join("new") };
    let mut check = || interrupt::check().map_err(|_| Error::Interrupted);
    let About { kind, family, dims, context_length, quantization } =
        inspect(&model, &Pool::new(0)?, &mut check)?;
    (card.kind, card.dims, card.context_length) = (kind, dims, context_length);
    (card.architecture, card.quantization) = (family, quantization);
    Ok(card)
}

/// One line on what the model is and can do.
fn describe(card: &Card) -> String {
    let does = match card.kind {
        Kind::Encoder => "embed()",
        Kind::Decoder => "generate() and rag_answer()",
        Kind::CrossEncoder => "rerank()",
        Kind::EncoderDecoder => "generate()",
    };
    let dims = card.dims.map_or_else(String::new, |dims| format!(", {dims} dimensions"));
    let Card { architecture, quantization, context_length, .. } = card;
    format!("{architecture} in {quantization}{dims}, up to {context_length} tokens; for {does}")
}

/// The folder and the files in it that make up the model, the weights first.
fn files_of(from: &Path) -> Result<(PathBuf, Vec<String>)> {
    let about = std::fs::metadata(from).map_err(|e| Failure::io(from, e))?;
    if about.is_file() {
        let name = from.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.ends_with(".gguf") {
            return Err(Failure::new(format!("{} is neither a folder nor a GGUF file", from.display())));
        }
        let folder = from.parent().unwrap_or(Path::new("")).to_owned();
        return Ok((folder, vec![name.to_owned()]));
    }
    let mut found = Vec::new();
    collect(from, "", DEPTH, &mut found)?;
    choose(&found)
        .map(|paths| (from.to_owned(), paths))
        .map_err(|failure| failure.of(&from.display().to_string()))
}

fn collect(dir: &Path, below: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(|e| Failure::io(dir, e))? {
        let entry = entry.map_err(|e| Failure::io(dir, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{below}{name}");
        if entry.path().is_dir() {
            if depth > 0 && !name.starts_with('.') {
                collect(&entry.path(), &format!("{path}/"), depth - 1, found)?;
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// Those of the files `found` that a model needs, the weights first.
pub fn choose(found: &[String]) -> Result<Vec<String>> {
    let is = |path: &str, endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    let weights: Vec<&String> =
        found.iter().filter(|path| is(path, &WEIGHTS) && !path.contains('/')).collect();
    if weights.is_empty() {
        let pickle = found.iter().find(|path| is(path, &PICKLES));
        return Err(match pickle {
            Some(path) => Failure::new(format!(
                "its weights are in Python's pickle format ({path}), a program that would run when it is read"
            ))
            .hint("save the model as safetensors (save_pretrained does) and add that"),
            None => Failure::new("there are no weights in it: no .safetensors, no .gguf"),
        });
    }
    let ggufs = weights.iter().filter(|path| path.ends_with(".gguf")).count();
    if ggufs > 0 && weights.len() > 1 {
        return Err(
            Failure::new("there are several sets of weights in it").hint("name one GGUF file instead")
        );
    }
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let others = found.iter().filter(|path| OTHERS.contains(&name(path).as_str()));
    Ok(weights.into_iter().chain(others).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(found: &[&str]) -> Result<Vec<String>> {
        choose(&found.iter().map(|&path| path.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn weights_come_first_and_pickles_never() {
        let all =
            ["1_Pooling/config.json", "README.md", "config.json", "model.safetensors", "pytorch_model.bin"];
        assert_eq!(chosen(&all).unwrap(), ["model.safetensors", "1_Pooling/config.json", "config.json"]);
        let pickled = chosen(&["config.json", "pytorch_model.bin"]).unwrap_err();
        assert!(pickled.message().contains("pickle format (pytorch_model.bin)"), "{}", pickled.message());
        assert!(chosen(&["config.json"]).unwrap_err().message().contains("no weights"));
        assert!(chosen(&["a.gguf", "b.gguf"]).unwrap_err().message().contains("several"));
        assert!(chosen(&["onnx/model.safetensors"]).is_err());
    }
}

//! Which of many files make up a model.

use std::path::Path;

use crate::failure::{Failure, Result};

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
/// Marian's tokenizer, where it has no tokenizer.json.
const PIECES: [&str; 2] = ["source.spm", "vocab.json"];
/// Endings of weights in Python's pickle format, which is a program: reading it runs it.
const PICKLES: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];
/// Folders below a model's that hold configuration.
const DEPTH: usize = 2;

/// Whether the file `path` holds weights that are read.
pub fn is_weights(path: &str) -> bool {
    WEIGHTS.iter().any(|ending| path.ends_with(ending))
}

/// The files in the folder `dir` and those below it, as deep as a model's go.
pub fn list(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(dir, "", DEPTH, &mut found)?;
    Ok(found)
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

/// Those of the files `found` that a model needs, the weights first: `file`, where it says which.
pub fn choose(found: &[String], file: Option<&str>) -> Result<Vec<String>> {
    let is_chosen = |path: &str| match file {
        Some(file) => path == file,
        // Mistral's own form beside that of transformers.
        None => !path.contains('/') && !path.starts_with("consolidated"),
    };
    let weights: Vec<&String> = found.iter().filter(|path| is_weights(path) && is_chosen(path)).collect();
    if weights.is_empty() {
        let is_pickle = |path: &&String| PICKLES.iter().any(|ending| path.ends_with(ending));
        return Err(match (file, found.iter().find(is_pickle)) {
            (Some(file), _) => Failure::new(format!("there are no weights \"{file}\" in it")),
            (None, Some(path)) => Failure::local(format!(
                "its weights are in Python's pickle format ({path}), a program that would run when it is read"
            ))
            .hint("save the model as safetensors (save_pretrained does) and add that"),
            (None, None) => Failure::local("there are no weights in it: no .safetensors, no .gguf"),
        });
    }
    let ggufs: Vec<&str> =
        weights.iter().map(|path| path.as_str()).filter(|path| path.ends_with(".gguf")).collect();
    if !ggufs.is_empty() && weights.len() > 1 {
        return Err(Failure::local("there are several sets of weights in it")
            .hint(format!("choose one, for example with: --file {}", ggufs[0])));
    }
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let has_pieces = PIECES.iter().all(|file| found.iter().any(|path| path == file));
    let others = found.iter().filter(|path| {
        let is_config = path.split('/').count() <= DEPTH + 1 && OTHERS.contains(&name(path).as_str());
        is_config || (has_pieces && PIECES.contains(&path.as_str()))
    });
    Ok(weights.into_iter().chain(others).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(found: &[&str]) -> Result<Vec<String>> {
        choose(&found.iter().map(|&path| path.to_owned()).collect::<Vec<_>>(), None)
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
        let both = ["a.gguf", "b.gguf", "config.json"].map(str::to_owned);
        let marian = ["config.json", "model.safetensors", "source.spm", "target.spm", "vocab.json"];
        assert_eq!(
            chosen(&marian).unwrap(),
            ["model.safetensors", "config.json", "source.spm", "vocab.json"]
        );
        assert_eq!(chosen(&["model.safetensors", "vocab.json"]).unwrap(), ["model.safetensors"]);
        assert_eq!(choose(&both, Some("b.gguf")).unwrap(), ["b.gguf", "config.json"]);
        assert!(choose(&both, Some("c.gguf")).unwrap_err().message().contains("c.gguf"));
    }
}

//! A model's configuration and tensors, from which its family builds the network.

use pg_answer_models::{InstalledModel, Kind};
use serde_json::Value;

use super::{Family, Fields, find, find_gguf, gguf};
use crate::encoder::files::Files;
use crate::network::Tensors;
use crate::{Error, Result};

/// A model's configuration and tensors.
pub struct Source {
    /// `config.json`, or what a GGUF file says instead.
    pub fields: Fields,
    /// All tensors.
    pub tensors: Tensors,
}

impl Source {
    /// The configuration in the files of `model` and its family.
    ///
    /// # Errors
    /// `Damaged` when there is none, [`Error::Unsupported`] when no family answers to it.
    pub fn fields(model: &InstalledModel, files: &Files<'_>) -> Result<(Fields, &'static Family)> {
        const FILE: &str = "config.json";
        if let Some(file) = files.gguf()? {
            let architecture = file.text("general.architecture").unwrap_or("unknown");
            let fields = Fields::new(model.weights()?, &model.card.name, gguf::config(&file));
            return match find_gguf(architecture) {
                Some(family) => Ok((fields, family)),
                None => Err(fields.unsupported(format!("architecture {architecture} is not supported"))),
            };
        }
        let value: Value = files.required(FILE)?;
        let Value::Object(entries) = value else {
            return Err(files.damaged(FILE, "it is not an object".to_owned()));
        };
        let fields = Fields::new(model.dir.join(FILE), &model.card.name, entries);
        let (architecture, model_type) = fields.names();
        let family = find(architecture, model_type).ok_or_else(|| match architecture.or(model_type) {
            Some(name) => fields.unsupported(format!("architecture {name} is not supported")),
            None => fields.damaged("it names no architecture".to_owned()),
        })?;
        Ok((fields, family))
    }

    /// What `model` can be asked for, and the name of its family.
    ///
    /// # Errors
    /// As [`Source::fields`].
    pub fn kind(model: &InstalledModel, files: &Files<'_>) -> Result<(Kind, String)> {
        let gguf = files.gguf()?;
        let architecture = gguf.as_ref().and_then(|file| file.text("general.architecture"));
        let pools = match &gguf {
            // 0 says that it does not pool.
            Some(file) => architecture
                .and_then(|name| file.integer(&format!("{name}.pooling_type")))
                .is_some_and(|kind| kind > 0),
            None => files.has("modules.json"),
        };
        // The decoder with kernels of its own reads its file itself.
        if architecture == Some("qwen2") && !pools {
            return Ok((Kind::Decoder, "qwen2".to_owned()));
        }
        let (_, family) = Self::fields(model, files)?;
        // A decoder whose files say how its rows become a vector was trained to be an encoder.
        let kind = if pools && family.kind() == Kind::Decoder { Kind::Encoder } else { family.kind() };
        Ok((kind, family.name.to_owned()))
    }

    /// The configuration and tensors of `model`, and its family.
    ///
    /// # Errors
    /// As [`Source::fields`] and [`Tensors::open`].
    pub fn open(model: &InstalledModel, files: &Files<'_>) -> Result<(Self, &'static Family)> {
        let (fields, family) = Self::fields(model, files)?;
        Ok((Self { fields, tensors: tensors(files)? }, family))
    }

    /// An error about the model as a whole.
    pub fn unsupported(&self, reason: impl Into<String>) -> Error {
        self.tensors.unsupported(reason.into())
    }
}

/// The tensors of a model, by the names that its family gives them.
///
/// # Errors
/// As [`Tensors::open`].
pub fn tensors(files: &Files<'_>) -> Result<Tensors> {
    let mut tensors = Tensors::open(files.model())?;
    let architecture = files.gguf()?.and_then(|file| file.text("general.architecture").map(str::to_owned));
    if let Some(rename) = architecture.and_then(|name| gguf::rename(&name)) {
        tensors.set_rename(rename);
    }
    Ok(tensors)
}

//! From a GGUF file to the image that decoders run from ([`prepared`](crate::prepared)): a section for each tensor, in
//! the layout of the kernels, and the tables of the tokenizer.

use std::collections::BTreeMap;
use std::sync::Arc;

use pg_answer_models::InstalledModel;
use serde::{Deserialize, Serialize};

use super::chat::Template;
use super::gguf::{Gguf, TensorType};
use super::head::{Head, OUTPUT};
use super::matrix::{self, Matrix};
use super::shape::{Shape, name};
use super::vocabulary::{Vocabulary, VocabularyMeta};
use crate::prepared::{Draft, Image, Place, Plan};
use crate::{Check, Error, Pool, Result};

/// Name and version of the layout.
pub const LAYOUT: &str = "qwen2-2";
/// Section of the rows of a separate input embedding, as they stand in the file.
pub const EMBEDDING: &str = "token_embd.rows";
/// Section of the vector before it.
pub const OUTPUT_NORM: &str = "output_norm.weight";

/// What an image tells beside its sections.
#[derive(Serialize, Deserialize)]
pub struct Meta {
    /// Sizes of the model.
    pub shape: Shape,
    /// How the file holds the tensors that are matrices, by section.
    pub types: BTreeMap<String, TensorType>,
    /// Special tokens.
    pub vocabulary: VocabularyMeta,
    /// The chat template, if there is one.
    pub template: Option<String>,
}

/// Writes the prepared file of `model`.
///
/// # Errors
/// As [`build`].
pub fn prepare(model: &InstalledModel, pool: &Pool, check: Check<'_>) -> Result<Arc<Image>> {
    build(&Gguf::open(&model.weights()?)?, model, Place::File, pool, check)
}

/// A matrix of the file, and of the section that it becomes and that is named like it.
struct Part {
    name: String,
    rows: usize,
    width: usize,
}

/// Builds the image of `model` from its file.
///
/// # Errors
/// [`Error::Unsupported`] for another architecture, `Damaged` when a tensor is missing or has another shape, `Io` when
/// the image cannot be written; whatever `check` returns.
pub fn build(
    gguf: &Gguf,
    model: &InstalledModel,
    place: Place,
    pool: &Pool,
    check: Check<'_>,
) -> Result<Arc<Image>> {
    let architecture = gguf.text("general.architecture").unwrap_or("unknown");
    if architecture != "qwen2" {
        let reason = format!("the architecture \"{architecture}\" is not supported");
        return Err(Error::Unsupported { model: model.card.name.clone(), reason });
    }
    let shape = Shape::read(gguf)?;
    let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
    for layer in 0..shape.layers {
        for (part, rows, width) in shape.layer_matrices() {
            matrices.push(Part { name: name(layer, part), rows, width });
        }
        vectors.extend(shape.layer_vectors().map(|(part, length)| (name(layer, part), length)));
    }
    vectors.push((OUTPUT_NORM.to_owned(), shape.width));
    let embedding = gguf.tensor("token_embd.weight")?;
    let is_tied = gguf.find(OUTPUT).is_none();
    if embedding.width != shape.width {
        return Err(gguf.damaged("the embedding has another width than the layers"));
    }
    let mut types = BTreeMap::new();
    for part in &matrices {
        types.insert(part.name.clone(), matrix::kind(gguf, &part.name, (part.rows, part.width))?);
    }
    let head = (if is_tied { "token_embd.weight" } else { OUTPUT }, (shape.vocabulary, shape.width));
    types.insert(OUTPUT.to_owned(), matrix::kind(gguf, head.0, head.1)?);
    if !is_tied {
        types.insert(EMBEDDING.to_owned(), embedding.kind);
    }
    let vocabulary = Vocabulary::read(gguf, shape.vocabulary)?;
    check()?;
    let template = gguf.text("tokenizer.chat_template").map(str::to_owned);
    Template::new(template.as_deref(), "", "").map_err(|reason| gguf.damaged(reason))?;

    let meta = Meta { shape, types, vocabulary: vocabulary.meta.clone(), template };
    let value = serde_json::to_value(&meta).map_err(|e| Error::Internal(e.to_string()))?;
    let mut plan = Plan::new(model, LAYOUT, value);
    for part in &matrices {
        Matrix::plan(&mut plan, &part.name, meta.types[&part.name], (part.rows, part.width));
    }
    Head::plan(&mut plan, meta.types[OUTPUT], head.1);
    for (name, length) in &vectors {
        plan.section::<f32>(name, *length);
    }
    if !is_tied {
        plan.section::<u8>(EMBEDDING, embedding.rows * embedding.row_bytes);
    }
    vocabulary.plan(&mut plan);

    let mut draft = plan.start(place)?;
    vocabulary.fill(&mut draft)?;
    drop(vocabulary);
    for (name, length) in &vectors {
        draft.fill::<f32>(name)?.copy_from_slice(&matrix::load_vector(gguf, name, *length)?);
    }
    for part in &matrices {
        Matrix::fill(gguf, &part.name, &part.name, &mut draft, pool, check)?;
    }
    Head::fill(gguf, head.0, &mut draft, pool, check)?;
    if !is_tied {
        fill_embedding(gguf, &mut draft, check)?;
    }
    check()?;
    draft.finish()
}

fn fill_embedding(gguf: &Gguf, draft: &mut Draft, check: Check<'_>) -> Result<()> {
    const ROWS: usize = 4096;
    let tensor = gguf.tensor("token_embd.weight")?;
    for (i, bytes) in draft.fill::<u8>(EMBEDDING)?.chunks_mut(ROWS * tensor.row_bytes).enumerate() {
        check()?;
        gguf.read_rows(&tensor, i * ROWS, bytes)?;
    }
    Ok(())
}

//! The tensors of a model's files by their names: safetensors, in one file or several, or GGUF.
//!
//! Files are mapped and stay as they are. They are untrusted: every tensor is held against its file's length when the
//! file is opened, and against the shape that the network expects when it is asked for.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use pg_answer_models::{Error as ModelError, InstalledModel};
use safetensors::{Dtype, SafeTensors};

use super::weight::{Weight, widen};
use crate::decoder::gguf::{Gguf, TensorType};
use crate::{Error, Result};

/// Most tensors of a model that are believed.
const MAX_TENSORS: usize = 1 << 16;

/// Where a tensor lies.
struct Place {
    file: usize,
    kind: TensorType,
    /// Rows before the last dimension, all together.
    rows: usize,
    width: usize,
    offset: usize,
}

/// All tensors of a model.
pub struct Tensors {
    model: String,
    files: Vec<(PathBuf, Arc<Mmap>)>,
    places: HashMap<String, Place>,
    /// Types of tensors that are no floats, position ids and the like.
    others: HashMap<String, String>,
    /// How a GGUF file names what a network asks for.
    rename: Option<fn(&str) -> Option<String>>,
}

impl Tensors {
    /// Maps the weights of `model`: the GGUF file that its card names first, or all its safetensors files.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] or [`ModelError::Io`]; [`Error::Unsupported`] when there are no weights in a format
    /// that can be read.
    pub fn open(model: &InstalledModel) -> Result<Self> {
        let mut tensors = Self {
            model: model.card.name.clone(),
            files: Vec::new(),
            places: HashMap::new(),
            others: HashMap::new(),
            rename: None,
        };
        let names = model.card.files.iter().map(|f| f.path.as_str());
        for name in names.filter(|name| name.ends_with(".safetensors") || name.ends_with(".gguf")) {
            let path = model.file(name)?;
            let pages = map(&path)?;
            match name.ends_with(".gguf") {
                true => tensors.add_gguf(&path, pages)?,
                false => tensors.add_safetensors(&path, pages)?,
            }
        }
        if tensors.places.is_empty() {
            return Err(tensors.unsupported("it has no weights in safetensors or GGUF".to_owned()));
        }
        Ok(tensors)
    }

    fn add_safetensors(&mut self, path: &Path, pages: Arc<Mmap>) -> Result<()> {
        let damaged =
            |reason: String| -> Error { ModelError::Damaged { path: path.to_owned(), reason }.into() };
        let parsed = SafeTensors::deserialize(&pages).map_err(|e| damaged(e.to_string()))?;
        let (file, start) = (self.files.len(), pages.as_ptr().addr());
        for (name, view) in parsed.iter() {
            let kind = match view.dtype() {
                Dtype::F32 => TensorType::F32,
                Dtype::F16 => TensorType::F16,
                Dtype::BF16 => TensorType::BF16,
                other => {
                    self.others.insert(name.to_owned(), format!("{other:?}"));
                    continue;
                }
            };
            let (&width, rows) = view.shape().split_last().unwrap_or((&1, &[]));
            let rows = rows.iter().product();
            let offset = view.data().as_ptr().addr() - start;
            self.places.insert(name.to_owned(), Place { file, kind, rows, width, offset });
            if self.places.len() > MAX_TENSORS {
                return Err(damaged("it has too many tensors".to_owned()));
            }
        }
        self.files.push((path.to_owned(), pages));
        Ok(())
    }

    fn add_gguf(&mut self, path: &Path, pages: Arc<Mmap>) -> Result<()> {
        let file = self.files.len();
        for (name, tensor) in Gguf::open(path)?.tensors() {
            let offset = usize::try_from(tensor.offset()).unwrap_or(usize::MAX);
            let bytes = tensor.rows * tensor.row_bytes;
            if offset.checked_add(bytes).is_none_or(|end| end > pages.len()) {
                let reason = format!("tensor \"{name}\" does not lie within the file");
                return Err(ModelError::Damaged { path: path.to_owned(), reason }.into());
            }
            let place = Place { file, kind: tensor.kind, rows: tensor.rows, width: tensor.width, offset };
            self.places.insert(name.to_owned(), place);
        }
        self.files.push((path.to_owned(), pages));
        Ok(())
    }

    /// From now on names are those of a GGUF file, as `rename` makes them from the network's.
    pub fn set_rename(&mut self, rename: fn(&str) -> Option<String>) {
        self.rename = Some(rename);
    }

    /// Whether there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether there is a tensor `name` that holds no floats.
    pub fn has_other(&self, name: &str) -> bool {
        self.others.contains_key(name)
    }

    /// Rows and width of the tensor `name`, if there is one.
    pub fn shape(&self, name: &str) -> Option<(usize, usize)> {
        self.find(name).map(|place| (place.rows, place.width))
    }

    /// The matrix `name` of `rows` rows of `width` floats.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is missing or has another shape.
    pub fn matrix(&self, name: &str, rows: usize, width: usize) -> Result<Weight> {
        let place = self.required(name)?;
        if (place.rows, place.width) != (rows, width) {
            return Err(self.other_shape(name, place, &format!("{rows} × {width}")));
        }
        Ok(self.weight(place))
    }

    /// The matrix `name` of rows of `width` floats, as many as there are, at least one.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn table(&self, name: &str, width: usize) -> Result<Weight> {
        let place = self.required(name)?;
        if place.rows == 0 || place.width != width {
            return Err(self.other_shape(name, place, &format!("any × {width}")));
        }
        Ok(self.weight(place))
    }

    /// The vector `name` of `length` floats.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        let place = self.required(name)?;
        if place.rows.checked_mul(place.width) != Some(length) {
            return Err(self.other_shape(name, place, &length.to_string()));
        }
        let mut out = vec![0.0; length];
        let weight = self.weight(place);
        for (i, row) in out.chunks_exact_mut(place.width.max(1)).enumerate() {
            widen(weight.kind(), weight.bytes(i, 1), row);
        }
        Ok(out)
    }

    /// As [`Tensors::vector`], or none when there is no such tensor.
    ///
    /// # Errors
    /// As [`Tensors::matrix`].
    pub fn optional_vector(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>> {
        if self.has(name) { self.vector(name, length).map(Some) } else { Ok(None) }
    }

    /// How the most values are stored: `F32`, `Q4_K`, ...
    pub fn quantization(&self) -> String {
        let mut values: HashMap<String, usize> = HashMap::new();
        for place in self.places.values() {
            *values.entry(format!("{:?}", place.kind)).or_default() += place.rows * place.width;
        }
        let most = values.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)));
        most.map_or_else(String::new, |(kind, _)| kind)
    }

    /// Bytes of the mapped files, which all processes share.
    pub fn memory(&self) -> usize {
        self.files.iter().map(|(_, pages)| pages.len()).sum()
    }

    /// An error about the model as a whole.
    pub fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { model: self.model.clone(), reason }
    }

    /// An error about the weights.
    pub fn damaged(&self, reason: String) -> Error {
        let path = self.files.first().map_or_else(PathBuf::new, |(path, _)| path.clone());
        ModelError::Damaged { path, reason }.into()
    }

    fn weight(&self, place: &Place) -> Weight {
        Weight::mapped(
            Arc::clone(&self.files[place.file].1),
            place.kind,
            place.rows,
            place.width,
            place.offset,
        )
    }

    fn required(&self, name: &str) -> Result<&Place> {
        self.find(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        match self.others.get(name) {
            Some(kind) => self.unsupported(format!("tensor \"{name}\" is of type {kind}")),
            None => self.damaged(format!("tensor \"{name}\" is missing")),
        }
    }

    fn find(&self, name: &str) -> Option<&Place> {
        match self.rename {
            Some(rename) => self.places.get(&rename(name)?),
            None => self.places.get(name).or_else(|| self.places.get(&old_name(name)?)),
        }
    }

    fn other_shape(&self, name: &str, place: &Place, want: &str) -> Error {
        let Place { rows, width, .. } = place;
        self.damaged(format!("tensor \"{name}\" has shape {rows} × {width}, not {want}"))
    }
}

/// The name that files converted from TensorFlow use.
fn old_name(name: &str) -> Option<String> {
    let (layer, last) = name.rsplit_once("LayerNorm.")?;
    Some(format!("{layer}LayerNorm.{}", if last == "weight" { "gamma" } else { "beta" }))
}

fn map(path: &Path) -> Result<Arc<Mmap>> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // SAFETY: files in the store are written once, in a folder that is renamed into place, and never changed.
    let pages = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Arc::new(pages))
}

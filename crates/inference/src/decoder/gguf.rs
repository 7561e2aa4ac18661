//! Reader of GGUF files, version 2 and 3 (specification: `docs/gguf.md` of the ggml project).
//!
//! The file is untrusted: every length is checked against what the file holds before anything is allocated.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Metadata longer than this is refused; the largest vocabularies need about 16 MiB.
const MAX_HEAD: u64 = 64 << 20;
/// How much of the file is read first to look for the metadata.
const FIRST_HEAD: u64 = 8 << 20;
/// The specification's limit.
const MAX_DIMENSIONS: u32 = 4;
/// More tensors than any model has.
const MAX_TENSORS: u64 = 1 << 16;

/// Bytes that can be read at an offset.
pub trait Source: Send + Sync {
    /// Length in bytes.
    fn length(&self) -> std::io::Result<u64>;
    /// Fills `buffer` from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()>;
}

impl Source for File {
    fn length(&self) -> std::io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Source for Vec<u8> {
    fn length(&self) -> std::io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs, non_camel_case_types)] // the names of the specification
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl TensorType {
    fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2_K,
            11 => Self::Q3_K,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// Values and bytes of one block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2_K => (256, 84),
            Self::Q3_K => (256, 110),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }
}

/// A matrix (or, with one row, a vector) in the file.
#[derive(Debug, Clone, Copy)]
pub struct Tensor {
    /// How its values are stored.
    pub kind: TensorType,
    /// Rows.
    pub rows: usize,
    /// Values of a row.
    pub width: usize,
    /// Bytes of a row.
    pub row_bytes: usize,
    offset: u64,
}

impl Tensor {
    /// Where its values begin in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

#[derive(Debug, Clone)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    /// Start and length in the head.
    Text(usize, usize),
    /// Type of the elements, their number, and where they start in the head.
    Array(u32, usize, usize),
}

/// A GGUF file whose metadata has been read.
pub struct Gguf {
    source: Box<dyn Source>,
    path: PathBuf,
    head: Vec<u8>,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, Tensor>,
}

/// Why parsing stopped.
enum Fault {
    /// More bytes are needed than were given.
    Short,
    Bad(String),
}

type Parsed<T> = std::result::Result<T, Fault>;

fn bad<T>(reason: impl Into<String>) -> Parsed<T> {
    Err(Fault::Bad(reason.into()))
}

impl Gguf {
    /// Opens the file `path` and reads its metadata.
    ///
    /// # Errors
    /// `Damaged` when it is not a whole GGUF file, `Io` when it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|source| pg_answer_models::Error::Io { path: path.to_owned(), source })?;
        Self::from_source(Box::new(file), path)
    }

    /// Reads the metadata of `source`; `path` is its name in errors.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_source(source: Box<dyn Source>, path: &Path) -> Result<Self> {
        let io = |source| pg_answer_models::Error::Io { path: path.to_owned(), source };
        let damaged = |reason: String| pg_answer_models::Error::Damaged { path: path.to_owned(), reason };
        let length = source.length().map_err(io)?;
        let mut size = FIRST_HEAD.min(length);
        loop {
            let mut head = vec![0; size as usize];
            source.read_at(&mut head, 0).map_err(io)?;
            match parse(&head, length) {
                Ok((metadata, tensors)) => {
                    return Ok(Self { source, path: path.to_owned(), head, metadata, tensors });
                }
                Err(Fault::Bad(reason)) => return Err(damaged(reason).into()),
                Err(Fault::Short) if size < length.min(MAX_HEAD) => {
                    size = (size * 2).min(length).min(MAX_HEAD);
                }
                Err(Fault::Short) if size == length => {
                    return Err(damaged("it ends within its metadata".to_owned()).into());
                }
                Err(Fault::Short) => return Err(damaged("its metadata is too long".to_owned()).into()),
            }
        }
    }

    /// The error for content that makes no sense.
    pub fn damaged(&self, reason: impl Into<String>) -> Error {
        pg_answer_models::Error::Damaged { path: self.path.clone(), reason: reason.into() }.into()
    }

    /// A whole number, if `key` is there and holds one.
    pub fn integer(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A number, if `key` is there and holds one.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            Value::Float(x) => Some(*x),
            Value::Unsigned(n) => Some(*n as f64),
            Value::Signed(n) => Some(*n as f64),
            _ => None,
        }
    }

    /// A flag, if `key` is there and holds one.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key)? {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A text, if `key` is there and holds valid UTF-8.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(start, length) => std::str::from_utf8(self.head.get(*start..start + length)?).ok(),
            _ => None,
        }
    }

    /// The texts of an array, if `key` is there and holds some; invalid UTF-8 is replaced.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        let Value::Array(TEXT, count, start) = *self.metadata.get(key)? else { return None };
        let mut cursor = Cursor { bytes: &self.head, at: start };
        (0..count)
            .map(|_| {
                let (start, length) = cursor.text().ok()?;
                Some(String::from_utf8_lossy(&self.head[start..start + length]).into_owned())
            })
            .collect()
    }

    /// The 32-bit floats of an array, if `key` is there and holds some.
    pub fn floats(&self, key: &str) -> Option<Vec<f32>> {
        let Value::Array(6, count, start) = *self.metadata.get(key)? else { return None };
        let mut cursor = Cursor { bytes: &self.head, at: start };
        (0..count).map(|_| cursor.u32().ok().map(f32::from_bits)).collect()
    }

    /// The bytes of an array, if `key` is there and holds some.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        let Value::Array(0 | 1, count, start) = *self.metadata.get(key)? else { return None };
        self.head.get(start..start.checked_add(count)?)
    }

    /// The 32-bit integers of an array, if `key` is there and holds some.
    pub fn integers(&self, key: &str) -> Option<Vec<u32>> {
        let Value::Array(4 | 5, count, start) = *self.metadata.get(key)? else { return None };
        let mut cursor = Cursor { bytes: &self.head, at: start };
        (0..count).map(|_| cursor.u32().ok()).collect()
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// `Damaged` when there is none.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| self.damaged(format!("it has no tensor \"{name}\"")))
    }

    /// All tensors with their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor))
    }

    /// The tensor `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).copied()
    }

    /// Fills `buffer` with the rows of `tensor` from row `first` on.
    ///
    /// # Errors
    /// `Io` when the file cannot be read, or has become shorter.
    pub fn read_rows(&self, tensor: &Tensor, first: usize, buffer: &mut [u8]) -> Result<()> {
        let offset = tensor.offset + (first * tensor.row_bytes) as u64;
        self.source
            .read_at(buffer, offset)
            .map_err(|source| pg_answer_models::Error::Io { path: self.path.clone(), source }.into())
    }
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64) -> Parsed<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| Fault::Short)?;
        let end = self.at.checked_add(length).ok_or(Fault::Short)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Fault::Short)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    fn u32(&mut self) -> Parsed<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Parsed<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Parsed<(usize, usize)> {
        let length = self.u64()?;
        let start = self.at;
        Ok((start, self.take(length)?.len()))
    }

    fn value(&mut self, kind: u32) -> Parsed<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            TEXT => {
                let (start, length) = self.text()?;
                Value::Text(start, length)
            }
            ARRAY => {
                let kind = self.u32()?;
                let count = self.u64()?;
                let start = self.at;
                match kind {
                    0 | 1 | 7 => self.take(count)?,
                    2 | 3 => self.take(count.checked_mul(2).ok_or(Fault::Short)?)?,
                    4..=6 => self.take(count.checked_mul(4).ok_or(Fault::Short)?)?,
                    10..=12 => self.take(count.checked_mul(8).ok_or(Fault::Short)?)?,
                    TEXT => {
                        for _ in 0..count {
                            self.text()?;
                        }
                        &[]
                    }
                    ARRAY => return bad("it has an array of arrays"),
                    _ => return bad(format!("unknown type {kind} of metadata")),
                };
                Value::Array(kind, count as usize, start)
            }
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return bad(format!("unknown type {kind} of metadata")),
        })
    }
}

type Head = (HashMap<String, Value>, HashMap<String, Tensor>);

/// Reads the metadata at the start of a file of `length` bytes.
fn parse(head: &[u8], length: u64) -> Parsed<Head> {
    let mut cursor = Cursor { bytes: head, at: 0 };
    if cursor.take(4)? != b"GGUF" {
        return bad("it is not a GGUF file");
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        return bad(format!("GGUF version {version} is not supported"));
    }
    let tensor_count = cursor.u64()?;
    let value_count = cursor.u64()?;
    if tensor_count > MAX_TENSORS {
        return bad(format!("it claims {tensor_count} tensors"));
    }
    let mut metadata = HashMap::new();
    for _ in 0..value_count {
        let (start, length) = cursor.text()?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind)?;
        metadata.insert(String::from_utf8_lossy(&head[start..start + length]).into_owned(), value);
    }
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        let (start, length) = cursor.text()?;
        let name = String::from_utf8_lossy(&head[start..start + length]).into_owned();
        let dimensions = cursor.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return bad(format!("tensor \"{name}\" has {dimensions} dimensions"));
        }
        let mut shape = [1_u64; MAX_DIMENSIONS as usize];
        for extent in shape.iter_mut().take(dimensions as usize) {
            *extent = cursor.u64()?;
        }
        let kind = cursor.u32()?;
        let offset = cursor.u64()?;
        tensors.push((name, shape, kind, offset));
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => *n,
        Some(_) => return bad("its alignment makes no sense"),
    };
    let data = (cursor.at as u64).next_multiple_of(alignment);
    let mut placed = HashMap::new();
    for (name, shape, kind, offset) in tensors {
        let Some(kind) = TensorType::from_id(kind) else {
            return bad(format!("tensor \"{name}\" has the unsupported type {kind}"));
        };
        match place(kind, shape, data, offset, length) {
            Some(tensor) => placed.insert(name, tensor),
            None => return bad(format!("tensor \"{name}\" does not lie within the file")),
        };
    }
    Ok((metadata, placed))
}

/// The tensor, if its shape makes sense and the file holds it.
fn place(kind: TensorType, shape: [u64; 4], data: u64, offset: u64, length: u64) -> Option<Tensor> {
    let (block_values, block_bytes) = kind.block();
    let width = usize::try_from(shape[0]).ok()?;
    let rows = usize::try_from(shape[1].checked_mul(shape[2])?.checked_mul(shape[3])?).ok()?;
    if width == 0 || rows == 0 || width % block_values != 0 {
        return None;
    }
    let row_bytes = (width / block_values).checked_mul(block_bytes)?;
    let bytes = (row_bytes as u64).checked_mul(rows as u64)?;
    let offset = data.checked_add(offset)?;
    (offset.checked_add(bytes)? <= length).then_some(Tensor { kind, rows, width, row_bytes, offset })
}

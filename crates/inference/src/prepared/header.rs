//! The first bytes of a prepared file, and the table of its sections.

use std::collections::HashSet;

use pg_answer_models::Digest;
use serde::{Deserialize, Serialize};

/// Sections begin at multiples of this: a page, so that the kernel maps and evicts them apart.
pub const ALIGNMENT: usize = 4096;
/// Version of the container; what is in the sections is versioned by the layout.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"pganswer";
/// Magic, version, length of the header, length of the file, SHA-256 of the header in hex.
const FIXED: usize = 8 + 4 + 4 + 8 + 64;
/// Headers of real models have some hundred kilobytes.
const MAX_HEADER: usize = 16 << 20;

/// What is in the file, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What the sections are, with a version.
    pub layout: String,
    /// See [`super::identity`].
    pub identity: String,
    /// Sizes and settings of the model; what they are is the layout's business.
    pub meta: serde_json::Value,
    /// SHA-256 of everything behind the header.
    pub content: String,
    /// In the order of their offsets.
    pub sections: Vec<Section>,
}

/// A run of bytes with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Unique in the file.
    pub name: String,
    /// From the begin of the content, a multiple of [`ALIGNMENT`].
    pub offset: usize,
    /// Length.
    pub bytes: usize,
}

impl Header {
    /// The bytes before the content, a multiple of [`ALIGNMENT`], for a file with `content` bytes of it.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn encode(&self, content: usize) -> Result<Vec<u8>, String> {
        let json = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        if json.len() > MAX_HEADER {
            return Err("the header is too long".to_owned());
        }
        let start = (FIXED + json.len()).next_multiple_of(ALIGNMENT);
        let mut out = Vec::with_capacity(start);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(json.len() as u32).to_le_bytes());
        out.extend_from_slice(&((start + content) as u64).to_le_bytes());
        out.extend_from_slice(hash(&json).as_bytes());
        out.extend_from_slice(&json);
        out.resize(start, 0);
        Ok(out)
    }

    /// The header of `file`, checked, and where the content begins.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn decode(file: &[u8]) -> Result<(Self, usize), String> {
        let fixed: &[u8; FIXED] = file.first_chunk().ok_or("it is too short for a prepared model")?;
        if &fixed[..8] != MAGIC {
            return Err("it is not a prepared model".to_owned());
        }
        let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        if number(8) != VERSION {
            return Err(format!("it is a prepared model of version {}, not {VERSION}", number(8)));
        }
        let length = number(12) as usize;
        let whole = u64::from(number(16)) | u64::from(number(20)) << 32;
        if whole != file.len() as u64 {
            return Err(format!("it has {} bytes instead of {whole}", file.len()));
        }
        let json = file.get(FIXED..FIXED + length).filter(|_| length <= MAX_HEADER);
        let json = json.ok_or("its header is cut")?;
        if hash(json).as_bytes() != &fixed[24..] {
            return Err("the SHA-256 of its header is wrong".to_owned());
        }
        let header: Self = serde_json::from_slice(json).map_err(|e| format!("its header: {e}"))?;
        let start = (FIXED + length).next_multiple_of(ALIGNMENT);
        let content = file.len().checked_sub(start).ok_or("its header is cut")?;
        let mut names = HashSet::new();
        for section in &header.sections {
            let end = section.offset.checked_add(section.bytes);
            if !section.offset.is_multiple_of(ALIGNMENT) || end.is_none_or(|end| end > content) {
                return Err(format!("its section \"{}\" lies outside of it", section.name));
            }
            if !names.insert(&section.name) {
                return Err(format!("it has two sections \"{}\"", section.name));
            }
        }
        Ok((header, start))
    }
}

/// SHA-256, lower-case hex.
pub fn hash(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.hex()
}

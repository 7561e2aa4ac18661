//! Reference data in `tests/fixtures`.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

/// Path of a file below `tests/fixtures`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The text of a file, unpacked if its name ends in `.gz`.
///
/// # Errors
/// When the file is missing or no text.
pub fn text(name: &str) -> Result<String> {
    let path = path(name);
    let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
    let mut text = String::new();
    let read = if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut text)
    } else {
        BufReader::new(file).read_to_string(&mut text)
    };
    read.with_context(|| path.display().to_string())?;
    Ok(text)
}

/// The objects of a file with one JSON object a line, packed or not.
///
/// # Errors
/// When the file is missing or a line is not what `T` wants.
pub fn json_lines<T: DeserializeOwned>(name: &str) -> Result<Vec<T>> {
    let path = path(name);
    let text = text(name)?;
    let lines = text.lines().enumerate();
    lines
        .map(|(i, line)| serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), i + 1)))
        .collect()
}

/// The rows of a two-dimensional array of little-endian float32 in NumPy's format 1.0.
///
/// # Errors
/// When the file is missing, or anything else than that.
pub fn npy_rows(name: &str, columns: usize) -> Result<Vec<Vec<f32>>> {
    let path = path(name);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    ensure!(bytes.starts_with(b"\x93NUMPY\x01\x00"), "{} is no NumPy 1.0 file", path.display());
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = bytes.get(10..header_end).context("cut header")?;
    let header = std::str::from_utf8(header)?;
    ensure!(
        header.contains("'<f4'") && header.contains("'fortran_order': False"),
        "unexpected header {header}"
    );
    ensure!(header.contains(&format!(", {columns})")), "rows have not {columns} columns: {header}");
    let (elements, []) = bytes[header_end..].as_chunks::<4>() else {
        anyhow::bail!("{} is cut", path.display());
    };
    let values: Vec<f32> = elements.iter().map(|e| f32::from_le_bytes(*e)).collect();
    ensure!(values.len().is_multiple_of(columns), "{} is cut", path.display());
    Ok(values.chunks(columns).map(<[f32]>::to_vec).collect())
}

//! Cards of made-up models.

use pg_answer_models::{Card, Digest, File, Kind};

/// SHA-256 in hex.
fn sha256(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.hex()
}

/// The card of an encoder that does not exist, with these files.
pub fn card(name: &str, files: &[(&str, &[u8])]) -> Card {
    Card {
        name: name.to_owned(),
        kind: Kind::Encoder,
        architecture: "bert".to_owned(),
        dims: Some(4),
        context_length: 8,
        quantization: "F32".to_owned(),
        license: "MIT".to_owned(),
        origin: None,
        description: String::new(),
        files: files
            .iter()
            .map(|(path, bytes)| File {
                path: (*path).to_owned(),
                bytes: bytes.len() as u64,
                sha256: sha256(bytes),
            })
            .collect(),
    }
}

//! `model.safetensors` of an encoder.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a temporary folder"));

fuzz_target!(|bytes: &[u8]| pg_answer_fuzz::load_encoder(FOLDER.path(), "model.safetensors", bytes));

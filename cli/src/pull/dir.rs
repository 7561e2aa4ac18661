//! A folder that holds the files already, for machines without a network.

use std::path::Path;

use pg_answer_models::{File, Staging};

use super::part::Part;
use crate::failure::{Failure, Result};
use crate::progress::Progress;

/// Copies `files` of the model `name` from `dir/name/` or `dir/`.
pub fn fetch(staging: &Staging, name: &str, dir: &Path, files: &[&File]) -> Result<()> {
    let own = dir.join(name);
    let dir = if own.is_dir() { own.as_path() } else { dir };
    let hint = || format!("{} must hold the files of {name} under the names of the catalogue", dir.display());
    for file in files {
        let path = dir.join(&file.path);
        let mut from = std::fs::File::open(&path).map_err(|e| {
            Failure::new(format!("{name}: could not read {}: {e}", path.display())).hint(hint())
        })?;
        let mut progress = Progress::new(format!("{name}: {}", file.path), file.bytes);
        let mut part = Part::resume(staging, file, 0, &mut progress)?;
        part.append(&mut from, &mut progress)
            .and_then(|()| part.finish(staging))
            .map_err(|failure| failure.of(&format!("{name}: {}", dir.display())))?;
        progress.done("copied, SHA-256 right");
    }
    Ok(())
}

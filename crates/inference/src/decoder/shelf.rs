//! Keys and values of beginnings that many prompts share, as files that all sessions read: who asks first reads a text
//! that never changes, such as instructions, and the others need not.
//!
//! A file is a SHA-256 of what follows, and keys and values as they lie in the [`Cache`](super::cache::Cache). Its name
//! tells everything that they depend on. It appears whole or not at all, and one that is cut, damaged or cannot be
//! read or written is as good as none.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pg_answer_models::Digest;

use super::isa::Isa;

/// Beginnings are cut to a multiple of as many tokens: the positions that lie together in the cache.
pub const STEP: usize = super::lanes::LANES;
/// Shorter beginnings are read sooner than a file is made.
const LEAST: usize = 2 * STEP;
/// Most bytes of a file.
const MOST_BYTES: usize = 32 << 20;
/// Most files; the oldest goes.
const MOST_FILES: usize = 16;
const PREFIX: &str = "pg_answer.";
const SUFFIX: &str = ".keys";
/// SHA-256 in hex.
const HASH: usize = 64;

/// Where the files lie, and of which model they are.
pub struct Shelf {
    folder: PathBuf,
    model: String,
}

impl Shelf {
    /// Files in `folder`, where others may lie, too, of the model that `identity` is told of.
    pub fn new(folder: &Path, identity: &str) -> Self {
        Self { folder: folder.to_owned(), model: identity.to_owned() }
    }

    /// How many of `fixed` tokens are worth a file, if each takes `bytes`.
    pub fn tokens(fixed: usize, bytes: usize) -> usize {
        let tokens = fixed / STEP * STEP;
        if tokens >= LEAST && tokens.saturating_mul(bytes) <= MOST_BYTES { tokens } else { 0 }
    }

    fn path(&self, ids: &[u32]) -> PathBuf {
        let mut digest = Digest::default();
        let version = env!("CARGO_PKG_VERSION");
        digest.update(format!("{version} {} {:?} {ids:?}", self.model, Isa::best()).as_bytes());
        self.folder.join(format!("{PREFIX}{}{SUFFIX}", digest.hex()))
    }

    /// What is kept of `ids`, `bytes` long.
    pub fn get(&self, ids: &[u32], bytes: usize) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(ids)).ok()?;
        if file.metadata().ok()?.len() != (HASH + bytes) as u64 {
            return None;
        }
        let mut all = Vec::with_capacity(HASH + bytes);
        file.read_to_end(&mut all).ok()?;
        let kept = all.split_off(HASH.min(all.len()));
        (kept.len() == bytes && all == hash(&kept).as_bytes()).then_some(kept)
    }

    /// Keeps `bytes` of `ids`; where that fails, nothing is kept.
    pub fn put(&self, ids: &[u32], bytes: &[u8]) {
        self.remove_oldest();
        let path = self.path(ids);
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let written = File::create(&part)
            .and_then(|mut file| {
                file.write_all(hash(bytes).as_bytes())?;
                file.write_all(bytes)
            })
            .and_then(|()| std::fs::rename(&part, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
    }

    /// Makes room for one more. Parts that nobody finished count like files.
    fn remove_oldest(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        let is_ours = |name: &str| {
            let rest = name.strip_prefix(PREFIX).and_then(|name| name.get(HASH..));
            rest.is_some_and(|rest| rest == SUFFIX || rest.ends_with(".part"))
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        for (_, path) in files.iter().take((files.len() + 1).saturating_sub(MOST_FILES)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn hash(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path(), "model");
        let bytes: Vec<u8> = (0..5000_u32).map(|i| (i % 251) as u8).collect();
        assert_eq!(shelf.get(&[1, 2], bytes.len()), None);
        shelf.put(&[1, 2], &bytes);
        assert_eq!(shelf.get(&[1, 2], bytes.len()).as_deref(), Some(&*bytes));
        assert_eq!(shelf.get(&[1, 2], bytes.len() - 1), None);
        assert_eq!(shelf.get(&[1, 3], bytes.len()), None);
        assert_eq!(Shelf::new(folder.path(), "other").get(&[1, 2], bytes.len()), None);

        let path = shelf.path(&[1, 2]);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, HASH, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(shelf.get(&[1, 2], bytes.len()), None, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(shelf.get(&[1, 2], bytes.len()), None);
        shelf.put(&[1, 2], &bytes);
        assert_eq!(shelf.get(&[1, 2], bytes.len()).as_deref(), Some(&*bytes));
    }

    #[test]
    fn there_are_only_so_many() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("pg_answer.1.stat");
        std::fs::write(&other, "not ours").unwrap();
        let shelf = Shelf::new(folder.path(), "model");
        for i in 0..3 * MOST_FILES as u32 {
            shelf.put(&[i], &[1, 2, 3]);
            assert!(shelf.get(&[i], 3).is_some());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), MOST_FILES + 1);
        assert!(other.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_keeps_nothing() {
        let shelf = Shelf::new(Path::new("/nonexistent/folder"), "model");
        shelf.put(&[1], &[1]);
        assert_eq!(shelf.get(&[1], 1), None);
    }
}

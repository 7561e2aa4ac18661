//! A file that grows: written, hashed on the way, and put in its place only when its content is right.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pg_answer_models::{Digest, File, Staging};

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// Bytes per write.
const BLOCK: usize = 1 << 20;

/// A file of a model that grows.
pub struct Part<'a> {
    file: &'a File,
    path: PathBuf,
    out: std::fs::File,
    digest: Digest,
    written: u64,
}

impl<'a> Part<'a> {
    /// Goes on with `file` after the `keep` bytes that an earlier run wrote; what follows them is cut off.
    /// Begins anew when there are not that many.
    pub fn resume(staging: &Staging, file: &'a File, keep: u64, progress: &mut Progress) -> Result<Self> {
        let path = staging.part(&file.path)?;
        let io = |e| Failure::io(&path, e);
        let mut out =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        let have = out.metadata().map_err(io)?.len();
        let keep = if keep <= have { keep } else { 0 };
        out.set_len(keep).map_err(io)?;
        let mut digest = Digest::default();
        progress.set(0);
        digest.update_from(&path, &mut |bytes| {
            progress.advance(bytes);
            interrupt::check()
        })?;
        out.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self { file, path, out, digest, written: keep })
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends all of `from`, but never more than the file is to have.
    pub fn append(&mut self, from: &mut dyn Read, progress: &mut Progress) -> Result<()> {
        let mut block = vec![0; BLOCK];
        loop {
            interrupt::check()?;
            let n = match from.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::new(format!("could not read: {e}"))),
            };
            if self.written + n as u64 > self.file.bytes {
                return self.reject(&format!("it is longer than {} bytes", self.file.bytes));
            }
            self.out.write_all(&block[..n]).map_err(|e| Failure::io(&self.path, e))?;
            self.digest.update(&block[..n]);
            self.written += n as u64;
            progress.set(self.written);
        }
        Ok(())
    }

    /// Makes sure that all bytes so far are on the disk.
    pub fn sync(&self) -> Result<()> {
        self.out.sync_data().map_err(|e| Failure::io(&self.path, e))
    }

    /// Puts the file in its place if its content is right. Otherwise nothing of it is kept.
    pub fn finish(self, staging: &Staging) -> Result<()> {
        if self.written != self.file.bytes {
            return self.reject(&format!("it has {} bytes instead of {}", self.written, self.file.bytes));
        }
        let found = self.digest.hex();
        if found != self.file.sha256 {
            return self.reject(&format!("its SHA-256 is {found} instead of {}", self.file.sha256));
        }
        let place = staging.file(&self.file.path)?;
        std::fs::rename(&self.path, &place).map_err(|e| Failure::io(&place, e))
    }

    fn reject<T>(&self, reason: &str) -> Result<T> {
        remove(&self.path)?;
        Err(Failure::new(format!("{} is not the file that was asked for: {reason}", self.file.path)))
    }
}

/// Removes the file `path` if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Failure::io(path, e)),
        _ => Ok(()),
    }
}

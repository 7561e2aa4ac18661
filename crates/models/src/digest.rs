//! SHA-256 of streams and files.

use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::Error;

/// Bytes per read: large enough to be fast, small enough for a smooth progress bar.
const BLOCK: usize = 1 << 20;

/// A SHA-256 in the making.
#[derive(Debug, Clone, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The SHA-256 of all bytes so far, lower-case hex.
    pub fn hex(&self) -> String {
        self.0.clone().finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Takes in the whole file and returns how many bytes it has. `step` learns the bytes of each block and may stop it.
    ///
    /// # Errors
    /// [`Error::Io`], or what `step` returns.
    pub fn update_from<E: From<Error>>(
        &mut self,
        path: &Path,
        step: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        let mut block = vec![0; BLOCK];
        let mut total = 0;
        loop {
            let n = match file.read(&mut block) {
                Ok(0) => return Ok(total),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io(path, e).into()),
            };
            self.update(&block[..n]);
            total += n as u64;
            step(n as u64)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_the_known_message() {
        let mut digest = Digest::default();
        digest.update(b"a");
        digest.update(b"bc");
        // FIPS 180-4, the example "abc".
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_file_hashes_as_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let (mut whole, mut streamed, mut seen) = (Digest::default(), Digest::default(), 0);
        whole.update(&bytes);
        let mut step = |n| {
            seen += n;
            Ok::<(), Error>(())
        };
        assert_eq!(streamed.update_from(file.path(), &mut step).unwrap(), bytes.len() as u64);
        assert_eq!(seen, bytes.len() as u64);
        assert_eq!(streamed.hex(), whole.hex());
    }
}

//! Building a prepared model, in memory or as a file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::MmapMut;
use pg_answer_models::{Error as ModelError, InstalledModel};

use super::header::{ALIGNMENT, Header, Section, hash};
use super::image::Image;
use crate::{Error, Result};

/// The server runs as another user than the one that prepares: it must be able to read.
const MODE: u32 = 0o644;

/// Where an image is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the memory of this process, for it alone.
    Memory,
    /// As the model's prepared file, for all processes; it appears whole or not at all.
    File,
}

/// Which sections an image will have.
#[derive(Debug)]
pub struct Plan {
    path: PathBuf,
    header: Header,
    /// Bytes of content so far.
    bytes: usize,
}

/// An image being filled. Sections begin as zeros.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    pages: MmapMut,
    header: Header,
    start: usize,
    sections: HashMap<String, Range<usize>>,
    /// The file that grows beside the one it will replace.
    file: Option<Unfinished>,
}

/// A file that goes away unless it is kept.
#[derive(Debug)]
struct Unfinished {
    file: File,
    path: PathBuf,
    keep: bool,
}

impl Plan {
    /// An image without sections for `model`; `meta` can hold whatever the layout wants to know of it.
    pub fn new(model: &InstalledModel, layout: &str, meta: serde_json::Value) -> Self {
        let header = Header {
            layout: layout.to_owned(),
            identity: super::identity(model),
            meta,
            // As long as the hash that will stand there.
            content: hash(&[]),
            sections: Vec::new(),
        };
        Self { path: super::path(model, layout), header, bytes: 0 }
    }

    /// Adds a section of `len` values.
    pub fn section<T: Pod>(&mut self, name: impl Into<String>, len: usize) {
        // A length that overflows is more than any memory: the allocation will say so.
        let bytes = len.saturating_mul(size_of::<T>());
        self.header.sections.push(Section { name: name.into(), offset: self.bytes, bytes });
        let end = self.bytes.saturating_add(bytes);
        self.bytes = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
    }

    /// Makes room for all sections.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be written; [`Error::Internal`] when memory is short.
    pub fn start(self, place: Place) -> Result<Draft> {
        let Self { path, header, bytes } = self;
        let (mut file, mut start) = (None, 0);
        let pages = match place {
            Place::Memory => MmapMut::map_anon(bytes.max(1))
                .map_err(|e| Error::Internal(format!("no memory for {bytes} bytes of weights: {e}")))?,
            Place::File => {
                start = header.encode(bytes).map_err(Error::Internal)?.len();
                let unfinished = Unfinished::create(&path)?;
                let io = |e| ModelError::io(&unfinished.path, e);
                let length = (start as u64).saturating_add(bytes as u64);
                // Room is reserved now: a full disk would otherwise be a SIGBUS while sections are filled.
                rustix::fs::fallocate(&unfinished.file, rustix::fs::FallocateFlags::empty(), 0, length)
                    .or_else(|e| match e {
                        rustix::io::Errno::OPNOTSUPP => write_zeros(&unfinished.file, length),
                        e => Err(e.into()),
                    })
                    .map_err(io)?;
                // SAFETY: nobody else knows the file, which was created for this map with a name of its own.
                let pages = unsafe { MmapMut::map_mut(&unfinished.file) }.map_err(io)?;
                file = Some(unfinished);
                pages
            }
        };
        let range = |s: &Section| start + s.offset..start + s.offset + s.bytes;
        let sections = header.sections.iter().map(|s| (s.name.clone(), range(s))).collect();
        Ok(Draft { path, pages, header, start, sections, file })
    }
}

impl Draft {
    /// The section `name`, to be filled.
    ///
    /// # Errors
    /// [`Error::Internal`] when the plan has no such section of such values.
    pub fn fill<T: Pod>(&mut self, name: &str) -> Result<&mut [T]> {
        let range = self.range(name)?;
        bytemuck::try_cast_slice_mut(&mut self.pages[range]).map_err(|e| not_planned(name, &e.to_string()))
    }

    /// Several sections at once, as bytes.
    ///
    /// # Errors
    /// [`Error::Internal`] when the plan has no such sections or a name stands twice.
    pub fn fill_together<const N: usize>(&mut self, names: [&str; N]) -> Result<[&mut [u8]; N]> {
        let mut ranges = [const { 0..0 }; N];
        for (range, name) in ranges.iter_mut().zip(names) {
            *range = self.range(name)?;
        }
        self.pages
            .get_disjoint_mut(ranges)
            .map_err(|e| not_planned(names.first().unwrap_or(&""), &e.to_string()))
    }

    fn range(&self, name: &str) -> Result<Range<usize>> {
        self.sections.get(name).cloned().ok_or_else(|| not_planned(name, "unknown"))
    }

    /// The filled image. A file gets its name now, in one step.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be written.
    pub fn finish(self) -> Result<Arc<Image>> {
        let Self { path, mut pages, mut header, start, file, .. } = self;
        let shared = file.is_some();
        if let Some(mut unfinished) = file {
            header.content = hash(&pages[start..]);
            let encoded = header.encode(pages.len() - start).map_err(Error::Internal)?;
            // Hashes are all of one length, so the header is as long as it was planned.
            pages[..start].copy_from_slice(&encoded);
            pages.flush().map_err(|e| ModelError::io(&unfinished.path, e))?;
            unfinished.keep(&path).map_err(|e| ModelError::io(&path, e))?;
        }
        let pages = pages.make_read_only().map_err(|e| ModelError::io(&path, e))?;
        Ok(Arc::new(Image::new(path, pages, header, start, shared)))
    }
}

impl Unfinished {
    /// A file beside `target`, on the same file system, named after the process.
    fn create(target: &Path) -> Result<Self> {
        let path = target.with_extension(format!("{}.part", std::process::id()));
        // One that is there was left by a process of the same number.
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|e| ModelError::io(&path, e))?;
        Ok(Self { file, path, keep: false })
    }

    fn keep(&mut self, target: &Path) -> std::io::Result<()> {
        self.file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        self.file.sync_all()?;
        std::fs::rename(&self.path, target)?;
        self.keep = true;
        target.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// For file systems that cannot reserve room.
fn write_zeros(file: &File, length: u64) -> std::io::Result<()> {
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), length), &mut &*file).map(drop)
}

fn not_planned(name: &str, reason: &str) -> Error {
    Error::Internal(format!("section \"{name}\" of a prepared model: {reason}"))
}

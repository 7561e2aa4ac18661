//! The header that all pages share, and numbers within pages.

use crate::error::corrupt;
use crate::store::{Block, NO_BLOCK, PAYLOAD};
use crate::{Error, Result};

/// Bytes before a page's own content: magic, kind, count, owner, next.
pub const HEADER: usize = 16;

/// Owner of the pages that belong to no list.
pub const NO_LIST: u32 = u32::MAX;

/// The last byte is the version of the format: 2 since entries are in the order of their keys.
const MAGIC: u32 = u32::from_le_bytes(*b"ann3");
/// The bytes of [`MAGIC`] before the version.
const ANY_VERSION: u32 = 0x00ff_ffff;

/// What a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first page of the index.
    Meta = 1,
    /// Centroids of lists.
    Directory = 2,
    /// Entries of a list.
    List = 3,
    /// Byte codes of the entries of a list.
    Codes = 4,
    /// Nothing: the page is free.
    Free = 5,
}

pub fn u16_at(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

pub fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

pub fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from(u32_at(page, at)) | u64::from(u32_at(page, at + 4)) << 32
}

/// The number of single precision whose upper half is at a place; the rest of it is 0.
pub fn half_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32::from(u16_at(bytes, at)) << 16)
}

pub fn f32_at(page: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(page, at))
}

pub fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A new page: zeros behind a header.
pub fn format(page: &mut [u8], kind: Kind, owner: u32) {
    page.fill(0);
    put(page, 0, &MAGIC.to_le_bytes());
    page[4] = kind as u8;
    put(page, 8, &owner.to_le_bytes());
    set_next(page, NO_BLOCK);
}

/// What a page is for; `None` if it is none of ours.
pub fn kind(page: &[u8]) -> Option<Kind> {
    let kinds = [Kind::Meta, Kind::Directory, Kind::List, Kind::Codes, Kind::Free];
    kinds.into_iter().find(|kind| u32_at(page, 0) == MAGIC && page[4] == *kind as u8)
}

/// Whether a page was added to the store, and nothing written to it: a crash or a full disk came between.
pub fn is_blank(page: &[u8]) -> bool {
    page.iter().all(|byte| *byte == 0)
}

/// Makes a page one that is free; what else is on it does not matter.
pub fn set_free(page: &mut [u8]) {
    page[4] = Kind::Free as u8;
}

/// Entries of the page.
pub fn count(page: &[u8]) -> usize {
    usize::from(u16_at(page, 6))
}

pub fn set_count(page: &mut [u8], count: usize) {
    put(page, 6, &(count as u16).to_le_bytes());
}

/// The list that the page belongs to.
pub fn owner(page: &[u8]) -> u32 {
    u32_at(page, 8)
}

/// The page that follows it.
pub fn next(page: &[u8]) -> Block {
    u32_at(page, 12)
}

pub fn set_next(page: &mut [u8], block: Block) {
    put(page, 12, &block.to_le_bytes());
}

/// Fails unless `page` is of this version and of a kind, and has at most `most` entries.
pub fn expect(page: &[u8], block: Block, kind: Kind, most: usize) -> Result<()> {
    if page.len() != PAYLOAD || u32_at(page, 0) != MAGIC {
        if page.len() == PAYLOAD && (u32_at(page, 0) ^ MAGIC) & ANY_VERSION == 0 {
            return Err(Error::Version { block });
        }
        return corrupt(block, "it is no page of an index of this kind");
    }
    if page[4] == Kind::Free as u8 {
        return Err(Error::Reused { block });
    }
    if page[4] != kind as u8 {
        return corrupt(block, format!("its kind is {}, not {}", page[4], kind as u8));
    }
    if count(page) > most {
        return corrupt(block, format!("it has {} entries, {most} is the most", count(page)));
    }
    Ok(())
}

/// As [`expect`], and the page belongs to `list`.
pub fn expect_owner(page: &[u8], block: Block, kind: Kind, most: usize, list: u32) -> Result<()> {
    let found = expect(page, block, kind, most);
    // What belongs to another list need not be of the same kind.
    match found {
        Ok(()) | Err(Error::Corrupt { .. }) if self::kind(page).is_some() && owner(page) != list => {
            Err(Error::Reused { block })
        }
        _ => found,
    }
}

/// Finds circles in a chain of pages, which only damage makes (Brent's algorithm).
pub struct Chain {
    steps: u64,
    remembered: Block,
}

impl Default for Chain {
    fn default() -> Self {
        Self { steps: 0, remembered: NO_BLOCK }
    }
}

impl Chain {
    /// Goes on to `block`.
    pub fn step(&mut self, block: Block) -> Result<()> {
        if block == self.remembered {
            return corrupt(block, "its chain of pages is a circle");
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.remembered = block;
        }
        Ok(())
    }
}

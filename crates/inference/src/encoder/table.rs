//! A hash table of words in a prepared image: all processes map it, and none builds one of its own.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::Result;
use crate::prepared::{Draft, Image, Plan, View};

const WORDS: &str = "tokenizer.words";
const SLOTS: &str = "tokenizer.slots";

/// A place of the table, which has open addressing. Length 0 means that it is free.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Slot {
    hash: u32,
    id: u32,
    /// Where the word lies in the section of words.
    start: u32,
    length: u32,
}

/// A table on its way into an image.
pub struct Table {
    words: Vec<u8>,
    slots: Vec<Slot>,
}

/// A table in an image.
pub struct Words {
    words: View<u8>,
    slots: View<Slot>,
}

impl Table {
    /// The words that are not empty, each once, and their ids; none when they are too long for a table.
    pub fn new(vocabulary: impl IntoIterator<Item = (String, u32)>) -> Option<Self> {
        let mut entries: Vec<(String, u32)> =
            vocabulary.into_iter().filter(|(word, _)| !word.is_empty()).collect();
        // An image is the same whenever it is made.
        entries.sort_by(|(a, i), (b, j)| (i, a).cmp(&(j, b)));
        let mut words = Vec::new();
        let mut slots = vec![Slot::zeroed(); (2 * entries.len().max(1)).next_power_of_two()];
        for (word, id) in entries {
            let hash = hash(EMPTY, word.as_bytes());
            let start = u32::try_from(words.len()).ok()?;
            words.extend_from_slice(word.as_bytes());
            let length = u32::try_from(word.len()).ok()?;
            let free = probes(hash, slots.len()).find(|&at| slots[at].length == 0)?;
            slots[free] = Slot { hash, id, start, length };
        }
        Some(Self { words, slots })
    }

    /// Adds its sections.
    pub fn plan(&self, plan: &mut Plan) {
        plan.section::<u8>(WORDS, self.words.len());
        plan.section::<Slot>(SLOTS, self.slots.len());
    }

    /// Fills its sections.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when they were not planned.
    pub fn fill(&self, draft: &mut Draft) -> Result<()> {
        draft.fill(WORDS)?.copy_from_slice(&self.words);
        draft.fill(SLOTS)?.copy_from_slice(&self.slots);
        Ok(())
    }
}

impl Words {
    /// The table in `image`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`] when it has none.
    pub fn open(image: &Arc<Image>) -> Result<Self> {
        let slots = image.view_all::<Slot>(SLOTS)?;
        if !slots.len().is_power_of_two() {
            return Err(image.damaged(format!("its vocabulary has {} slots", slots.len())));
        }
        Ok(Self { words: image.view_all(WORDS)?, slots })
    }

    /// The id of the word that is `first` and `second` together and has this hash.
    pub fn find(&self, first: &[u8], second: &[u8], hash: u32) -> Option<u32> {
        // Whatever a damaged table says, this ends, and reads inside of it.
        for at in probes(hash, self.slots.len()) {
            let slot = self.slots[at];
            if slot.length == 0 {
                return None;
            }
            if slot.hash == hash {
                let start = slot.start as usize;
                let word = self.words.get(start..start.saturating_add(slot.length as usize))?;
                if word.strip_prefix(first) == Some(second) {
                    return Some(slot.id);
                }
            }
        }
        None
    }
}

/// FNV-1a, a word in parts: the hash of a word's every beginning is known when that of the word is.
pub fn hash(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, &byte| (state ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The hash of nothing.
pub const EMPTY: u32 = 0x811c_9dc5;

/// The places of a hash in the order in which they are tried; `slots` is a power of two.
fn probes(hash: u32, slots: usize) -> impl Iterator<Item = usize> {
    // The low bits of FNV depend on few bits of a word.
    let mixed = (hash ^ hash >> 15).wrapping_mul(0x2c1b_3c6d);
    let first = (mixed ^ mixed >> 13) as usize;
    (0..slots).map(move |probe| (first + probe) & (slots - 1))
}

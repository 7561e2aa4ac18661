//! What a decoder has read: the tokens, and their keys and values.

use super::cache::Cache;
use super::head::Wanted;
use super::oracle::Oracle;
use super::qwen2::{CHUNK, Purpose, Qwen2, Scratch};
use super::shelf::Shelf;
use crate::{Check, Error, Pool, Result};

/// Tokens that have been read, and what the model keeps of them.
pub struct Context {
    ids: Vec<u32>,
    cache: Cache,
    scratch: Scratch,
    /// Reads in place of the model's own kernels.
    oracle: Option<Oracle>,
    shelf: Option<Shelf>,
}

impl Context {
    /// Nothing read yet.
    pub fn new(model: &Qwen2, oracle: Option<Oracle>) -> Self {
        Self { ids: Vec::new(), cache: model.cache(), scratch: Scratch::default(), oracle, shelf: None }
    }

    /// Beginnings of prompts are kept on `shelf`.
    pub fn share_beginnings(&mut self, shelf: Shelf) {
        self.shelf = Some(shelf);
    }

    /// Forgets all but the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.ids.truncate(length);
    }

    /// Bytes of the keys and values.
    pub fn memory(&self) -> usize {
        self.cache.memory()
    }

    /// Makes room for `positions` tokens in at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Memory`] when they need more, before anything is allocated; `Internal` when the system has no more.
    pub fn reserve(&mut self, positions: usize, limit: usize) -> Result<()> {
        let needed = self.cache.bytes_for(positions);
        if needed > limit {
            return Err(Error::Memory { tokens: positions, needed, limit });
        }
        self.cache.reserve(positions)
    }

    /// Makes `ids` all that has been read, keeping the beginning that is the same; gives the `wanted` logits, of few enough
    /// tokens to be read at once, and how many tokens need not be read again. The first `fixed` tokens
    /// may be kept for other sessions.
    ///
    /// # Errors
    /// `InvalidInput` when there are fewer tokens; as [`Context::extend`].
    pub fn read(
        &mut self,
        model: &Qwen2,
        ids: &[u32],
        fixed: usize,
        wanted: Wanted,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<(&[f32], usize)> {
        let Some(before) = ids.len().checked_sub(wanted.tokens) else {
            return Err(Error::InvalidInput("the prompt is empty".to_owned()));
        };
        // The last tokens are read in any case: their logits are not kept.
        let same = self.ids.iter().zip(&ids[..before]).take_while(|(a, b)| a == b).count();
        self.truncate(same);
        let fixed = Shelf::tokens(fixed.min(before), self.cache.bytes_of(1));
        let known = if fixed > same { self.begin(model, &ids[..fixed], pool, check)? } else { same };
        if (ids.len() - self.ids.len() - 1) % CHUNK + 1 < wanted.tokens {
            self.forward(model, &ids[self.ids.len()..before], Wanted::all(0), Purpose::Read, pool, check)?;
        }
        self.forward(model, &ids[self.ids.len()..], wanted, Purpose::Read, pool, check)?;
        Ok((&self.scratch.logits, known))
    }

    /// Makes `ids`, a whole number of steps, all that has been read; tells how many of them had been read before, in this session or another.
    fn begin(&mut self, model: &Qwen2, ids: &[u32], pool: &Pool, check: Check<'_>) -> Result<usize> {
        let Self { shelf: Some(shelf), oracle: None, cache, .. } = self else { return Ok(self.ids.len()) };
        if let Some(kept) = shelf.get(ids, cache.bytes_of(ids.len())) {
            cache.restore(ids.len(), &kept)?;
            self.ids.clear();
            self.ids.extend_from_slice(ids);
            return Ok(ids.len());
        }
        // All of it, since what was written has other keys than what is read.
        self.truncate(0);
        self.forward(model, ids, Wanted::all(0), Purpose::Read, pool, check)?;
        if let Some(shelf) = &self.shelf {
            shelf.put(ids, &self.cache.save(ids.len()));
        }
        Ok(0)
    }

    /// Adds `ids` that were just written, or may be, to what was read before; gives the `wanted` logits, of
    /// few enough tokens to be read at once. When it fails, what was read whole remains.
    ///
    /// # Errors
    /// As [`Qwen2::forward`].
    pub fn extend(
        &mut self,
        model: &Qwen2,
        ids: &[u32],
        wanted: Wanted,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<&[f32]> {
        self.forward(model, ids, wanted, Purpose::Write, pool, check)?;
        Ok(&self.scratch.logits)
    }

    /// The logits of the token `i` of those that were wanted, after `mask` has taken out what may not come: once for each
    /// token, and by nothing else where not all logits were wanted.
    ///
    /// # Errors
    /// As [`Qwen2::settle`].
    pub fn settle(
        &mut self,
        model: &Qwen2,
        i: usize,
        pool: &Pool,
        mask: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<&[f32]> {
        model.settle(&mut self.scratch, i, pool, mask)
    }

    fn forward(
        &mut self,
        model: &Qwen2,
        ids: &[u32],
        wanted: Wanted,
        purpose: Purpose,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<()> {
        let last = ids.len().saturating_sub(1) / CHUNK;
        for (i, chunk) in ids.chunks(CHUNK).enumerate() {
            let tokens = if i == last { wanted.tokens.min(chunk.len()) } else { 0 };
            let wanted = Wanted { tokens, ..wanted };
            let (position, Self { cache, scratch, oracle, .. }) = (self.ids.len(), &mut *self);
            match oracle {
                Some(oracle) => oracle.forward(chunk, position, tokens, &mut scratch.logits, pool, check)?,
                None => model.forward((cache, scratch), (chunk, purpose), position, wanted, pool, check)?,
            }
            self.ids.extend_from_slice(chunk);
        }
        Ok(())
    }
}

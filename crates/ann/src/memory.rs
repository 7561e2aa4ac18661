//! Pages in memory, for tests: counts commits and can fail at any of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::store::{Block, Change, PAYLOAD, PageStore};
use crate::{Error, Result};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    pages: RefCell<Vec<Vec<u8>>>,
    locked: RefCell<Vec<Block>>,
    commits_left: Cell<Option<usize>>,
    freed: RefCell<BTreeSet<Block>>,
    time: Cell<u64>,
    /// Begin of the search that began first of those that run.
    reading_since: Cell<Option<u64>>,
}

impl MemoryStore {
    /// Lets `n` more changes happen; then every change fails. `None`: all succeed.
    pub fn fail_after(&self, n: Option<usize>) {
        self.commits_left.set(n);
    }

    /// Says that somebody begins to read now, or that nobody reads any more.
    pub fn set_reading(&self, reading: bool) {
        self.time.set(self.time.get() + 1);
        self.reading_since.set(reading.then_some(self.time.get()));
    }

    /// Changes a page behind the index's back.
    pub fn damage(&self, block: Block, hit: impl FnOnce(&mut [u8])) {
        hit(&mut self.pages.borrow_mut()[block as usize]);
    }
}

impl PageStore for MemoryStore {
    type Change<'a> = MemoryChange<'a>;

    fn read<R>(&self, block: Block, look: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        let pages = self.pages.borrow();
        let page = pages.get(block as usize);
        look(page.ok_or_else(|| Error::Store(format!("no page {block}")))?)
    }

    fn change(&self) -> MemoryChange<'_> {
        MemoryChange { store: self, pages: Vec::new() }
    }

    fn append(&self, page: &[u8]) -> Result<Block> {
        let mut pages = self.pages.borrow_mut();
        if let Some(block) = self.freed.borrow_mut().pop_last() {
            pages[block as usize].copy_from_slice(page);
            return Ok(block);
        }
        pages.push(page.to_vec());
        Ok(pages.len() as Block - 1)
    }

    fn len(&self) -> Block {
        self.pages.borrow().len() as Block
    }

    fn free(&self, block: Block) {
        self.freed.borrow_mut().insert(block);
    }

    fn count_free(&self) -> u64 {
        self.freed.borrow().len() as u64
    }

    fn now(&self) -> u64 {
        self.time.set(self.time.get() + 1);
        self.time.get()
    }

    fn is_over(&self, time: u64) -> bool {
        self.reading_since.get().is_none_or(|since| since > time)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A change of a [`MemoryStore`].
pub struct MemoryChange<'a> {
    store: &'a MemoryStore,
    pages: Vec<(Block, Vec<u8>)>,
}

impl Change for MemoryChange<'_> {
    fn lock(&mut self, block: Block) -> Result<usize> {
        let page = self.store.read(block, |page| Ok(page.to_vec()))?;
        assert!(!self.store.locked.borrow().contains(&block), "page {block} is locked already");
        assert!(self.pages.len() < Self::MOST, "too many pages in one change");
        self.store.locked.borrow_mut().push(block);
        self.pages.push((block, page));
        Ok(self.pages.len() - 1)
    }

    fn add(&mut self) -> Result<(usize, Block)> {
        let block = self.store.append(&[0; PAYLOAD])?;
        Ok((self.lock(block)?, block))
    }

    fn page(&self, place: usize) -> &[u8] {
        &self.pages[place].1
    }

    fn page_mut(&mut self, place: usize) -> &mut [u8] {
        &mut self.pages[place].1
    }

    fn commit(mut self) -> Result<()> {
        match self.store.commits_left.get() {
            Some(0) => return Err(Error::Store("no more changes".to_owned())),
            Some(n) => self.store.commits_left.set(Some(n - 1)),
            None => {}
        }
        let mut pages = self.store.pages.borrow_mut();
        for (block, page) in &mut self.pages {
            pages[*block as usize] = std::mem::take(page);
        }
        Ok(())
    }
}

impl Drop for MemoryChange<'_> {
    fn drop(&mut self) {
        let mut locked = self.store.locked.borrow_mut();
        locked.retain(|block| self.pages.iter().all(|(mine, _)| mine != block));
    }
}

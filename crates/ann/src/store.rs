//! Where pages lie: PostgreSQL's buffers, or memory in tests.

use crate::Result;

/// Number of a page.
pub type Block = u32;

/// No page.
pub const NO_BLOCK: Block = Block::MAX;

/// Bytes of a page that are ours: PostgreSQL's 8 KB without its own header of 24 bytes.
pub const PAYLOAD: usize = 8168;

/// Pages of [`PAYLOAD`] bytes. Readers see each page as it was before or after a change, never in between.
pub trait PageStore {
    /// A change under way.
    type Change<'a>: Change
    where
        Self: 'a;

    /// Shows a page to `look`, which must be quick: writers of the page wait.
    ///
    /// # Errors
    /// When there is no such page, and those of `look`.
    fn read<R>(&self, block: Block, look: impl FnOnce(&[u8]) -> Result<R>) -> Result<R>;

    /// Asks that some bytes of a page be brought into the processor's caches, for a read soon.
    fn prefetch(&self, _block: Block, _places: &[usize]) {}

    /// Begins a change.
    fn change(&self) -> Self::Change<'_>;

    /// Number of pages.
    fn len(&self) -> Block;

    /// Whether there is no page.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a page that nobody else sees yet.
    ///
    /// # Errors
    /// When the store is full.
    fn append(&self, page: &[u8]) -> Result<Block>;

    /// Remembers that a page is free, to be used again.
    fn free(&self, block: Block);

    /// Number of pages that are remembered as free.
    fn count_free(&self) -> u64;

    /// A time that what is read from now on is not before; never 0.
    fn now(&self) -> u64;

    /// Whether everybody has ended who may have begun to read at this time or before.
    fn is_over(&self, time: u64) -> bool;

    /// Called in every loop: lets a cancel through.
    ///
    /// # Errors
    /// When the work must stop.
    fn check(&self) -> Result<()>;
}

/// Pages locked and changed together: after a crash all of the change is there, or none. Dropping it undoes it.
pub trait Change {
    /// Most pages of one change.
    const MOST: usize = 4;

    /// Locks a page until the end of the change and returns its place in it. Everybody locks in the order: a list's
    /// first page, its other pages from first to last, a page of codes, the index's first page, pages of the directory in
    /// their order.
    ///
    /// # Errors
    /// When there is no such page.
    fn lock(&mut self, block: Block) -> Result<usize>;

    /// Adds a page of zeros, one that was freed or a new one: its place in the change and its number.
    ///
    /// # Errors
    /// When the store is full.
    fn add(&mut self) -> Result<(usize, Block)>;

    /// The page as it is in the change.
    fn page(&self, place: usize) -> &[u8];

    /// The page, to be changed.
    fn page_mut(&mut self, place: usize) -> &mut [u8];

    /// Makes the change last, and unlocks.
    ///
    /// # Errors
    /// When the store fails; then nothing has changed.
    fn commit(self) -> Result<()>;
}

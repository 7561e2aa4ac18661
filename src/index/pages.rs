//! Pages of the index: PostgreSQL's buffers, changed under generic WAL.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pg_answer_ann::store::{Block, Change, NO_BLOCK, PAYLOAD, PageStore};
use pg_answer_ann::sweep::is_free;
use pg_answer_ann::{Error, Result};
use pgrx::pg_sys::{self, Buffer, ForkNumber, Oid, Page, Relation};

const PAGE: usize = pg_sys::BLCKSZ as usize;
/// Where our bytes begin: behind PostgreSQL's page header.
const START: usize = PAGE - PAYLOAD;
const _: () = assert!(PAGE == 8192, "pg_answer_ann lays out pages of 8 KB");

/// Indexes whose buffers are remembered; with more, all are forgotten.
const MOST: usize = 64;

/// For each page the buffer that it was in when this session read it last, or 0. A search reads hundreds of pages, and
/// to look here is cheaper than in the table of all buffers. PostgreSQL checks that the page is still there.
type Recent = Rc<RefCell<Vec<Buffer>>>;

thread_local! {
    static RECENT: RefCell<HashMap<Oid, Recent>> = RefCell::default();
}

/// The pages of one fork of an open index.
#[derive(Clone)]
pub struct Pages {
    index: Relation,
    fork: ForkNumber::Type,
    recent: Recent,
    /// Whether to rest between pages as vacuum_cost_delay says.
    vacuum: bool,
}

impl Pages {
    /// The main fork.
    ///
    /// # Safety
    /// The index stays open and locked while the pages are used.
    pub unsafe fn new(index: Relation) -> Self {
        // SAFETY: the caller vouches for the index.
        let oid = unsafe { (*index).rd_id };
        let recent = RECENT.with_borrow_mut(|recent| {
            if recent.len() >= MOST && !recent.contains_key(&oid) {
                recent.clear();
            }
            recent.entry(oid).or_default().clone()
        });
        Self { index, fork: ForkNumber::MAIN_FORKNUM, recent, vacuum: false }
    }

    /// The fork that an unlogged index begins from after a crash.
    ///
    /// # Safety
    /// As [`Self::new`].
    pub unsafe fn init_fork(index: Relation) -> Self {
        Self { index, fork: ForkNumber::INIT_FORKNUM, recent: Recent::default(), vacuum: false }
    }

    /// The main fork, for VACUUM.
    ///
    /// # Safety
    /// As [`Self::new`].
    pub unsafe fn for_vacuum(index: Relation) -> Self {
        // SAFETY: the caller vouches for the index.
        Self { vacuum: true, ..unsafe { Self::new(index) } }
    }

    /// Writes all pages to the WAL: a build does not log them one by one.
    pub fn log_all(&self) {
        // SAFETY: as above; nobody else sees the index yet.
        unsafe {
            let logged = (*(*self.index).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
            let wal = pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32;
            if logged && wal || self.fork == ForkNumber::INIT_FORKNUM {
                pg_sys::log_newpage_range(self.index, self.fork, 0, self.len(), true);
            }
        }
    }

    /// Reads and locks a page. Number [`NO_BLOCK`] means a new one to PostgreSQL.
    fn locked(&self, block: Block, mode: u32) -> Buffer {
        let buffer = self.recent(block).unwrap_or_else(|| self.read_buffer(block));
        // SAFETY: the buffer is pinned.
        unsafe { pg_sys::LockBuffer(buffer, mode as i32) };
        buffer
    }

    /// The buffer of a page, pinned.
    fn read_buffer(&self, block: Block) -> Buffer {
        let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
        // SAFETY: `new` vouches for the relation; a page that is not there is an ERROR.
        let buffer =
            unsafe { pg_sys::ReadBufferExtended(self.index, self.fork, block, normal, std::ptr::null_mut()) };
        if block != NO_BLOCK {
            let mut recent = self.recent.borrow_mut();
            if recent.len() <= block as usize {
                recent.resize(block as usize + 1, 0);
            }
            recent[block as usize] = buffer;
        }
        buffer
    }

    /// The buffer of a page, pinned, if the page still is where it was.
    fn recent(&self, block: Block) -> Option<Buffer> {
        let buffer = self.hint(block)?;
        // SAFETY: `new` vouches for the relation; the number is that of a buffer of this server.
        unsafe {
            #[cfg(feature = "pg15")]
            let file = (*self.index).rd_node;
            #[cfg(not(feature = "pg15"))]
            let file = (*self.index).rd_locator;
            pg_sys::ReadRecentBuffer(file, self.fork, block, buffer).then_some(buffer)
        }
    }

    /// The shared buffer where a page was.
    fn hint(&self, block: Block) -> Option<Buffer> {
        // Buffers of temporary tables have negative numbers.
        self.recent.borrow().get(block as usize).copied().filter(|buffer| *buffer > 0)
    }

    /// A page that is free, locked for writing. The map of free space is not logged, and may name others after a crash.
    fn take_free(&self) -> Option<Buffer> {
        // SAFETY: `new` vouches for the relation; the buffer is pinned, and locked while it is looked at. Its lock is not
        // waited for, since others are held.
        unsafe {
            loop {
                let block = pg_sys::GetFreeIndexPage(self.index);
                if block == NO_BLOCK {
                    return None;
                }
                let buffer = self.recent(block).unwrap_or_else(|| self.read_buffer(block));
                if pg_sys::ConditionalLockBuffer(buffer) {
                    if is_free(payload(pg_sys::BufferGetPage(buffer))) {
                        return Some(buffer);
                    }
                    pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
                }
                pg_sys::ReleaseBuffer(buffer);
            }
        }
    }

    /// A new page, locked for writing.
    fn extend(&self) -> Buffer {
        // SAFETY: the relation is open; the lock is what extending an index needs.
        unsafe {
            pg_sys::LockRelationForExtension(self.index, pg_sys::ExclusiveLock as i32);
            let buffer = self.locked(NO_BLOCK, pg_sys::BUFFER_LOCK_EXCLUSIVE);
            pg_sys::UnlockRelationForExtension(self.index, pg_sys::ExclusiveLock as i32);
            buffer
        }
    }

    fn existing(&self, block: Block, mode: u32) -> Result<Buffer> {
        match block {
            NO_BLOCK => Err(Error::Corrupt { block, what: "a page leads nowhere".to_owned() }),
            _ => Ok(self.locked(block, mode)),
        }
    }
}

/// The bytes of a page that are ours.
///
/// # Safety
/// The page stays locked during `'a`.
unsafe fn payload<'a>(page: Page) -> &'a [u8] {
    // SAFETY: a page has 8 KB.
    unsafe { std::slice::from_raw_parts(page.cast::<u8>().add(START), PAYLOAD) }
}

/// Makes an empty page without the hole that generic WAL would leave out.
///
/// # Safety
/// The page is locked for writing.
unsafe fn init(page: Page) {
    // SAFETY: a page has 8 KB and begins with its header.
    unsafe {
        pg_sys::PageInit(page, PAGE, 0);
        let header = page.cast::<pg_sys::PageHeaderData>();
        (*header).pd_lower = PAGE as u16;
        (*header).pd_upper = PAGE as u16;
    }
}

impl PageStore for Pages {
    type Change<'a> = BufferChange;

    fn read<R>(&self, block: Block, look: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
        let buffer = self.existing(block, pg_sys::BUFFER_LOCK_SHARE)?;
        // SAFETY: the buffer is locked until the end of the block. Should `look` panic, the transaction's end
        // releases it.
        unsafe {
            let result = look(payload(pg_sys::BufferGetPage(buffer)));
            pg_sys::UnlockReleaseBuffer(buffer);
            result
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn prefetch(&self, block: Block, places: &[usize]) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        if let Some(buffer) = self.hint(block) {
            // SAFETY: the number is that of a buffer; to prefetch from any address is harmless.
            unsafe {
                // To pin and to lock the page is to write its descriptor.
                let descriptor = pg_sys::BufferDescriptors.wrapping_add(buffer as usize - 1);
                _mm_prefetch::<_MM_HINT_T0>(descriptor.cast());
                let page = pg_sys::BufferGetPage(buffer).cast::<i8>();
                for place in places {
                    _mm_prefetch::<_MM_HINT_T0>(page.wrapping_add(START + place));
                }
            }
        }
    }

    fn change(&self) -> BufferChange {
        BufferChange { pages: self.clone(), xlog: std::ptr::null_mut(), locked: Vec::new() }
    }

    fn len(&self) -> Block {
        // SAFETY: `new` vouches for the relation.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.index, self.fork) }
    }

    fn append(&self, bytes: &[u8]) -> Result<Block> {
        if self.vacuum {
            // Others extend the index meanwhile, and there is no end of a build that writes all pages to the WAL.
            let mut change = self.change();
            let (place, block) = change.add()?;
            change.page_mut(place).copy_from_slice(bytes);
            change.commit()?;
            return Ok(block);
        }
        let buffer = self.locked(NO_BLOCK, pg_sys::BUFFER_LOCK_EXCLUSIVE);
        // SAFETY: the buffer is new, pinned and locked; `bytes` has the length that a page has room for.
        unsafe {
            let page = pg_sys::BufferGetPage(buffer);
            init(page);
            let room = std::slice::from_raw_parts_mut(page.cast::<u8>().add(START), PAYLOAD);
            room.copy_from_slice(bytes);
            pg_sys::MarkBufferDirty(buffer);
            let block = pg_sys::BufferGetBlockNumber(buffer);
            pg_sys::UnlockReleaseBuffer(buffer);
            Ok(block)
        }
    }

    fn free(&self, block: Block) {
        // SAFETY: `new` vouches for the relation.
        unsafe { pg_sys::RecordFreeIndexPage(self.index, block) }
    }

    fn count_free(&self) -> u64 {
        // SAFETY: `new` vouches for the relation.
        let is_free = |block: &Block| unsafe { pg_sys::GetRecordedFreeSpace(self.index, *block) > PAGE / 2 };
        (0..self.len()).filter(is_free).count() as u64
    }

    /// The next transaction's number: who begins to read now has a snapshot that keeps it from being over.
    fn now(&self) -> u64 {
        // SAFETY: a plain call.
        unsafe { pg_sys::ReadNextFullTransactionId().value }
    }

    fn is_over(&self, time: u64) -> bool {
        // SAFETY: a plain call; without a table it looks at the snapshots of all databases.
        unsafe {
            let time = pg_sys::FullTransactionId { value: time };
            pg_sys::GlobalVisCheckRemovableFullXid(std::ptr::null_mut(), time)
        }
    }

    fn check(&self) -> Result<()> {
        if self.vacuum {
            // SAFETY: a plain call, which lets interrupts through; this is called without a lock on a page.
            unsafe {
                #[cfg(not(feature = "pg18"))]
                pg_sys::vacuum_delay_point();
                #[cfg(feature = "pg18")]
                pg_sys::vacuum_delay_point(false);
            }
        } else {
            pgrx::check_for_interrupts!();
        }
        Ok(())
    }
}

/// Locked buffers, changed together by one WAL record.
pub struct BufferChange {
    pages: Pages,
    xlog: *mut pg_sys::GenericXLogState,
    /// The buffers, and once they are to be changed, the copies that generic WAL works on.
    locked: Vec<(Buffer, Page)>,
}

impl BufferChange {
    fn register(&mut self, place: usize, flags: u32) -> Page {
        // SAFETY: the buffer is locked for writing.
        unsafe {
            if self.xlog.is_null() {
                self.xlog = pg_sys::GenericXLogStart(self.pages.index);
            }
            let (buffer, image) = &mut self.locked[place];
            if image.is_null() {
                // Replay takes a page that was never written for a lost one, unless all of it is there.
                let is_blank =
                    (*pg_sys::BufferGetPage(*buffer).cast::<pg_sys::PageHeaderData>()).pd_upper == 0;
                let flags = flags | if is_blank { pg_sys::GENERIC_XLOG_FULL_IMAGE } else { 0 };
                *image = pg_sys::GenericXLogRegisterBuffer(self.xlog, *buffer, flags as i32);
                if is_blank {
                    init(*image);
                }
            }
            *image
        }
    }

    fn release(&mut self) {
        for (buffer, _) in self.locked.drain(..) {
            // SAFETY: pinned and locked by this change.
            unsafe { pg_sys::UnlockReleaseBuffer(buffer) };
        }
    }
}

impl Change for BufferChange {
    fn lock(&mut self, block: Block) -> Result<usize> {
        let buffer = self.pages.existing(block, pg_sys::BUFFER_LOCK_EXCLUSIVE)?;
        self.locked.push((buffer, std::ptr::null_mut()));
        Ok(self.locked.len() - 1)
    }

    fn add(&mut self) -> Result<(usize, Block)> {
        let buffer = self.pages.take_free().unwrap_or_else(|| self.pages.extend());
        self.locked.push((buffer, std::ptr::null_mut()));
        // SAFETY: the buffer is pinned.
        let block = unsafe { pg_sys::BufferGetBlockNumber(buffer) };
        let place = self.locked.len() - 1;
        let page = self.register(place, pg_sys::GENERIC_XLOG_FULL_IMAGE);
        // SAFETY: the image belongs to this change.
        unsafe { init(page) };
        Ok((place, block))
    }

    fn page(&self, place: usize) -> &[u8] {
        let (buffer, image) = self.locked[place];
        // SAFETY: the buffer is locked until the change ends, and so is its image valid.
        unsafe { payload(if image.is_null() { pg_sys::BufferGetPage(buffer) } else { image }) }
    }

    fn page_mut(&mut self, place: usize) -> &mut [u8] {
        let page = self.register(place, 0);
        // SAFETY: the image has 8 KB and belongs to this change.
        unsafe { std::slice::from_raw_parts_mut(page.cast::<u8>().add(START), PAYLOAD) }
    }

    fn commit(mut self) -> Result<()> {
        if !self.xlog.is_null() {
            // SAFETY: started by this change, all its buffers are locked.
            unsafe { pg_sys::GenericXLogFinish(self.xlog) };
            self.xlog = std::ptr::null_mut();
        }
        self.release();
        Ok(())
    }
}

impl Drop for BufferChange {
    fn drop(&mut self) {
        // After an ERROR the server has reset its counts of locks, and the transaction's end releases them.
        if std::thread::panicking() {
            return;
        }
        if !self.xlog.is_null() {
            // SAFETY: started by this change and not finished.
            unsafe { pg_sys::GenericXLogAbort(self.xlog) };
        }
        self.release();
    }
}

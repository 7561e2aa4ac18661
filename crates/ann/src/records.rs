//! Pages of byte codes, one for each row, which stays where it is for as long as the row is in the index.
//!
//! Pages that have room are a chain, which begins at the index's first page. A slot is free if its code has no error: the
//! page's later slots, and those of rows that a removal found dead.

use crate::code::{self, Record};
use crate::error::corrupt;
use crate::list::Layout;
use crate::meta::{META, Meta};
use crate::page::{self, Chain, HEADER, Kind};
use crate::store::{Block, Change, NO_BLOCK, PAYLOAD, PageStore};
use crate::{Result, Space};

/// A removal puts a page into the chain again when this part of it is free.
const ROOM: usize = 4;

/// Where a byte code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub block: Block,
    pub slot: usize,
}

/// Slots of a page: at most as many as an entry's reference to one has numbers for.
pub(crate) fn per_page(width: usize) -> usize {
    ((PAYLOAD - HEADER) / code::record_len(width)).min(128)
}

/// Checks that `page` holds byte codes.
pub(crate) fn expect(layout: &Layout, page: &[u8], block: Block) -> Result<()> {
    page::expect(page, block, Kind::Codes, layout.per_page)
}

/// Where a byte code begins on its page.
fn offset(space: &Space, slot: usize) -> usize {
    HEADER + slot * code::record_len(space.width)
}

/// The cache lines of a byte code and of its page's header.
pub(crate) fn lines(space: &Space, slot: usize, out: &mut Vec<usize>) {
    let at = offset(space, slot);
    out.clear();
    out.push(0);
    out.extend((at..at + code::record_len(space.width)).step_by(64));
}

/// The byte code at a slot.
pub(crate) fn record<'a>(space: &Space, page: &'a [u8], slot: usize) -> Record<'a> {
    Record::new(&page[offset(space, slot)..][..code::record_len(space.width)])
}

pub(crate) fn put(space: &Space, page: &mut [u8], slot: usize, record: &[u8]) {
    page::put(page, offset(space, slot), record);
    page::set_count(page, page::count(page).max(slot + 1));
}

/// A slot of a page that no row has.
fn free_slot(layout: &Layout, space: &Space, page: &[u8]) -> Option<usize> {
    let count = page::count(page);
    if count < layout.per_page {
        return Some(count);
    }
    (0..count).find(|slot| record(space, page, *slot).error.is_nan())
}

/// Locks a page with room in a change that has locked none of them, and tells its place there and the slot; if the page at
/// the beginning of the chain is full, its number.
pub(crate) fn room(
    store: &impl PageStore,
    layout: &Layout,
    space: &Space,
    change: &mut impl Change,
) -> Result<std::result::Result<(usize, Place), Block>> {
    let block = Meta::read(store)?.open;
    if block == NO_BLOCK {
        return Ok(Err(block));
    }
    let at = change.lock(block)?;
    expect(layout, change.page(at), block)?;
    Ok(match free_slot(layout, space, change.page(at)) {
        Some(slot) => Ok((at, Place { block, slot })),
        None => Err(block),
    })
}

/// Takes the page `full` from the beginning of the chain, and adds a new one if none is left, unless somebody else has.
pub(crate) fn advance(store: &impl PageStore, layout: &Layout, full: Block) -> Result<()> {
    let next = match full {
        NO_BLOCK => NO_BLOCK,
        block => store.read(block, |page| {
            expect(layout, page, block)?;
            Ok(page::next(page))
        })?,
    };
    let mut change = store.change();
    let place = change.lock(META)?;
    let mut meta = Meta::decode(change.page(place))?;
    if meta.open != full {
        return Ok(());
    }
    meta.open = next;
    if next == NO_BLOCK {
        let (at, block) = change.add()?;
        page::format(change.page_mut(at), Kind::Codes, meta.code_pages);
        meta.open = block;
        meta.code_pages += 1;
    }
    meta.encode(change.page_mut(place));
    change.commit()
}

/// Writes pages of byte codes, of which nobody knows yet.
pub(crate) struct Writer {
    pages: u32,
}

impl Writer {
    pub fn new() -> Self {
        Self { pages: 0 }
    }

    /// Pages so far.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Writes a page with some byte codes, at most as many as it has slots.
    pub fn write(&mut self, store: &impl PageStore, space: &Space, records: &[&Vec<u8>]) -> Result<Block> {
        let mut page = vec![0; PAYLOAD];
        page::format(&mut page, Kind::Codes, self.pages);
        records.iter().enumerate().for_each(|(slot, record)| put(space, &mut page, slot, record));
        self.pages += 1;
        store.append(&page)
    }
}

/// Finds the slots of rows that are no more, while somebody reads all entries.
pub(crate) struct Census {
    /// Pages that there were, and of byte codes as many.
    code_pages: u32,
    /// Pages with room: rows may get their slots meanwhile.
    open: Vec<Block>,
    /// For each page a bit for each slot in use.
    used: Vec<u128>,
}

impl Census {
    /// Begins, before the first entry is read.
    pub fn new(store: &impl PageStore, layout: &Layout) -> Result<Self> {
        let meta = Meta::read(store)?;
        let (mut open, mut block, mut chain) = (Vec::new(), meta.open, Chain::default());
        while block != NO_BLOCK {
            chain.step(block)?;
            open.push(block);
            block = store.read(block, |page| {
                expect(layout, page, block)?;
                Ok(page::next(page))
            })?;
        }
        open.sort_unstable();
        Ok(Self { code_pages: meta.code_pages, open, used: vec![0; store.len() as usize] })
    }

    /// Sees that a row has this place.
    pub fn see(&mut self, place: Place) {
        if let Some(used) = self.used.get_mut(place.block as usize) {
            *used |= 1 << place.slot;
        }
    }

    /// Makes the slots that were not seen free, on pages where there are many.
    pub fn release(self, store: &impl PageStore, layout: &Layout, space: &Space) -> Result<()> {
        let (mut first, mut last) = (NO_BLOCK, NO_BLOCK);
        for (block, used) in self.used.iter().enumerate().rev() {
            let (block, free) =
                (block as Block, layout.per_page - (used.count_ones() as usize).min(layout.per_page));
            if free * ROOM < layout.per_page || self.open.binary_search(&block).is_ok() {
                continue;
            }
            store.check()?;
            // The rows of a page that was added since may not have been seen.
            let is_old =
                |page: &[u8]| page::kind(page) == Some(Kind::Codes) && page::owner(page) < self.code_pages;
            if !store.read(block, |page| Ok(is_old(page)))? {
                continue;
            }
            let mut change = store.change();
            let at = change.lock(block)?;
            let page = change.page_mut(at);
            expect(layout, page, block)?;
            for slot in (0..page::count(page)).filter(|slot| used >> slot & 1 == 0) {
                code::make_free(&mut page[offset(space, slot)..]);
            }
            page::set_next(page, first);
            change.commit()?;
            first = block;
            last = if last == NO_BLOCK { block } else { last };
        }
        if first == NO_BLOCK {
            return Ok(());
        }
        let mut change = store.change();
        let at = change.lock(last)?;
        expect(layout, change.page(at), last)?;
        let mut open = NO_BLOCK;
        Meta::alter(&mut change, |meta| open = std::mem::replace(&mut meta.open, first))?;
        page::set_next(change.page_mut(at), open);
        change.commit()
    }
}

/// Checks that a page has a byte code at a slot.
pub(crate) fn expect_record(
    store: &impl PageStore,
    layout: &Layout,
    space: &Space,
    place: Place,
) -> Result<()> {
    let Place { block, slot } = place;
    store.read(block, |page| {
        expect(layout, page, block)?;
        if page::count(page) <= slot || record(space, page, slot).error.is_nan() {
            return corrupt(block, format!("an entry needs its byte code {slot}, which there is not"));
        }
        Ok(())
    })
}

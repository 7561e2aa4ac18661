//! Adding a row to an index that others use.

use crate::directory::{self, List};
use crate::error::corrupt;
use crate::list::{self, Layout, NO_ROW};
use crate::meta::{META, Meta};
use crate::page::{self, Chain, Kind};
use crate::space::Entry;
use crate::store::{Block, Change, NO_BLOCK, PageStore};
use crate::{Key, Result, RowId, Space};

/// What an insertion tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// The list that got the row.
    pub list: List,
    /// Rows of the list now.
    pub rows: u32,
    /// Lists of the index.
    pub lists: usize,
}

/// A row to be added.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// Its id.
    pub id: RowId,
    /// Its vector.
    pub vector: &'a [f32],
    /// Its keys, one for each key column.
    pub keys: &'a [Key],
}

/// Adds a row.
///
/// # Errors
/// [`crate::Error::Dimensions`], and those of the store.
pub fn insert(store: &impl PageStore, meta: &Meta, space: &Space, new: NewRow<'_>) -> Result<Inserted> {
    let layout = meta.layout(space);
    if new.keys.len() != layout.key_columns {
        return corrupt(META, format!("{} key columns, not {}", layout.key_columns, new.keys.len()));
    }
    let row = space.row(new.vector)?;
    let mut retired = None;
    loop {
        store.check()?;
        let Some(nearest) = directory::nearest(store, space, meta.directory, &row)? else {
            return corrupt(meta.directory, "the directory is empty");
        };
        if retired == Some(nearest.list) {
            return corrupt(nearest.list.first, "a list of the directory is retired");
        }
        let entry = space.encode(&row, &nearest.centroid);
        // `None`: the list was split meanwhile; the directory has its successors by now.
        if let Some(rows) = insert_into(store, &layout, nearest.list, new.id, new.keys, &entry)? {
            return Ok(Inserted { list: nearest.list, rows, lists: nearest.lists });
        }
        retired = Some(nearest.list);
    }
}

/// A page with room, locked in a change.
struct Room {
    block: Block,
    place: usize,
    entry: usize,
}

/// Adds a row to a list, and returns the number of its rows now; `None` if it is no list any more.
pub(crate) fn insert_into<S: PageStore>(
    store: &S,
    layout: &Layout,
    list: List,
    id: RowId,
    keys: &[Key],
    entry: &Entry,
) -> Result<Option<u32>> {
    let mut change = store.change();
    let first = change.lock(list.first)?;
    layout.expect(change.page(first), list.first, list.id)?;
    if list::is_retired(change.page(first)) {
        return Ok(None);
    }
    // Holes first, those of other pages as well, lest every list grow a page after some rows have been removed.
    let page = change.page(first);
    let room = match hole_on(layout, page) {
        Some(entry) => Room { block: list.first, place: first, entry },
        None => match list::insert_at(page) {
            NO_BLOCK if page::count(page) < layout.capacity => {
                Room { block: list.first, place: first, entry: page::count(page) }
            }
            NO_BLOCK => add_page(&mut change, first, list)?,
            block => {
                let place = change.lock(block)?;
                layout.expect(change.page(place), block, list.id)?;
                match room_on(layout, change.page(place)) {
                    Some(entry) => Room { block, place, entry },
                    // Its lock would cost one of the few pages of a change.
                    None => {
                        drop(change);
                        advance(store, layout, list, block)?;
                        return insert_into(store, layout, list, id, keys, entry);
                    }
                }
            }
        },
    };
    put(&mut change, layout, list, &room, id, keys, entry)?;
    let rows = list::rows(change.page(first)).saturating_add(1);
    list::set_rows(change.page_mut(first), rows);
    change.commit()?;
    Ok(Some(rows))
}

/// The entry that a page has free.
fn room_on(layout: &Layout, page: &[u8]) -> Option<usize> {
    let count = page::count(page);
    hole_on(layout, page).or((count < layout.capacity).then_some(count))
}

/// An entry of a row that was removed.
fn hole_on(layout: &Layout, page: &[u8]) -> Option<usize> {
    let mut entries = 0..if list::holes(page) > 0 { page::count(page) } else { 0 };
    entries.find(|i| layout.row(page, *i) == NO_ROW)
}

/// Adds a page behind the first one; rows go there from now on.
fn add_page(change: &mut impl Change, first: usize, list: List) -> Result<Room> {
    let (place, block) = change.add()?;
    let next = page::next(change.page(first));
    list::format(change.page_mut(place), list.id);
    page::set_next(change.page_mut(place), next);
    page::set_next(change.page_mut(first), block);
    list::set_insert_at(change.page_mut(first), block);
    Ok(Room { block, place, entry: 0 })
}

/// Lets the list's first page point to the next page with room behind the full page `from`, or to none.
fn advance(store: &impl PageStore, layout: &Layout, list: List, from: Block) -> Result<()> {
    let (mut block, mut chain) = (from, Chain::default());
    while block != NO_BLOCK {
        chain.step(block)?;
        let (room, next) = store.read(block, |page| {
            layout.expect(page, block, list.id)?;
            Ok((room_on(layout, page).is_some(), page::next(page)))
        })?;
        if room {
            break;
        }
        block = next;
    }
    let mut change = store.change();
    let first = change.lock(list.first)?;
    layout.expect(change.page(first), list.first, list.id)?;
    if list::insert_at(change.page(first)) == from {
        list::set_insert_at(change.page_mut(first), block);
        change.commit()?;
    }
    Ok(())
}

/// Writes an entry and its record. Both appear at once.
fn put(
    change: &mut impl Change,
    layout: &Layout,
    list: List,
    room: &Room,
    id: RowId,
    keys: &[Key],
    entry: &Entry,
) -> Result<()> {
    let fresh = room.entry == page::count(change.page(room.place));
    let number =
        if fresh { room.entry } else { layout.number(change.page(room.place), room.block, room.entry)? };
    let (page, place) = (number / layout.per_page, number % layout.per_page);
    let codes = if fresh && place == 0 {
        let (codes, block) = change.add()?;
        page::format(change.page_mut(codes), Kind::Codes, list.id);
        layout.set_code_page(change.page_mut(room.place), page, block);
        codes
    } else {
        let block = layout.code_page(change.page(room.place), page);
        let codes = change.lock(block)?;
        layout.expect_codes(change.page(codes), block, list.id)?;
        codes
    };
    layout.put_record(change.page_mut(codes), place, &entry.record);
    let records = page::count(change.page(codes)).max(place + 1);
    page::set_count(change.page_mut(codes), records);
    let page = change.page_mut(room.place);
    layout.put_entry(page, room.entry, id, keys, entry);
    if fresh {
        layout.set_number(page, room.entry, number);
        page::set_count(page, room.entry + 1);
    } else {
        list::set_holes(page, list::holes(page).saturating_sub(1));
    }
    Ok(())
}

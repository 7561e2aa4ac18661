//! Adding a row to an index that others use.

use crate::directory::List;
use crate::error::corrupt;
use crate::list::{self, Layout, NO_ROW, NewEntry};
use crate::meta::{META, Meta};
use crate::page::{self, Chain};
use crate::records::{self, Place};
use crate::store::{Block, Change, NO_BLOCK, PageStore};
use crate::{Key, Result, RowId, Space, second};

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
    let record = space.record(&row);
    let (mut retired, mut first) = (None, None);
    loop {
        store.check()?;
        let near = space.remembered.lists(store, space)?.near_with_centroids(space, &row.y);
        let Some((nearest, others)) = near.lists.split_first() else {
            return corrupt(meta.directory, "the directory is empty");
        };
        if retired == Some(near.lists.iter().map(|(list, _)| *list).collect()) {
            return corrupt(nearest.0.first, "a list of the directory is retired");
        }
        let put = |list: &(List, Vec<f32>), code: Code<'_>| {
            let entry = space.encode(&row, &list.1);
            let second = matches!(code, Code::At(_));
            let entry = NewEntry { row: new.id, keys: new.keys, entry: &entry, second };
            insert_into(store, &layout, space, list.0, &entry, code)
        };
        // `None`: the list was split meanwhile; the directory has its successors by now.
        if first.is_none() {
            first = put(nearest, Code::New(&record))?.map(|added| (nearest.0, added));
        }
        // Without its second entry a row is found less often, but it is found.
        if let Some((list, Added { place, rows })) = first {
            let second =
                second::choose(&row.y, &nearest.1, others.iter().map(|(_, centroid)| centroid.as_slice()));
            let done = match second.map(|i| &others[i]) {
                Some(second) if second.0 != list => put(second, Code::At(place))?.is_some(),
                _ => true,
            };
            if done {
                return Ok(Inserted { list, rows, lists: near.all });
            }
        }
        retired = Some(near.lists.iter().map(|(list, _)| *list).collect::<Vec<List>>());
    }
}

/// The byte code of an entry that is added.
pub(crate) enum Code<'a> {
    /// One to be written.
    New(&'a [u8]),
    /// One that is there.
    At(Place),
}

/// What was added to a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    /// Where the byte code is.
    pub place: Place,
    /// Rows of the list now.
    pub rows: u32,
}

/// A page with room, locked in a change.
struct Room {
    place: usize,
    entry: usize,
}

/// Adds an entry to a list; `None` if it is no list any more.
pub(crate) fn insert_into(
    store: &impl PageStore,
    layout: &Layout,
    space: &Space,
    list: List,
    new: &NewEntry<'_>,
    code: Code<'_>,
) -> Result<Option<Added>> {
    // Each failure moves a pointer on; there are no more pages to go through than these.
    for _ in 0..=2 * u64::from(store.len()) {
        match try_insert(store, layout, space, list, new, &code)? {
            Attempt::Done(added) => return Ok(Some(added)),
            Attempt::Retired => return Ok(None),
            Attempt::PageFull(block) => advance(store, layout, list, block)?,
            Attempt::CodesFull(block) => records::advance(store, layout, block)?,
        }
    }
    corrupt(list.first, "there is no room for a row")
}

enum Attempt {
    Done(Added),
    Retired,
    /// Where the list was to have room there is none.
    PageFull(Block),
    /// The same for byte codes.
    CodesFull(Block),
}

fn try_insert(
    store: &impl PageStore,
    layout: &Layout,
    space: &Space,
    list: List,
    new: &NewEntry<'_>,
    code: &Code<'_>,
) -> Result<Attempt> {
    let mut change = store.change();
    let first = change.lock(list.first)?;
    layout.expect(change.page(first), list.first, list.id)?;
    if list::is_retired(change.page(first)) {
        return Ok(Attempt::Retired);
    }
    // Holes first, those of other pages as well, lest every list grow a page after some rows have been removed.
    let page = change.page(first);
    let room = match hole_on(layout, page) {
        Some(entry) => Some(Room { place: first, entry }),
        None => match list::insert_at(page) {
            NO_BLOCK if page::count(page) < layout.capacity => {
                Some(Room { place: first, entry: page::count(page) })
            }
            NO_BLOCK => None,
            block => {
                let place = change.lock(block)?;
                layout.expect(change.page(place), block, list.id)?;
                match room_on(layout, change.page(place)) {
                    Some(entry) => Some(Room { place, entry }),
                    // Its lock would cost one of the few pages of a change.
                    None => return Ok(Attempt::PageFull(block)),
                }
            }
        },
    };
    let place = match code {
        Code::At(place) => *place,
        Code::New(record) => match records::room(store, layout, space, &mut change)? {
            Err(full) => return Ok(Attempt::CodesFull(full)),
            Ok((at, place)) => {
                records::put(space, change.page_mut(at), place.slot, record);
                place
            }
        },
    };
    let Room { place: at, entry: i } = match room {
        Some(room) => room,
        None => add_page(&mut change, first, list)?,
    };
    let page = change.page_mut(at);
    let fresh = i == page::count(page);
    layout.put_entry(page, i, new, place);
    if fresh {
        page::set_count(page, i + 1);
    } else {
        list::set_holes(page, list::holes(page).saturating_sub(1));
    }
    let page = change.page_mut(first);
    let rows = list::rows(page).saturating_add(u32::from(!new.second));
    list::set_length(page, list::length(page).saturating_add(1), rows);
    change.commit()?;
    Ok(Attempt::Done(Added { place, rows }))
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
    Ok(Room { place, entry: 0 })
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

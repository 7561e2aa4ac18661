//! The directory: a chain of pages with the number, the first page and the centroid of each list.

use crate::code::{DIRECTORY_PREFIX, Record, record_len};
use crate::page::{self, Chain, HEADER, Kind, put, u32_at};
use crate::space::{ListBase, Query, Row};
use crate::store::{Block, NO_BLOCK, PAYLOAD, PageStore};
use crate::{Result, Space};

/// A list, as the directory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// Its number; none is used twice.
    pub id: u32,
    /// Its first page.
    pub first: Block,
}

/// Entries of a page of the directory.
pub(crate) fn capacity(width: usize) -> usize {
    (PAYLOAD - HEADER) / entry_len(width)
}

fn entry_len(width: usize) -> usize {
    DIRECTORY_PREFIX + record_len(width)
}

pub(crate) fn put_entry(page: &mut [u8], width: usize, i: usize, list: List, centroid: &[u8]) {
    let at = HEADER + i * entry_len(width);
    put(page, at, &list.id.to_le_bytes());
    put(page, at + 4, &list.first.to_le_bytes());
    put(page, at + DIRECTORY_PREFIX, centroid);
}

pub(crate) fn entry(page: &[u8], width: usize, i: usize) -> (List, Record<'_>) {
    let at = HEADER + i * entry_len(width);
    let list = List { id: u32_at(page, at), first: u32_at(page, at + 4) };
    (list, Record::new(&page[at + DIRECTORY_PREFIX..][..record_len(width)]))
}

/// Shows each list with its centroid, and the page and place of its entry.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(crate) fn walk(
    store: &impl PageStore,
    space: &Space,
    first: Block,
    mut see: impl FnMut(List, Record<'_>, (Block, usize)),
) -> Result<()> {
    let (mut block, mut chain) = (first, Chain::default());
    while block != NO_BLOCK {
        chain.step(block)?;
        store.check()?;
        block = store.read(block, |page| {
            page::expect(page, block, Kind::Directory, capacity(space.width))?;
            for i in 0..page::count(page) {
                let (list, centroid) = entry(page, space.width, i);
                see(list, centroid, (block, i));
            }
            Ok(page::next(page))
        })?;
    }
    Ok(())
}

/// All lists with their distance from a query.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(crate) fn distances(
    store: &impl PageStore,
    space: &Space,
    first: Block,
    query: &Query,
) -> Result<Vec<(List, ListBase)>> {
    let mut lists = Vec::new();
    walk(store, space, first, |list, centroid, _| lists.push((list, space.list_base(query, centroid))))?;
    Ok(lists)
}

/// The list whose centroid is nearest to a row.
pub(crate) struct Nearest {
    pub list: List,
    pub centroid: Vec<f32>,
    /// Lists that there are.
    pub lists: usize,
}

/// Finds the list for a row; `None` if there is no list.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(crate) fn nearest(
    store: &impl PageStore,
    space: &Space,
    first: Block,
    row: &Row,
) -> Result<Option<Nearest>> {
    let (mut best, mut lists, mut least) = (None, 0, f32::INFINITY);
    let mut centroid = Vec::new();
    walk(store, space, first, |list, record, _| {
        lists += 1;
        let distance = record.constant - 2.0 * record.dot(&row.y);
        if distance < least || best.is_none() {
            least = distance;
            best = Some(list);
            centroid.clear();
            centroid.resize(space.width, 0.0);
            record.add_to(&mut centroid);
        }
    })?;
    Ok(best.map(|list| Nearest { list, centroid, lists }))
}

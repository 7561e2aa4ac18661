//! The directory: a chain of pages with the number, the first page and the centroid of each list.

use crate::code::{DIRECTORY_PREFIX, Record, record_len};
use crate::error::corrupt;
use crate::meta::Meta;
use crate::page::{self, Chain, HEADER, Kind, NO_LIST, put, u32_at};
use crate::store::{Block, Change, NO_BLOCK, PAYLOAD, PageStore};
use crate::{Result, Space};

/// A list, as the directory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// Its number; none is used twice.
    pub id: u32,
    /// Its first page.
    pub first: Block,
}

/// Where a page is read before the processor foresees that it will be read on.
const BEGINNING: [usize; 4] = [0, 64, 128, 192];

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
            store.prefetch(page::next(page), &BEGINNING);
            for i in 0..page::count(page) {
                let (list, centroid) = entry(page, space.width, i);
                see(list, centroid, (block, i));
            }
            Ok(page::next(page))
        })?;
    }
    Ok(())
}

/// Shows each list with its centroid, all as they were at one time: while lists are replaced, a walk page by page would
/// find some and what took their place. The number of changes until then comes with them.
fn walk_at_once<T>(
    store: &impl PageStore,
    space: &Space,
    first: Block,
    mut see: impl FnMut(List, Record<'_>) -> T,
) -> Result<(u32, Vec<T>)> {
    loop {
        let mut seen = Vec::new();
        let before = Meta::read(store)?.version;
        walk(store, space, first, |list, centroid, _| seen.push(see(list, centroid)))?;
        if Meta::read(store)?.version == before {
            return Ok((before, seen));
        }
    }
}

/// All lists.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(crate) fn lists(store: &impl PageStore, space: &Space, first: Block) -> Result<Vec<List>> {
    Ok(walk_at_once(store, space, first, |list, _| list)?.1)
}

/// A list with its encoded centroid.
pub(crate) type Encoded = (List, Vec<u8>);

/// All lists with their encoded centroids, and the number of changes of the directory until then.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(crate) fn entries(store: &impl PageStore, space: &Space, first: Block) -> Result<(u32, Vec<Encoded>)> {
    walk_at_once(store, space, first, |list, centroid| (list, centroid.to_bytes()))
}

/// Number of its pages.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(crate) fn pages(store: &impl PageStore, space: &Space, first: Block) -> Result<u64> {
    let (mut count, mut last) = (0, NO_BLOCK);
    walk(store, space, first, |_, _, (block, _)| {
        count += u64::from(block != last);
        last = block;
    })?;
    Ok(count)
}

/// Most lists that one of its pages has.
///
/// # Errors
/// [`crate::Error::Corrupt`].
pub(crate) fn fullest(store: &impl PageStore, space: &Space, first: Block) -> Result<usize> {
    let mut most = 0;
    walk(store, space, first, |_, _, (_, i)| most = most.max(i + 1))?;
    Ok(most)
}

/// Writes a chain of pages, from its end, so that each knows the next.
///
/// # Errors
/// Those of the store.
pub(crate) fn write(
    store: &impl PageStore,
    width: usize,
    lists: &[List],
    centroids: &[Vec<u8>],
) -> Result<Block> {
    let mut next = NO_BLOCK;
    let mut page = vec![0; PAYLOAD];
    let capacity = capacity(width);
    for (lists, centroids) in lists.chunks(capacity).zip(centroids.chunks(capacity)).rev() {
        page::format(&mut page, Kind::Directory, NO_LIST);
        page::set_next(&mut page, next);
        page::set_count(&mut page, lists.len());
        for (i, (list, centroid)) in lists.iter().zip(centroids).enumerate() {
            put_entry(&mut page, width, i, *list, centroid);
        }
        next = store.append(&page)?;
    }
    Ok(next)
}

/// Lists that are to take the place of others.
pub(crate) struct Replacement<'a> {
    lists: &'a [List],
    centroids: &'a [Vec<u8>],
    width: usize,
    /// The page that has the entries of all old lists, and their places on it, ascending.
    page: Block,
    places: Vec<usize>,
    /// The last page.
    tail: Block,
    /// First of the pages with those of the new lists that these two have no room for.
    next: Block,
}

impl<'a> Replacement<'a> {
    /// Prepares it: entries of the old lists, no more than the [`fullest`] page has, gather on one page. Nobody else may change
    /// the directory from now on.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if an old list is not in the directory, and those of the store.
    pub fn new(
        store: &impl PageStore,
        space: &Space,
        first: Block,
        old: &[List],
        lists: &'a [List],
        centroids: &'a [Vec<u8>],
    ) -> Result<Self> {
        let width = space.width;
        let mut pages: Vec<(Block, Vec<List>)> = Vec::new();
        walk(store, space, first, |list, _, (block, _)| match pages.last_mut() {
            Some((last, lists)) if *last == block => lists.push(list),
            _ => pages.push((block, vec![list])),
        })?;
        let is_old = |list: &List| old.contains(list);
        let found: usize = pages.iter().flat_map(|(_, lists)| lists).filter(|list| is_old(list)).count();
        let home = pages.iter().position(|(_, lists)| lists.len() >= old.len());
        let own = pages.iter().position(|(_, lists)| lists.contains(&old[0]) && lists.len() >= old.len());
        let (true, Some(home)) = (found == old.len(), own.or(home)) else {
            return corrupt(first, format!("not all of {} lists are in it", old.len()));
        };
        for other in (0..pages.len()).filter(|other| *other != home) {
            let away = pages[other].1.iter().enumerate().filter(|(_, list)| is_old(list)).map(|(i, _)| i);
            let free = pages[home].1.iter().enumerate().filter(|(_, list)| !is_old(list)).map(|(i, _)| i);
            let pairs: Vec<(usize, usize)> = away.zip(free).collect();
            if pairs.is_empty() {
                continue;
            }
            exchange(store, width, (pages[other].0, pages[home].0), &pairs)?;
            for (away, free) in pairs {
                let list = pages[other].1[away];
                pages[other].1[away] = pages[home].1[free];
                pages[home].1[free] = list;
            }
        }
        let (page, here) = &pages[home];
        let places: Vec<usize> = (0..here.len()).filter(|i| is_old(&here[*i])).collect();
        let (tail, entries) = pages.last().map_or((*page, 0), |(tail, lists)| (*tail, lists.len()));
        let room = |entries: usize| capacity(width).saturating_sub(entries);
        let room = places.len() + room(here.len()) + if tail == *page { 0 } else { room(entries) };
        let here = lists.len().min(room);
        let next = write(store, width, &lists[here..], &centroids[here..])?;
        Ok(Self { lists, centroids, width, page: *page, places, tail, next })
    }

    /// From now on searches find the new lists, and no longer the old ones.
    ///
    /// # Errors
    /// Those of the store.
    pub fn publish(self, store: &impl PageStore) -> Result<()> {
        let mut change = store.change();
        Meta::alter(&mut change, |meta| {
            meta.version = meta.version.wrapping_add(1);
            meta.unclean_since = store.now();
        })?;
        let (width, mut new) = (self.width, self.lists.iter().zip(self.centroids));
        let place = change.lock(self.page)?;
        let page = change.page_mut(place);
        let (taken, left) = self.places.split_at(self.places.len().min(self.lists.len()));
        for (hole, (list, centroid)) in taken.iter().zip(new.by_ref()) {
            put_entry(page, width, *hole, *list, centroid);
        }
        // Entries from the end fill the places that are left.
        for hole in left.iter().rev() {
            let last = page::count(page) - 1;
            let (list, centroid) = entry(page, width, last);
            let centroid = centroid.to_bytes();
            put_entry(page, width, *hole, list, &centroid);
            page::set_count(page, last);
        }
        append(page, width, &mut new);
        let last = if self.tail == self.page { place } else { change.lock(self.tail)? };
        let page = change.page_mut(last);
        append(page, width, &mut new);
        page::set_next(page, self.next);
        change.commit()
    }
}

/// Adds lists to a page for as long as it has room.
fn append<'a>(page: &mut [u8], width: usize, new: &mut impl Iterator<Item = (&'a List, &'a Vec<u8>)>) {
    for i in page::count(page)..capacity(width) {
        let Some((list, centroid)) = new.next() else { return };
        put_entry(page, width, i, *list, centroid);
        page::set_count(page, i + 1);
    }
}

/// Exchanges pairs of entries of two pages.
fn exchange(
    store: &impl PageStore,
    width: usize,
    (a, b): (Block, Block),
    pairs: &[(usize, usize)],
) -> Result<()> {
    let mut change = store.change();
    // Who walks page by page begins anew.
    Meta::alter(&mut change, |meta| meta.version = meta.version.wrapping_add(1))?;
    let places = (change.lock(a)?, change.lock(b)?);
    for pair in pairs {
        let of = |page: &[u8], i| {
            let (list, centroid) = entry(page, width, i);
            (list, centroid.to_bytes())
        };
        let (one, other) = (of(change.page(places.0), pair.0), of(change.page(places.1), pair.1));
        put_entry(change.page_mut(places.0), width, pair.0, other.0, &other.1);
        put_entry(change.page_mut(places.1), width, pair.1, one.0, &one.1);
    }
    change.commit()
}

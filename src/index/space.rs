//! What this session knows of the indexes that it has used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pg_answer_ann::Space;
use pg_answer_ann::meta::Meta;
use pgrx::pg_sys::{Oid, Relation};

use super::pages::Pages;
use crate::error::OrRaise;

/// Indexes remembered; with more, all are forgotten.
const MOST: usize = 64;

thread_local! {
    static SPACES: RefCell<HashMap<Oid, (Meta, Rc<Space>)>> = RefCell::new(HashMap::new());
}

/// The first page of an index, and its coordinates, which are made anew when the index has been.
///
/// # Safety
/// The index is open.
pub unsafe fn of(index: Relation, pages: &Pages) -> (Meta, Rc<Space>) {
    let meta = Meta::read(pages).or_raise();
    // SAFETY: the caller vouches for the index.
    let oid = unsafe { (*index).rd_id };
    let known = SPACES.with_borrow(|spaces| spaces.get(&oid).cloned());
    match known {
        Some((known, space)) if is_same(&known, &meta) => (meta, space),
        _ => {
            let space = Rc::new(meta.space(pages).or_raise());
            SPACES.with_borrow_mut(|spaces| {
                if spaces.len() >= MOST {
                    spaces.clear();
                }
                spaces.insert(oid, (meta.clone(), space.clone()));
            });
            (meta, space)
        }
    }
}

/// Whether indexes with these first pages have the same coordinates. The page of the mean is written once by a build, and
/// the seed is another for each build.
fn is_same(a: &Meta, b: &Meta) -> bool {
    let of = |meta: &Meta| (meta.metric, meta.dims, meta.seed, meta.mean, meta.directory);
    of(a) == of(b)
}

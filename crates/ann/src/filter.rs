//! Filter keys: scalar columns beside the vector, and what a search asks of them.

use crate::kernels::{self, LANES};
use crate::list::Layout;

/// A value of a key column as a number: values that are equal have equal keys, and where the type has an order that
/// keys follow, a smaller value never has a larger key.
pub type Key = i64;

/// The key of NULL, which no value has.
pub const NULL_KEY: Key = Key::MIN;

/// Most key columns of an index.
pub const MOST_KEYS: usize = 31;

/// What a key must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// From the first to the second, both included; of what is not in order, nothing.
    Within(Key, Key),
    /// One of these, in ascending order.
    OneOf(Vec<Key>),
}

/// What the keys of a row must be. Without a condition every row passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Key columns, counted from 0, each with what it must be; all hold.
    pub conditions: Vec<(usize, Test)>,
}

impl Filter {
    /// Whether every row passes.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Of each group of sixteen entries of a list page the entries that pass, as bits.
    pub(crate) fn masks(&self, layout: &Layout, page: &[u8], masks: &mut [u16]) {
        masks.fill(u16::MAX);
        for (column, test) in &self.conditions {
            let keys = layout.keys(page, *column);
            match test {
                Test::Within(least, most) if least <= most => kernels::within(keys, *least, *most, masks),
                Test::OneOf(values) if !values.is_empty() => one_of(keys, values, masks),
                _ => masks.fill(0),
            }
        }
    }
}

fn one_of(keys: &[u8], values: &[Key], masks: &mut [u16]) {
    kernels::within(keys, values[0], values[values.len() - 1], masks);
    for (mask, keys) in masks.iter_mut().zip(keys.as_chunks::<{ 8 * LANES }>().0) {
        let mut left = *mask;
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            left &= left - 1;
            let key = Key::from_le_bytes(keys.as_chunks::<8>().0[i]);
            if values.binary_search(&key).is_err() {
                *mask &= !(1 << i);
            }
        }
    }
}

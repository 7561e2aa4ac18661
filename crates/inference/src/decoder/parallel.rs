//! Work split into jobs whose results do not depend on who runs them.

use std::marker::PhantomData;

use crate::{Pool, Result};

/// Runs `f` on every job, on the threads of `pool`.
///
/// # Errors
/// `Internal` when a helper thread panicked.
pub fn for_each<J: Send>(pool: &Pool, jobs: &mut [J], f: impl Fn(&mut J) + Sync) -> Result<()> {
    let run = |(): &mut (), _, jobs: &mut [J], _: crate::Check<'_>| {
        jobs.iter_mut().for_each(&f);
        Ok(())
    };
    pool.for_each(jobs, 1, &mut || Ok(()), || (), run)
}

/// How many of `items` a job should take, a multiple of `multiple`: four to eight jobs for each thread, so that a delayed
/// one delays little, and as many for each, so that they end together.
pub fn share(items: usize, threads: usize, multiple: usize) -> usize {
    let units = items.div_ceil(multiple).max(1);
    if threads == 1 {
        return units * multiple;
    }
    let longest = |each: usize| units.div_ceil(each).div_ceil(threads) * each;
    let each =
        (units.div_ceil(threads * 8)..=units.div_ceil(threads * 4)).rev().min_by_key(|&each| longest(each));
    each.unwrap_or(1) * multiple
}

/// A rectangle of a row-major matrix, so that threads can write columns of the same rows.
pub struct Grid<'a, T> {
    first: *mut T,
    /// From one row to the next.
    stride: usize,
    rows: usize,
    columns: usize,
    whole: PhantomData<&'a mut [T]>,
}

// SAFETY: rectangles do not overlap, so one is like a mutable slice.
unsafe impl<T: Send> Send for Grid<'_, T> {}

impl<'a, T> Grid<'a, T> {
    /// All of `data`, whose rows have `columns` values.
    pub fn new(data: &'a mut [T], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        Self { first: data.as_mut_ptr(), stride: columns, rows, columns, whole: PhantomData }
    }

    /// Takes off the first `columns` columns, or what is left of them.
    pub fn take_left(&mut self, columns: usize) -> Self {
        let columns = columns.min(self.columns);
        let left = Self { columns, ..*self };
        self.columns -= columns;
        self.first = self.first.wrapping_add(columns);
        left
    }

    /// Takes off the first `rows` rows, or what is left of them.
    pub fn take_top(&mut self, rows: usize) -> Self {
        let rows = rows.min(self.rows);
        let top = Self { rows, ..*self };
        self.rows -= rows;
        self.first = self.first.wrapping_add(rows * self.stride);
        top
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A row.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: the row is inside of the data that `new` borrowed, and in no other rectangle.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_cover_the_matrix_once() {
        let mut data = vec![0; 5 * 7];
        let mut rest = Grid::new(&mut data, 7);
        let mut top = rest.take_top(2);
        let mut left = rest.take_left(3);
        assert_eq!((top.rows, top.columns(), left.rows, left.columns(), rest.columns()), (2, 7, 3, 3, 4));
        for (value, grid) in [&mut top, &mut left, &mut rest].into_iter().enumerate() {
            for row in 0..grid.rows {
                grid.row(row).iter_mut().for_each(|x| *x += value + 1);
            }
        }
        assert_eq!(rest.take_left(9).columns(), 4);
        for (i, x) in data.into_iter().enumerate() {
            assert_eq!(
                x,
                if i < 14 {
                    1
                } else if i % 7 < 3 {
                    2
                } else {
                    3
                }
            );
        }
    }
}

//! The window function `kmeans(embedding, k [, seed]) OVER (...)`: the cluster of each row of a partition.

use std::ffi::{c_int, c_void};

use half::f16;
use pg_answer_ann::cluster;
use pg_answer_ann::kmeans::Points;
use pg_answer_vector::{Element, Error};
use pgrx::PgSqlErrorCode as Code;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{Datum, NodeTag};

use crate::error::{OrRaise, Report};
use crate::vector::call::Args;
use crate::vector::datum::Vector;

/// Rows that are labelled at a time.
const BATCH: usize = 512;

/// The server's `WindowObject`, of which only the tag is read here.
type WindowObject = *mut NodeTag;

// src/include/windowapi.h, which pgrx does not bind. An ERROR in them unwinds only within `pg_guard_ffi_boundary`.
unsafe extern "C-unwind" {
    fn WinGetPartitionLocalMemory(object: WindowObject, size: usize) -> *mut c_void;
    fn WinGetCurrentPosition(object: WindowObject) -> i64;
    fn WinGetPartitionRowCount(object: WindowObject) -> i64;
    fn WinGetFuncArgCurrent(object: WindowObject, argument: c_int, is_null: *mut bool) -> Datum;
    fn WinGetFuncArgInPartition(
        object: WindowObject,
        argument: c_int,
        position: c_int,
        seek: c_int,
        set_mark: bool,
        is_null: *mut bool,
        is_out: *mut bool,
    ) -> Datum;
}

/// `WINDOW_SEEK_HEAD`: positions count from the partition's first row.
const FROM_HEAD: c_int = 1;

/// The rows of a partition, as a window function sees them.
struct Partition {
    object: WindowObject,
    rows: usize,
}

/// The beginning of a partition's own memory, which is zero before the first row; the label of each row follows.
#[repr(C)]
struct Labels {
    made: bool,
    first: [i32; 0],
}

impl Partition {
    /// The partition of a call.
    fn of(args: Args) -> Self {
        // SAFETY: the call comes from the function manager; a window function's context is the window object.
        unsafe {
            let object = (*args.fcinfo()).context.cast::<NodeTag>();
            if object.is_null() || *object != NodeTag::T_WindowObjectData {
                Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "kmeans must be called with OVER").raise();
            }
            Self { object, rows: pg_guard_ffi_boundary(|| WinGetPartitionRowCount(object)) as usize }
        }
    }

    /// Argument `i` of the current row as it is passed; `None` if it is NULL.
    fn current(&self, i: c_int) -> Option<Datum> {
        let mut is_null = false;
        // SAFETY: the object is that of the running call; the SQL declares three arguments.
        let datum =
            unsafe { pg_guard_ffi_boundary(|| WinGetFuncArgCurrent(self.object, i, &raw mut is_null)) };
        (!is_null).then_some(datum)
    }

    /// Hands the vector of row `row` to `take`, if there is one.
    fn with_vector<E: Element>(&self, row: usize, take: impl FnOnce(&[E])) {
        let (mut is_null, mut is_out) = (false, false);
        // SAFETY: as above; the row number is one of a partition, and the SQL declares the vector type first. The datum
        // is valid until the next row is asked for.
        unsafe {
            let (null, out) = (&raw mut is_null, &raw mut is_out);
            let datum = pg_guard_ffi_boundary(|| {
                WinGetFuncArgInPartition(self.object, 0, row as c_int, FROM_HEAD, false, null, out)
            });
            if !is_null && !is_out {
                take(&Vector::<E>::from_datum(datum));
            }
        }
    }

    /// Whether the labels are there already, and the labels, one for each row.
    fn labels<'a>(&self) -> (&'a mut bool, &'a mut [i32]) {
        let size = size_of::<Labels>() + self.rows * size_of::<i32>();
        // SAFETY: the server gives that many zeroed bytes, the same ones for all rows of a partition; each call
        // asks for them once and has them for itself.
        unsafe {
            let labels =
                pg_guard_ffi_boundary(|| WinGetPartitionLocalMemory(self.object, size)).cast::<Labels>();
            let first = (&raw mut (*labels).first).cast::<i32>();
            (&mut (*labels).made, std::slice::from_raw_parts_mut(first, self.rows))
        }
    }
}

fn check() -> pg_answer_ann::Result<()> {
    pgrx::check_for_interrupts!();
    Ok(())
}

/// The cluster of the current row, from 1 in the order in which the partition's rows meet them; NULL for a NULL vector.
fn kmeans<E: Element>(args: Args) -> Datum {
    let partition = Partition::of(args);
    let (made, labels) = partition.labels();
    if !*made {
        let (Some(k), Some(seed)) = (partition.current(1), partition.current(2)) else {
            Report::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, "k and seed must not be NULL").raise()
        };
        let k = usize::try_from(k.value() as i32).ok().filter(|k| *k > 0).unwrap_or_else(|| {
            let message = format!("k must be at least 1, not {}", k.value() as i32);
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message).raise()
        });
        make_labels::<E>(&partition, k, seed.value() as u64, labels);
        *made = true;
    }
    // SAFETY: the object is that of the running call.
    let position = unsafe { WinGetCurrentPosition(partition.object) };
    match labels[position as usize] {
        0 => args.null(),
        label => Datum::from(label),
    }
}

/// Labels the rows of a partition; 0 stands for a NULL vector.
fn make_labels<E: Element>(partition: &Partition, k: usize, seed: u64, labels: &mut [i32]) {
    let mut points = Points::new(0);
    let size = cluster::sample_size(partition.rows, k);
    let sampled: Vec<usize> = cluster::sample(partition.rows, size, seed).collect();
    collect::<E>(partition, sampled.into_iter(), &mut points);
    if points.is_empty() {
        return;
    }
    let centroids = cluster::train(&points, k, seed, check).or_raise();
    let mut numbers = Numbers { of: vec![0; centroids.len()], used: 0 };
    let mut found = Vec::new();
    for start in (0..partition.rows).step_by(BATCH) {
        points.values.clear();
        let rows = collect::<E>(partition, start..partition.rows.min(start + BATCH), &mut points);
        found.clear();
        cluster::label(&points.values, &centroids, &mut found, check).or_raise();
        rows.iter().zip(&found).for_each(|(row, label)| labels[*row] = numbers.of(*label));
    }
}

/// Puts the vectors of these rows into `points`, and returns the rows that have one.
fn collect<E: Element>(
    partition: &Partition,
    rows: impl Iterator<Item = usize>,
    points: &mut Points,
) -> Vec<usize> {
    let mut taken = Vec::new();
    // The argument may be an expression that allocates for each row.
    let mut context = PgMemoryContexts::new("kmeans");
    for row in rows {
        pgrx::check_for_interrupts!();
        // SAFETY: what is allocated in the context is not used after the row.
        unsafe {
            context.switch_to(|_| {
                partition.with_vector::<E>(row, |vector| {
                    if points.width == 0 {
                        points.width = vector.len();
                    } else if points.width != vector.len() {
                        Err(Error::DifferentDimensions {
                            kind: E::KIND,
                            left: points.width,
                            right: vector.len(),
                        })
                        .or_raise()
                    }
                    points.values.extend(vector.iter().map(|x| x.to_f32()));
                    taken.push(row);
                });
            });
            context.reset();
        }
    }
    taken
}

/// Numbers for clusters, in the order in which they are first met: so they do not depend on the order of the seeds.
struct Numbers {
    of: Vec<i32>,
    used: i32,
}

impl Numbers {
    fn of(&mut self, cluster: u32) -> i32 {
        let number = &mut self.of[cluster as usize];
        if *number == 0 {
            self.used += 1;
            *number = self.used;
        }
        *number
    }
}

sql_functions! {
    vector_kmeans => kmeans::<f32>;
    halfvec_kmeans => kmeans::<f16>;
}

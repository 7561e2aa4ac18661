//! Filter keys: the columns of an index behind its vector, and the conditions of a scan on them.
//!
//! A value becomes a number of 64 bits ([`Key`]) by a support function of its operator class. Where it follows the
//! order of the type, conditions become ranges of numbers; a hash serves equality. The executor checks conditions
//! again on the rows of the table, so that numbers that fall together do no harm.

use pg_answer_ann::Key;
use pg_answer_ann::filter::{Filter, NULL_KEY, Test};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, Datum, FmgrInfo, Oid, Relation, ScanKeyData};

use super::opclass::SUPPORT as DISTANCE;
use crate::error::Report;
use crate::vector::call::Args;

/// Support functions of an operator class of keys: it has one of the three.
const EXACT: u16 = 2;
const ROUNDED: u16 = 3;
const HASH: u16 = 4;
/// Number of the last support function of the access method.
pub const LAST_SUPPORT: u16 = HASH;

/// How values of a column become keys.
struct Column {
    /// Number of the support function.
    kind: u16,
    function: *mut FmgrInfo,
    collation: Oid,
}

/// The key columns of an open index.
pub struct Keys(Vec<Column>);

/// Strategies, as those of B-trees.
const LESS: u16 = 1;
const LESS_EQUAL: u16 = 2;
const EQUAL: u16 = 3;
const GREATER_EQUAL: u16 = 4;
const GREATER: u16 = 5;

impl Keys {
    /// Those of an index. Raises an ERROR if a column cannot serve as what its place says.
    ///
    /// # Safety
    /// The index stays open while the keys are used.
    pub unsafe fn of(index: Relation) -> Self {
        // SAFETY: the caller vouches for the index; columns are counted from 1 up to what it has.
        unsafe {
            let columns = (*(*index).rd_index).indnkeyatts;
            let has = |column: i16, number: u16| {
                pg_sys::index_getprocid(index, column, number) != pg_sys::InvalidOid
            };
            if !has(1, DISTANCE) {
                misplaced("the first column of an index of method ann must be a vector");
            }
            let column = |number: i16| {
                let Some(kind) = [EXACT, ROUNDED, HASH].into_iter().find(|kind| has(number, *kind)) else {
                    misplaced("an index of method ann has one vector, and filter keys behind it")
                };
                let function = pg_sys::index_getprocinfo(index, number, kind);
                let collation = *(*index).rd_indcollation.add(number as usize - 1);
                Column { kind, function, collation }
            };
            Self((2..=columns).map(column).collect())
        }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys of a row.
    ///
    /// # Safety
    /// There is a value and a flag for each column of the index, that of the vector included.
    pub unsafe fn of_row(&self, values: *const Datum, nulls: *const bool) -> Vec<Key> {
        let key = |(i, column): (usize, &Column)| {
            // SAFETY: the caller vouches for the arrays.
            unsafe { if *nulls.add(i + 1) { NULL_KEY } else { column.key(*values.add(i + 1)) } }
        };
        self.0.iter().enumerate().map(key).collect()
    }

    /// What the conditions of a scan ask of the keys; `None` if no row of the index can fulfil them.
    ///
    /// # Safety
    /// They are conditions of a scan of `index`, of which these are the keys.
    pub unsafe fn filter(&self, index: Relation, conditions: &[ScanKeyData]) -> Option<Filter> {
        let mut filter = Filter::default();
        for condition in conditions {
            // Of the vector only NULL or not can be asked, and NULL is not indexed.
            match usize::try_from(condition.sk_attno - 2) {
                Ok(column) => {
                    // SAFETY: the caller vouches for the conditions.
                    let test = unsafe { self.0[column].test(index, condition) };
                    filter.conditions.push((column, test));
                }
                Err(_) if condition.sk_flags as u32 & pg_sys::SK_SEARCHNOTNULL != 0 => {}
                Err(_) => return None,
            }
        }
        Some(filter)
    }
}

const NOTHING: Test = Test::OneOf(Vec::new());

fn misplaced(message: &str) -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION, message)
        .hint("For example: USING ann (embedding vector_cosine_ops, tenant_id).")
        .raise()
}

impl Column {
    unsafe fn key(&self, value: Datum) -> Key {
        // SAFETY: the caller passes a value of the column's type.
        unsafe { key_by(self.function, self.kind, self.collation, value) }
    }

    /// What a condition asks of the column's key.
    unsafe fn test(&self, index: Relation, condition: &ScanKeyData) -> Test {
        let flags = condition.sk_flags as u32;
        if flags & pg_sys::SK_SEARCHNULL != 0 {
            return Test::Within(NULL_KEY, NULL_KEY);
        }
        if flags & pg_sys::SK_SEARCHNOTNULL != 0 {
            return Test::Within(NULL_KEY + 1, Key::MAX);
        }
        if flags & pg_sys::SK_ISNULL != 0 {
            return NOTHING;
        }
        // SAFETY: the caller passes a condition of a scan of this index.
        let mut keys: Vec<Key> = unsafe {
            let (mut by, attribute) = (*self.function, condition.sk_attno as usize - 1);
            let other = condition.sk_subtype;
            if other != pg_sys::InvalidOid && other != *(*index).rd_opcintype.add(attribute) {
                let family = *(*index).rd_opfamily.add(attribute);
                let function = pg_sys::get_opfamily_proc(family, other, other, self.kind as i16);
                if function == pg_sys::InvalidOid {
                    misplaced("an operator of a filter key has no support function for its argument");
                }
                pg_sys::fmgr_info(function, &raw mut by);
            }
            let mut key = |value| key_by(&raw mut by, self.kind, self.collation, value);
            if flags & pg_sys::SK_SEARCHARRAY != 0 {
                elements(condition.sk_argument).into_iter().map(&mut key).collect()
            } else {
                vec![key(condition.sk_argument)]
            }
        };
        keys.sort_unstable();
        keys.dedup();
        let (Some(first), Some(last)) = (keys.first().copied(), keys.last().copied()) else { return NOTHING };
        // The least key of all stands for two values, see `key_by`.
        let exact = self.kind == EXACT;
        match condition.sk_strategy {
            LESS if exact && last > NULL_KEY + 1 => Test::Within(NULL_KEY + 1, last - 1),
            LESS | LESS_EQUAL => Test::Within(NULL_KEY + 1, last),
            EQUAL => Test::OneOf(keys),
            GREATER if exact && first > NULL_KEY + 1 => match first.checked_add(1) {
                Some(next) => Test::Within(next, Key::MAX),
                None => NOTHING,
            },
            GREATER | GREATER_EQUAL => Test::Within(first, Key::MAX),
            _ => Test::Within(NULL_KEY + 1, Key::MAX),
        }
    }
}

unsafe fn key_by(function: *mut FmgrInfo, kind: u16, collation: Oid, value: Datum) -> Key {
    // SAFETY: the caller passes a support function of this kind and a value of the type that it takes.
    let key = unsafe {
        match kind {
            HASH => pg_sys::FunctionCall2Coll(function, collation, value, Datum::from(0i64)),
            _ => pg_sys::FunctionCall1Coll(function, collation, value),
        }
    };
    // The least number is for NULL.
    (key.value() as Key).max(NULL_KEY + 1)
}

/// The elements of an array that are not NULL.
unsafe fn elements(array: Datum) -> Vec<Datum> {
    let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    let (mut length, mut by_value, mut alignment) = (0, false, 0);
    // SAFETY: the caller passes an array; PostgreSQL fills what is pointed to.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let element = (*array).elemtype;
        pg_sys::get_typlenbyvalalign(element, &raw mut length, &raw mut by_value, &raw mut alignment);
        pg_sys::deconstruct_array(
            array,
            element,
            i32::from(length),
            by_value,
            alignment,
            &raw mut values,
            &raw mut nulls,
            &raw mut count,
        );
        (0..count as usize).filter(|i| !*nulls.add(*i)).map(|i| *values.add(i)).collect()
    }
}

/// What integers, and the types that are integers inside, are in order.
fn order_of_integer<T: Into<Key>>(args: Args, of: impl Fn(usize) -> T) -> Key {
    of(args.datum(0).value()).into()
}

/// A number for each double that is in the order that PostgreSQL gives them: NaN last, both zeros equal.
fn order_of_double(x: f64) -> Key {
    let x = if x.is_nan() { f64::NAN.abs() } else { x + 0.0 };
    let bits = x.to_bits() as Key;
    bits ^ ((bits >> 63) as u64 >> 1) as Key
}

fn order_of_numeric(args: Args) -> Key {
    // SAFETY: the argument is a numeric.
    let double = unsafe {
        pgrx::direct_function_call::<f64>(pg_sys::numeric_float8_no_overflow, &[Some(args.datum(0))])
    };
    order_of_double(double.expect("a number is not NULL"))
}

sql_functions! {
    ann_order_bool => |args: Args| order_of_integer(args, |value| value as u8);
    ann_order_int2 => |args: Args| order_of_integer(args, |value| value as i16);
    ann_order_int4 => |args: Args| order_of_integer(args, |value| value as i32);
    ann_order_int8 => |args: Args| order_of_integer(args, |value| value as i64);
    ann_order_oid => |args: Args| order_of_integer(args, |value| value as u32);
    ann_order_float4 => |args: Args| order_of_double(f64::from(f32::from_bits(args.datum(0).value() as u32)));
    ann_order_float8 => |args: Args| order_of_double(f64::from_bits(args.datum(0).value() as u64));
    ann_order_numeric => order_of_numeric;
}

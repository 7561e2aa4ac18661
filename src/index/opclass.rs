//! What an operator class tells the index: its distance and the type of its elements.

use half::f16;
use pg_answer_ann::Metric;
use pg_answer_vector::{Element, Kind};
use pgrx::pg_sys::{self, Datum, Relation};

use crate::error::{OrRaise, Report};
use crate::vector::call::Args;
use crate::vector::datum::Vector;

/// Number of the support function, which returns [`OpClass::number`].
pub const SUPPORT: u16 = 1;

/// Operator class of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpClass {
    /// Distance.
    pub metric: Metric,
    half: bool,
}

/// What the number of a half-precision class has beside its distance.
const HALF: i32 = 256;

impl OpClass {
    /// The class of the first column.
    ///
    /// # Safety
    /// The index is open.
    pub unsafe fn of(index: Relation) -> Self {
        // SAFETY: the caller vouches for the index, and an index without the support function is an ERROR.
        let number = unsafe {
            let function = pg_sys::index_getprocinfo(index, 1, SUPPORT);
            pg_sys::FunctionCall0Coll(function, pg_sys::InvalidOid).value() as i32
        };
        match Metric::from_number((number & 255) as u8) {
            Some(metric) => Self { metric, half: number & HALF != 0 },
            None => Report::new(
                pgrx::PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
                "support function 1 of the operator class does not name a distance",
            )
            .raise(),
        }
    }

    /// Type of the values.
    pub fn kind(self) -> Kind {
        if self.half { Kind::Halfvec } else { Kind::Vector }
    }

    /// Shows the elements of a value.
    ///
    /// # Safety
    /// The datum is a value of the class's type.
    pub unsafe fn with<R>(self, datum: Datum, see: impl FnOnce(&[f32]) -> pg_answer_ann::Result<R>) -> R {
        if self.half {
            // SAFETY: the caller vouches for the datum.
            let vector = unsafe { Vector::<f16>::from_datum(datum) };
            let wide: Vec<f32> = vector.iter().map(|x| x.to_f32()).collect();
            see(&wide).or_raise()
        } else {
            // SAFETY: the caller vouches for the datum.
            see(&unsafe { Vector::<f32>::from_datum(datum) }).or_raise()
        }
    }
}

fn number<E: Element, const METRIC: u8>(_: Args) -> i32 {
    i32::from(METRIC) + if size_of::<E>() == size_of::<f16>() { HALF } else { 0 }
}

sql_functions! {
    ann_vector_l2 => number::<f32, { Metric::L2 as u8 }>;
    ann_vector_ip => number::<f32, { Metric::InnerProduct as u8 }>;
    ann_vector_cosine => number::<f32, { Metric::Cosine as u8 }>;
    ann_vector_l1 => number::<f32, { Metric::L1 as u8 }>;
    ann_halfvec_l2 => number::<f16, { Metric::L2 as u8 }>;
    ann_halfvec_ip => number::<f16, { Metric::InnerProduct as u8 }>;
    ann_halfvec_cosine => number::<f16, { Metric::Cosine as u8 }>;
    ann_halfvec_l1 => number::<f16, { Metric::L1 as u8 }>;
}

//! What can be wrong with a vector that a user wrote or computed.

use std::fmt;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The SQL type that an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `vector`, elements of 32 bits.
    Vector,
    /// `halfvec`, elements of 16 bits.
    Halfvec,
}

impl Kind {
    /// Name of the SQL type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Halfvec => "halfvec",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What can be wrong with a vector. `Display` gives the message that pgvector gives; the documentation of each
/// variant names the SQLSTATE.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no vector. SQLSTATE 22P02.
    #[error("invalid input syntax for type {kind}: \"{input}\"")]
    Syntax {
        /// Type that was to be read.
        kind: Kind,
        /// The whole text.
        input: String,
        /// What is wrong, where pgvector says so in the DETAIL.
        detail: Option<&'static str>,
    },
    /// No element at all. SQLSTATE 22000.
    #[error("{0} must have at least 1 dimension")]
    NoDimensions(Kind),
    /// More than [`crate::MAX_DIMENSIONS`]. SQLSTATE 54000.
    #[error("{0} cannot have more than {max} dimensions", max = crate::MAX_DIMENSIONS)]
    TooManyDimensions(Kind),
    /// Not the number of dimensions that the column or the aggregate has. SQLSTATE 22000.
    #[error("expected {expected} dimensions, not {actual}")]
    UnexpectedDimensions {
        /// Dimensions of the column or aggregate.
        expected: usize,
        /// Dimensions of the value.
        actual: usize,
    },
    /// Two vectors do not go together. SQLSTATE 22000.
    #[error("different {kind} dimensions {left} and {right}")]
    DifferentDimensions {
        /// Type of both.
        kind: Kind,
        /// Dimensions of the left one.
        left: usize,
        /// Dimensions of the right one.
        right: usize,
    },
    /// An element is not a number. SQLSTATE 22000.
    #[error("NaN not allowed in {0}")]
    NotANumber(Kind),
    /// An element is infinite. SQLSTATE 22000.
    #[error("infinite value not allowed in {0}")]
    Infinite(Kind),
    /// A number is too large for an element. SQLSTATE 22003.
    #[error("\"{value}\" is out of range for type {kind}")]
    OutOfRange {
        /// Type of the vector.
        kind: Kind,
        /// The number, as it was written or as PostgreSQL prints it.
        value: String,
    },
    /// An element of the result is too large. SQLSTATE 22003.
    #[error("value out of range: overflow")]
    Overflow,
    /// A product of two numbers that are not zero is zero. SQLSTATE 22003.
    #[error("value out of range: underflow")]
    Underflow,
    /// The reserved field of the binary form is set. SQLSTATE 22000.
    #[error("expected unused to be 0, not {0}")]
    Unused(u16),
    /// The binary form ends too early. SQLSTATE 08P01.
    #[error("insufficient data left in message")]
    Truncated,
    /// The binary form goes on after its last element. SQLSTATE 22P03.
    #[error("incorrect binary data format")]
    TrailingData,
}

impl Error {
    /// DETAIL of the error, where pgvector gives one.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Syntax { detail, .. } => *detail,
            _ => None,
        }
    }
}

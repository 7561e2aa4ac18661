//! What can go wrong in an index.

/// Error of an index operation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A page does not hold what it must.
    #[error("index page {block} is damaged: {what}")]
    Corrupt {
        /// Number of the page.
        block: u32,
        /// What is wrong with it.
        what: String,
    },
    /// A page was written by a version with another format.
    #[error("index page {block} has the format of another version of pg_answer")]
    Version {
        /// Number of the page.
        block: u32,
    },
    /// The index does not hold a row of the table as it is.
    #[error("index and table disagree about row ({},{}): {what}", row >> 16, row & 0xffff)]
    Row {
        /// The row.
        row: crate::RowId,
        /// What is wrong with it.
        what: String,
    },
    /// A standby has reused a page under a running scan.
    #[error("index page {block} was reused while the scan ran")]
    Reused {
        /// Number of the page.
        block: u32,
    },
    /// A vector of another length than the index has.
    #[error("expected {expected} dimensions, not {found}")]
    Dimensions {
        /// Dimensions of the index.
        expected: usize,
        /// Dimensions of the vector.
        found: usize,
    },
    /// The store refused; only stores of tests do.
    #[error("page store: {0}")]
    Store(String),
}

/// Result of an index operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A [`Error::Corrupt`].
pub(crate) fn corrupt<T>(block: u32, what: impl Into<String>) -> Result<T> {
    Err(Error::Corrupt { block, what: what.into() })
}

//! Errors of the crates become PostgreSQL errors here, and only here.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// What a user is told: SQLSTATE, message, and where they help a detail and a hint.
pub struct Report {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Report {
    /// An error without detail and hint.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    /// An error about an argument's value.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// What was found, in a sentence.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What to do about it, in a sentence.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Reports at `level`; returns only if that is below ERROR.
    pub fn report(self, level: PgLogLevel) {
        let mut report = ErrorReport::new(self.code, self.message, "");
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        report.report(level);
    }

    /// Raises the ERROR.
    pub fn raise(self) -> ! {
        self.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// `result.or_raise()`: the value, or the error as a PostgreSQL ERROR.
pub trait OrRaise<T> {
    /// The value, or the error as a PostgreSQL ERROR.
    fn or_raise(self) -> T;
}

impl<T, E: Into<Report>> OrRaise<T> for Result<T, E> {
    fn or_raise(self) -> T {
        self.unwrap_or_else(|e| e.into().raise())
    }
}

/// `value`, or an ERROR that the argument `name` is NULL.
pub fn given<T>(name: &str, value: Option<T>) -> T {
    value.unwrap_or_else(|| {
        Report::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{name} must not be NULL"))
            .hint("Leave the argument out for its default, where it has one.")
            .raise()
    })
}

/// `required!(a, b);` for arguments of functions that are not STRICT: puts the value of each in its place, or raises an ERROR that
/// it is NULL.
macro_rules! required {
    ($($argument:ident),+) => { $(let $argument = crate::error::given(stringify!($argument), $argument);)+ };
}
pub(crate) use required;

impl From<pgrx::spi::Error> for Report {
    fn from(error: pgrx::spi::Error) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, error.to_string())
    }
}

impl From<pg_answer_vector::Error> for Report {
    fn from(error: pg_answer_vector::Error) -> Self {
        use pg_answer_vector::Error;
        let code = match &error {
            Error::Syntax { .. } => PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
            Error::NoDimensions(_)
            | Error::UnexpectedDimensions { .. }
            | Error::DifferentDimensions { .. }
            | Error::NotANumber(_)
            | Error::Infinite(_)
            | Error::Unused(_) => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
            Error::TooManyDimensions(_) => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Error::OutOfRange { .. } | Error::Overflow | Error::Underflow => {
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE
            }
            Error::Truncated => PgSqlErrorCode::ERRCODE_PROTOCOL_VIOLATION,
            Error::TrailingData => PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
        };
        let report = Self::new(code, error.to_string());
        match error.detail() {
            Some(detail) => report.detail(detail),
            None => report,
        }
    }
}

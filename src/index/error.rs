//! What errors of the index are to a user.

use pg_answer_ann::Error;
use pgrx::PgSqlErrorCode;

use crate::error::Report;

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Corrupt { .. } => Self::new(PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED, message)
                .hint("REINDEX the index, and look for the cause: disk, memory, crash without fsync."),
            Error::Version { .. } => Self::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                .hint("REINDEX the index."),
            Error::Row { .. } => Self::new(PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED, message)
                .hint("REINDEX the index, and look for the cause: disk, memory, an expression that is not immutable."),
            Error::Reused { .. } => Self::new(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, message)
                .hint("Repeat the statement. On a primary, the index is damaged: REINDEX it."),
            Error::Dimensions { .. } => Self::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, message),
            Error::Store(_) => Self::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message),
        }
    }
}

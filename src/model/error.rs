//! What users are told about models that are missing, damaged or misused.

use pg_answer_inference::Error;
use pg_answer_models::Catalogue;
use pgrx::PgSqlErrorCode as Code;

use crate::error::Report;
use crate::settings;

impl From<pg_answer_models::Error> for Report {
    fn from(error: pg_answer_models::Error) -> Self {
        use pg_answer_models::Error as Model;
        let message = error.to_string();
        match error {
            Model::InvalidName(_) => Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
                .detail("A model name consists of letters, digits, dots, underscores and hyphens."),
            Model::NotInstalled { name, root } => {
                let root = root.display().to_string();
                Report::new(Code::ERRCODE_UNDEFINED_OBJECT, message)
                    .detail(format!("There is no such model in pg_answer.model_path, \"{root}\"."))
                    .hint(how_to_get(&name, &root))
            }
            Model::Damaged { path, .. } => {
                let name = path.strip_prefix(settings::model_path()).ok().and_then(|p| p.iter().next());
                let report = Report::new(Code::ERRCODE_DATA_CORRUPTED, message);
                match name {
                    Some(name) => report.hint(format!(
                        "Run on the server: pg_answer_model pull {} --model-path {}",
                        name.to_string_lossy(),
                        shell_quote(&settings::model_path())
                    )),
                    None => report,
                }
            }
            Model::Io { .. } => Report::new(Code::ERRCODE_IO_ERROR, message)
                .hint("The operating-system user of the server must be able to read the model's folder."),
        }
    }
}

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Model(e) => e.into(),
            Error::Unsupported { .. } => Report::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message),
            Error::InvalidInput(_) => Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message),
            Error::TooLong { .. } => Report::new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                .hint("Shorten the prompt or lower max_tokens."),
            Error::Memory { .. } => Report::new(Code::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, message)
                .hint("Shorten the prompt, lower max_tokens, or raise pg_answer.max_memory."),
            Error::Schema(reason) => {
                Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "the schema cannot be used")
                    .detail(reason)
                    .hint("docs/tasks.md lists the keywords of JSON Schema that can be held.")
            }
            Error::Interrupted => Report::new(Code::ERRCODE_QUERY_CANCELED, message),
            Error::Internal(_) => Report::new(Code::ERRCODE_INTERNAL_ERROR, message),
        }
    }
}

/// The command that installs the model `name`, if it is one that can be pulled.
fn how_to_get(name: &str, root: &str) -> String {
    if Catalogue::built_in().is_ok_and(|catalogue| catalogue.get(name).is_ok()) {
        return format!("Run on the server: pg_answer_model pull {name} --model-path {}", shell_quote(root));
    }
    "\"pg_answer_model list --available\" shows what can be pulled; \"pg_answer_model add\" installs other models."
        .to_owned()
}

/// `text` as one word of a POSIX shell.
fn shell_quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

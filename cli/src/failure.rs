//! What went wrong, and what to do about it.

use std::io::{Error as IoError, ErrorKind};
use std::path::Path;

use pg_answer_models::catalogue;

/// Result of this program.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    kind: FailureKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    /// A source did not give what was asked for; another may.
    Ordinary,
    /// This machine refused (no space, no permission): no source can help.
    Local,
    /// What was asked for makes no sense.
    Usage,
    /// A signal came.
    Interrupted,
}

impl Failure {
    /// A failure that another source may mend.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, kind: FailureKind::Ordinary }
    }

    /// A failure of this machine, which no other source can mend.
    pub fn local(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Local, ..Self::new(message) }
    }

    /// What was asked for makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Usage, ..Self::new(message) }
    }

    /// The failure of an access to `path`.
    pub fn io(path: &Path, error: IoError) -> Self {
        pg_answer_models::Error::io(path, error).into()
    }

    /// A signal came.
    pub fn interrupted() -> Self {
        let failure = Self::new("interrupted").hint("run the same command again to go on where it stopped");
        Self { kind: FailureKind::Interrupted, ..failure }
    }

    /// The same with a sentence on what to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same about `what`.
    pub fn of(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether it makes no sense to try another source.
    pub fn is_final(&self) -> bool {
        self.kind != FailureKind::Ordinary
    }

    /// Whether the same may go well another time.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, FailureKind::Ordinary | FailureKind::Interrupted)
    }

    /// Status to exit with.
    pub fn status(&self) -> u8 {
        match self.kind {
            FailureKind::Ordinary | FailureKind::Local => 1,
            FailureKind::Usage => 2,
            FailureKind::Interrupted => 130,
        }
    }

    /// Lines for people.
    pub fn report(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        format!("error: {}\n{hint}", self.message)
    }
}

/// What to do when the operating system refuses.
fn hint(error: &IoError) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::PermissionDenied => {
            "run the command with sudo, or choose a folder of your own with --model-path DIR \
             (and set pg_answer.model_path to it)"
        }
        ErrorKind::ReadOnlyFilesystem => "choose a folder that can be written with --model-path DIR",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space, or choose a folder on another disk with --model-path DIR; \
             what has been downloaded is kept, and the same command goes on from there"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "the path must lead to a folder",
        _ => return None,
    })
}

impl From<pg_answer_models::Error> for Failure {
    fn from(error: pg_answer_models::Error) -> Self {
        use pg_answer_models::Error;
        let failure = Self::local(error.to_string());
        match error {
            Error::InvalidName(_) => Self { kind: FailureKind::Usage, ..failure }.hint(
                "a name begins with a letter or digit and has letters, digits, dots, hyphens and underscores",
            ),
            Error::NotInstalled { name, root } => {
                let root = root.display();
                Self::local(format!("model \"{name}\" is not installed in {root}"))
                    .hint(format!("get it with: pg_answer_model --model-path {root} pull {name}"))
            }
            Error::Damaged { .. } => failure.hint("get the model again with: pg_answer_model pull NAME"),
            Error::Io { source, .. } => match hint(&source) {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
        }
    }
}

impl From<pg_answer_inference::Error> for Failure {
    fn from(error: pg_answer_inference::Error) -> Self {
        use pg_answer_inference::Error;
        match error {
            Error::Model(error) => error.into(),
            Error::Interrupted => Self::interrupted(),
            error => Self::local(error.to_string()),
        }
    }
}

impl From<catalogue::Error> for Failure {
    fn from(error: catalogue::Error) -> Self {
        let failure = Self { kind: FailureKind::Usage, ..Self::new(error.to_string()) };
        match error {
            catalogue::Error::Unknown { near, .. } if near.is_empty() => {
                failure.hint("see what there is with: pg_answer_model list --available")
            }
            catalogue::Error::Unknown { near, .. } => failure
                .hint(format!("did you mean {}? See: pg_answer_model list --available", near.join(" or "))),
            catalogue::Error::Invalid(_) => Self { kind: FailureKind::Local, ..failure },
            catalogue::Error::Io { .. } => Self { kind: FailureKind::Local, ..failure },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_system_say_what_to_do() {
        for (kind, word) in [
            (ErrorKind::PermissionDenied, "sudo"),
            (ErrorKind::StorageFull, "free some space"),
            (ErrorKind::ReadOnlyFilesystem, "--model-path"),
        ] {
            let failure = Failure::io(Path::new("/x/y"), kind.into());
            assert!(failure.report().contains(word), "{}", failure.report());
            assert!(failure.report().contains("/x/y"), "{}", failure.report());
            assert!(failure.is_final());
            assert_eq!(failure.status(), 1);
        }
    }

    #[test]
    fn a_source_that_failed_is_not_the_end() {
        assert!(!Failure::new("no answer").is_final());
        assert!(Failure::interrupted().is_final());
    }
}

//! The PostgreSQL installation under test.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

/// A PostgreSQL installation, and the user that its servers run as.
#[derive(Debug, Clone)]
pub struct Installation {
    bin: PathBuf,
    share: PathBuf,
    pgxs: PathBuf,
    major: u32,
    /// User and group id when the tests run as root, whom PostgreSQL refuses.
    server_user: Option<(u32, u32)>,
}

impl Installation {
    /// Finds the installation: `$PG_CONFIG`, else the newest below /usr/lib/postgresql, else `pg_config` in `$PATH`.
    ///
    /// # Errors
    /// When none of them runs, or the tests run as root and there is no user `postgres`.
    pub fn find() -> Result<Self> {
        let pg_config = match std::env::var_os("PG_CONFIG") {
            Some(path) => PathBuf::from(path),
            None => newest_debian_pg_config().unwrap_or_else(|| PathBuf::from("pg_config")),
        };
        let ask = |option: &str| -> Result<PathBuf> {
            let output = run(Command::new(&pg_config).arg(option))
                .context("no PostgreSQL found: install one or set PG_CONFIG to its pg_config")?;
            Ok(PathBuf::from(output.trim_end()))
        };
        let version = ask("--version")?;
        let major = version.to_string_lossy().split([' ', '.']).find_map(|word| word.parse().ok());
        let server_user = if is_root()? { Some(user_ids("postgres")?) } else { None };
        Ok(Self {
            bin: ask("--bindir")?,
            share: ask("--sharedir")?,
            pgxs: ask("--pgxs")?,
            major: major.with_context(|| format!("cannot read the version in {version:?}"))?,
            server_user,
        })
    }

    /// Folder of `postgres`, `psql`, ...
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// A command for one of the installation's programs, or for any other by its full path, run as the user that
    /// owns the servers, with no connection settings of the caller's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        self.prepare(&mut command);
        command
    }

    /// The driver of regression tests that PGXS ships.
    ///
    /// # Errors
    /// When the server's development files are not installed.
    pub fn pg_regress(&self) -> Result<Command> {
        let makefiles = self.pgxs.parent().context("odd path of PGXS")?;
        let path = makefiles.join("../test/regress/pg_regress");
        ensure!(
            path.exists(),
            "{} is missing: install the server's development package (postgresql-server-dev-{})",
            path.display(),
            self.major
        );
        let mut command = Command::new(path);
        self.prepare(&mut command);
        Ok(command)
    }

    /// Fails unless `make install` put the extension into this installation.
    ///
    /// # Errors
    /// With what to run.
    pub fn check_extension(&self) -> Result<()> {
        let control = self.share.join("extension/pg_answer.control");
        ensure!(
            control.exists(),
            "{} is missing: run `make install` (`make test` does it) before the SQL tests",
            control.display()
        );
        Ok(())
    }

    /// Gives `path` to the user that owns the servers.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn give_to_server_user(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.server_user {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("chown {}", path.display()))?;
        }
        Ok(())
    }

    fn prepare(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.server_user {
            command.uid(uid).gid(gid);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(&name);
            }
        }
        command.env("LC_ALL", "C").current_dir("/");
    }
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the message holds what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let stdout = String::from_utf8(stdout).context("output is not UTF-8")?;
    if !status.success() {
        bail!("{command:?}: {status}\n{stdout}{}", String::from_utf8_lossy(&stderr));
    }
    Ok(stdout)
}

/// `pg_config` of the highest version in Debian's layout.
fn newest_debian_pg_config() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let versions = versions.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    versions
        .map(|version| (version, PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/pg_config"))))
        .filter(|(_, path)| path.exists())
        .max()
        .map(|(_, path)| path)
}

fn is_root() -> Result<bool> {
    Ok(run(Command::new("id").arg("-u"))?.trim() == "0")
}

fn user_ids(user: &str) -> Result<(u32, u32)> {
    let id = |option: &str| -> Result<u32> {
        let text = run(Command::new("id").args([option, user]))
            .with_context(|| format!("PostgreSQL does not run as root, and there is no user {user}"))?;
        Ok(text.trim().parse()?)
    };
    Ok((id("-u")?, id("-g")?))
}

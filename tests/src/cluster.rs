//! Throw-away database clusters.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use postgres::{Client, NoTls};

use crate::installation::{Installation, run};
use crate::models::ModelStore;
use crate::watchdog::Watchdog;

/// Sockets lie in a folder of the cluster's own, so every cluster can have the usual number.
const PORT: u16 = 5432;
/// The superuser of every cluster.
pub const SUPERUSER: &str = "postgres";

/// What a cluster shall be like.
#[derive(Debug, Default)]
pub struct Options {
    settings: Vec<String>,
    crash_safe: bool,
    plain: bool,
    models: Option<PathBuf>,
    models_required: bool,
}

/// A running database cluster in a temporary folder.
pub struct Cluster {
    installation: Installation,
    folder: PathBuf,
    crash_safe: bool,
    plain: bool,
    databases: AtomicUsize,
    _watchdog: Watchdog,
}

impl Options {
    /// Adds a line of postgresql.conf.
    pub fn setting(mut self, line: impl Into<String>) -> Self {
        self.settings.push(line.into());
        self
    }

    /// Keeps fsync on: for tests that kill servers.
    pub fn crash_safe(mut self) -> Self {
        self.crash_safe = true;
        self
    }

    /// Plain PostgreSQL: databases are created without the extension, which need not be installed.
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Sets `pg_answer.model_path` to the store of the environment; starting fails if there is none.
    pub fn models(mut self) -> Self {
        self.models_required = true;
        self
    }

    /// Sets `pg_answer.model_path` to `folder`.
    pub fn models_in(mut self, folder: &Path) -> Self {
        self.models = Some(folder.to_owned());
        self
    }

    /// Makes and starts the cluster.
    ///
    /// # Errors
    /// When PostgreSQL, the extension or the models are not installed, or the server does not start.
    pub fn start(self) -> Result<Cluster> {
        let installation = Installation::find()?;
        if !self.plain {
            installation.check_extension()?;
        }
        let models = match self.models {
            Some(folder) => Some(folder),
            None if self.models_required => Some(ModelStore::find()?.path().to_owned()),
            None => None,
        };
        let mut cluster = Cluster::folder_for(installation, self.crash_safe, self.plain)?;
        cluster.make_data()?;
        let mut lines = cluster.base_settings();
        lines.extend(models.map(|path| format!("pg_answer.model_path = '{}'", path.display())));
        lines.extend(self.settings);
        cluster.append_settings(&lines)?;
        cluster.start()?;
        Ok(cluster)
    }
}

impl Cluster {
    /// An empty folder with its watchdog; there is no server yet.
    fn folder_for(installation: Installation, crash_safe: bool, plain: bool) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pg_answer.").tempdir().context("no temporary folder")?;
        installation.give_to_server_user(folder.path())?;
        let folder = folder.keep();
        let watchdog = Watchdog::start(&installation, &folder.join("data"), &folder)?;
        let databases = AtomicUsize::new(0);
        Ok(Self { installation, folder, crash_safe, plain, databases, _watchdog: watchdog })
    }

    fn make_data(&self) -> Result<()> {
        run(self
            .installation
            .command("initdb")
            .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N", "-D"])
            .arg(self.data()))?;
        Ok(())
    }

    fn base_settings(&self) -> Vec<String> {
        let mut lines = vec![
            format!("unix_socket_directories = '{}'", self.folder.display()),
            "listen_addresses = ''".to_owned(),
            "wal_level = replica".to_owned(),
            "max_wal_senders = 4".to_owned(),
            "log_error_verbosity = verbose".to_owned(),
            "shared_buffers = 64MB".to_owned(),
            // What pg_regress sets in the databases that it makes itself.
            "timezone = 'PST8PDT'".to_owned(),
            "datestyle = 'Postgres, MDY'".to_owned(),
            "intervalstyle = 'postgres_verbose'".to_owned(),
            "bytea_output = 'hex'".to_owned(),
        ];
        if !self.crash_safe {
            lines.push("fsync = off".to_owned());
        }
        lines
    }

    /// Appends to postgresql.conf; takes effect at the next start.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append_settings(&self, lines: &[String]) -> Result<()> {
        let path = self.data().join("postgresql.conf");
        let mut file = std::fs::File::options().append(true).open(&path).context("no postgresql.conf")?;
        lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
        Ok(())
    }

    /// Starts the server; returns when it takes connections.
    ///
    /// # Errors
    /// With the server's log.
    pub fn start(&mut self) -> Result<()> {
        self.pg_ctl("start").with_context(|| self.log())
    }

    /// Stops the server, rolling back what is open.
    ///
    /// # Errors
    /// With the server's log.
    pub fn stop(&mut self) -> Result<()> {
        self.pg_ctl("stop").with_context(|| self.log())
    }

    /// SIGKILL for the postmaster and all its processes: what a crash of the machine leaves behind.
    ///
    /// # Errors
    /// When the server does not run.
    pub fn kill(&mut self) -> Result<()> {
        let pid_file = std::fs::read_to_string(self.data().join("postmaster.pid")).context("not running")?;
        let postmaster = pid_file.lines().next().context("empty postmaster.pid")?;
        // Stopped first: else it could start one more process after they are listed.
        run(Command::new("kill").args(["-STOP", postmaster]))?;
        let children = run(Command::new("ps").args(["-o", "pid=", "--ppid", postmaster]))?;
        // The postmaster first: it would restart the server when it sees a child die.
        run(Command::new("kill").args(["-9", postmaster]))?;
        // A child may have ended by itself meanwhile; what counts is that all are gone, below.
        Command::new("kill").arg("-9").args(children.split_whitespace()).output()?;
        // Nothing can start on the data folder before the last of them is gone, even as a zombie.
        for pid in children.split_whitespace().chain([postmaster]) {
            crate::timing::wait_until("a killed process to be gone", || {
                Ok(!Path::new("/proc").join(pid).exists())
            })?;
        }
        Ok(())
    }

    /// A hot standby of this cluster, streaming from it.
    ///
    /// # Errors
    /// When the base backup fails or the standby does not start.
    pub fn standby(&self) -> Result<Cluster> {
        let mut standby = Self::folder_for(self.installation.clone(), self.crash_safe, self.plain)?;
        run(self
            .connected_command("pg_basebackup")
            .args(["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "-D"])
            .arg(standby.data()))?;
        standby.append_settings(&[format!("unix_socket_directories = '{}'", standby.folder.display())])?;
        standby.start()?;
        Ok(standby)
    }

    /// Makes a standby the primary; returns when it takes writes.
    ///
    /// # Errors
    /// When it is none.
    pub fn promote(&mut self) -> Result<()> {
        self.pg_ctl("promote").with_context(|| self.log())
    }

    /// This cluster as pg_upgrade brings it into a new one, of the same version; it is stopped.
    ///
    /// # Errors
    /// With what pg_upgrade says.
    pub fn upgraded(mut self) -> Result<Cluster> {
        self.stop()?;
        let mut new = Self::folder_for(self.installation.clone(), self.crash_safe, self.plain)?;
        new.make_data()?;
        std::fs::copy(self.data().join("postgresql.conf"), new.data().join("postgresql.conf"))?;
        new.append_settings(&[format!("unix_socket_directories = '{}'", new.folder.display())])?;
        run(new
            .installation
            .command("pg_upgrade")
            .current_dir(&new.folder)
            .args(["-U", SUPERUSER, "-s"])
            .arg(&new.folder)
            .args(
                ["-b", "-B"]
                    .into_iter()
                    .flat_map(|option| [option.as_ref(), self.installation.bin().as_os_str()]),
            )
            .arg("-d")
            .arg(self.data())
            .arg("-D")
            .arg(new.data()))?;
        new.start()?;
        Ok(new)
    }

    /// Waits until `standby` has replayed everything committed here so far.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_for_replay(&self, standby: &Cluster) -> Result<()> {
        let row = self.client(SUPERUSER)?.query_one("SELECT pg_current_wal_insert_lsn()::text", &[])?;
        let lsn: String = row.get(0);
        let mut client = standby.client(SUPERUSER)?;
        let sql = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";
        crate::timing::wait_until("the standby to catch up", || Ok(client.query_one(sql, &[&lsn])?.get(0)))
    }

    /// Creates a database with the extension in schema `public` and returns its name, which begins with `prefix`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self, prefix: &str) -> Result<String> {
        let name = self.create_empty_database(prefix)?;
        if !self.plain {
            self.client(&name)?.batch_execute("CREATE EXTENSION pg_answer")?;
        }
        Ok(name)
    }

    /// Creates a database without the extension and returns its name, which begins with `prefix`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_empty_database(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        // template0, since sessions in template1 would get in each other's way.
        self.client(SUPERUSER)?.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(name)
    }

    /// A session of the superuser.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn client(&self, database: &str) -> Result<Client> {
        self.client_as(SUPERUSER, database)
    }

    /// A session of `role`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn client_as(&self, role: &str, database: &str) -> Result<Client> {
        let config = self.config(role, database);
        config.connect(NoTls).with_context(|| format!("cannot connect to {database} as {role}"))
    }

    /// How to connect as `role`, for sessions with something of their own, such as a callback for notices.
    pub fn config(&self, role: &str, database: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config.host_path(&self.folder).port(PORT).user(role).dbname(database);
        config
    }

    /// What psql prints for `script`, stopping at the first error. `options` come before the script.
    ///
    /// # Errors
    /// When a statement fails, with all that psql printed.
    pub fn psql(&self, database: &str, options: &[&str], script: &str) -> Result<String> {
        let mut psql = self.connected_command("psql");
        psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", database]).args(options);
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run psql")?;
        let mut stdin = child.stdin.take().context("no pipe to psql")?;
        let output = std::thread::scope(|scope| {
            // A thread of its own: psql may print much before it has read all. It may also stop reading.
            scope.spawn(move || stdin.write_all(script.as_bytes()));
            child.wait_with_output()
        })?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "psql: {}\n{printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(printed)
    }

    /// A command for one of PostgreSQL's client programs that connects here as superuser.
    pub fn connected_command(&self, program: &str) -> Command {
        let mut command = self.installation.command(program);
        for (name, value) in self.connection() {
            command.env(name, value);
        }
        command
    }

    /// Environment that makes any libpq program connect here as superuser; the database is not set.
    pub fn connection(&self) -> [(&'static str, String); 3] {
        [
            ("PGHOST", self.folder.display().to_string()),
            ("PGPORT", PORT.to_string()),
            ("PGUSER", SUPERUSER.to_owned()),
        ]
    }

    /// The installation that it runs.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// A folder that the server's user can write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn pg_ctl(&self, action: &str) -> Result<()> {
        let mut pg_ctl = self.installation.command("pg_ctl");
        pg_ctl.args([action, "-w", "-t", "120", "-m", "fast", "-D"]).arg(self.data()).arg("-l");
        // The server inherits these; pipes would keep the reader waiting for its end.
        let status = pg_ctl
            .arg(self.folder.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run pg_ctl")?;
        ensure!(status.success(), "pg_ctl {action}: {status}");
        Ok(())
    }
}

//! Stops a server and removes its folder when the test is over, however it ends.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context, Result};

use crate::Installation;

/// A shell that waits for the end of its standard input. The kernel closes that pipe when the test process ends,
/// even by SIGKILL, so no server outlives its test; `static` clusters, which Rust never drops, need it too.
pub struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Watches over the server of `installation` with data folder `data` inside `folder`.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn start(installation: &Installation, data: &Path, folder: &Path) -> Result<Self> {
        let script = r#"trap '' INT TERM HUP QUIT
            read -r _
            "$1" stop -D "$2" -m immediate -w
            rm -rf "$3""#;
        let mut shell = installation
            .command("/bin/sh")
            .args(["-c", script, "sh"])
            .args([&installation.bin().join("pg_ctl"), data, folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the watchdog's shell")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Nothing useful can be done about a failure while a test ends.
        let _ = self.shell.wait();
    }
}

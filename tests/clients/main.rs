//! Programs of other languages, as users run them: `clients/test_*.py` with the packages of `requirements.txt`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::Options;
use pg_answer_tests::installation::run;

#[test]
fn python() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let python = virtual_environment(&folder.join("requirements.txt"))?;
    let cluster = Options::default().start()?;
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path| path.as_ref().is_ok_and(|p| p.extension().is_some_and(|e| e == "py")))
        .collect::<Result<_>>()?;
    scripts.sort();
    ensure!(!scripts.is_empty(), "no script in {}", folder.display());
    for script in scripts {
        let database = cluster.create_database("clients")?;
        let output = run(Command::new(&python)
            .arg(&script)
            .envs(cluster.connection())
            .env("PGDATABASE", &database)
            .env("PYTHONDONTWRITEBYTECODE", "1"))?;
        println!("{}\n{output}", script.display());
    }
    Ok(())
}

/// The interpreter of a virtual environment with exactly these packages, kept between runs of one version of Python.
fn virtual_environment(requirements: &Path) -> Result<PathBuf> {
    let wanted = std::fs::read(requirements).with_context(|| requirements.display().to_string())?;
    let version = run(Command::new("python3").arg("--version"))
        .context("python3 with its module venv is needed (Debian: python3-venv)")?;
    let mut hasher = DefaultHasher::new();
    (wanted, version).hash(&mut hasher);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{:016x}", hasher.finish()));
    let python = folder.join("bin/python");
    let complete = folder.join("complete");
    if !complete.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
            .context("python3's module venv is needed (Debian: python3-venv)")?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))?;
        std::fs::write(&complete, "")?;
    }
    Ok(python)
}

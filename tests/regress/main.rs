//! Runs `regress/sql/*.sql` through the real pg_regress and compares with `regress/expected`.
//!
//! Each file begins in a database of its own, where `CREATE EXTENSION pg_answer` was done. On a difference the test
//! prints it; to accept what was printed, copy the file of results that the message names over the expected one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pg_answer_tests::{Cluster, ModelStore, Options};

#[test]
fn regress() -> Result<()> {
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("regress");
    let files = sql_files(&input.join("sql"))?;
    ensure!(!files.is_empty(), "no file in {}", input.display());
    let cluster = Options::default().models_in(ModelStore::find()?.path()).start()?;
    // The driver runs as the server's user, who may not be able to read the source tree or write the target folder.
    let staged = cluster.folder().join("regress");
    copy_for_server_user(&cluster, &input, &staged)?;
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("regress");
    std::fs::create_dir_all(&kept)?;
    let mut failures = Vec::new();
    for file in &files {
        if let Err(error) = run_file(&cluster, &staged, &kept, file) {
            failures.push(format!("{file}: {error:?}"));
        }
    }
    println!("{} of {} files as expected", files.len() - failures.len(), files.len());
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Names without `.sql`, in order.
fn sql_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().into_string().ok().context("odd file name")?;
        names.extend(name.strip_suffix(".sql").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn copy_for_server_user(cluster: &Cluster, from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-R").args([from, to]).status()?;
    ensure!(status.success(), "cannot copy {}", from.display());
    std::fs::create_dir_all(to.join("results"))?;
    for folder in [to.to_owned(), to.join("results")] {
        cluster.installation().give_to_server_user(&folder)?;
    }
    Ok(())
}

fn run_file(cluster: &Cluster, staged: &Path, kept: &Path, file: &str) -> Result<()> {
    let database = cluster.create_database("regress")?;
    let mut driver = cluster.installation().pg_regress()?;
    driver.arg("--use-existing").arg(format!("--dbname={database}"));
    for (name, value) in cluster.connection() {
        driver.arg(format!("--{}={value}", name.trim_start_matches("PG").to_lowercase()));
    }
    driver.arg(format!("--bindir={}", cluster.installation().bin().display()));
    driver.arg(format!("--inputdir={}", staged.display()));
    driver.arg(format!("--outputdir={}", staged.display())).arg(file);
    let output = driver.current_dir(staged).output().context("cannot run pg_regress")?;
    if output.status.success() {
        println!("{file}: ok");
        return Ok(());
    }
    let results = kept.join(format!("{file}.out"));
    std::fs::copy(staged.join(format!("results/{file}.out")), &results)
        .context("pg_regress left no results")?;
    let differences = std::fs::read_to_string(staged.join("regression.diffs")).unwrap_or_default();
    // The next file's message shall not show these again; there is no file when the expected one is missing.
    let _ = std::fs::remove_file(staged.join("regression.diffs"));
    anyhow::bail!(
        "{}\nresults: {}\n{differences}{}",
        output.status,
        results.display(),
        if differences.is_empty() { String::from_utf8_lossy(&output.stdout) } else { "".into() }
    )
}

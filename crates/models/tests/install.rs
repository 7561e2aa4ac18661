//! A model comes into the store whole or not at all.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::card;
use pg_answer_models::{Card, Error, Staging, Store};

fn stage(store: &Store, files: &[(&str, &[u8])]) -> Staging {
    let staging = store.stage("m", &mut || panic!("nobody else is at it")).unwrap();
    for (path, bytes) in files {
        fs::write(staging.file(path).unwrap(), bytes).unwrap();
    }
    staging
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

const OLD: &[(&str, &[u8])] = &[("weights.bin", b"old"), ("gone.txt", b"x")];
const NEW: &[(&str, &[u8])] = &[("weights.bin", b"new!"), ("a/b/config.json", b"{}")];

#[test]
fn installs_replaces_and_removes() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("a/store"));
    for files in [OLD, NEW] {
        let installed = stage(&store, files).install(&card("m", files)).unwrap();
        let model = store.open("m").unwrap();
        assert_eq!(installed.dir, model.dir);
        assert_eq!(fs::read(model.weights().unwrap()).unwrap(), files[0].1);
        let entries = fs::read_dir(store.root()).unwrap().count();
        assert_eq!(entries, 1, "only the model is left in the store");
    }
    assert!(!store.root().join("m/gone.txt").exists());
    store.remove("m", &mut || ()).unwrap();
    assert!(matches!(store.open("m"), Err(Error::NotInstalled { .. })));
    assert!(matches!(store.remove("m", &mut || ()), Err(Error::NotInstalled { .. })));
    assert_eq!(fs::read_dir(store.root()).unwrap().count(), 0);
}

#[test]
fn the_server_can_read_what_is_installed() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("store"));
    let staging = stage(&store, NEW);
    let file = staging.file("weights.bin").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let model = staging.install(&card("m", NEW)).unwrap();
    for path in ["weights.bin", "a/b/config.json", "model.json"] {
        assert_eq!(mode(&model.dir.join(path)), 0o644, "{path}");
    }
    for path in ["", "a", "a/b", ".."] {
        assert_eq!(mode(&model.dir.join(path)), 0o755, "{path}");
    }
}

#[test]
fn what_is_not_whole_does_not_replace_what_is() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    stage(&store, OLD).install(&card("m", OLD)).unwrap();
    // A file is missing; a file is cut; the card is another model's.
    let staging = stage(&store, &NEW[..1]);
    assert!(matches!(staging.install(&card("m", NEW)), Err(Error::Damaged { .. })));
    let staging = stage(&store, &[("weights.bin", b"new"), NEW[1]]);
    assert!(matches!(staging.install(&card("m", NEW)), Err(Error::Damaged { .. })));
    let staging = stage(&store, NEW);
    let other = Card { name: "other".to_owned(), ..card("m", NEW) };
    assert!(matches!(staging.install(&other), Err(Error::Damaged { .. })));
    assert_eq!(fs::read(store.open("m").unwrap().weights().unwrap()).unwrap(), b"old");
    // The work in progress is still there for the next pull, and strangers in it are not installed.
    let staging = stage(&store, &[("stranger.bin", b"?"), ("strange/folder.bin", b"?")]);
    let model = staging.install(&card("m", NEW)).unwrap();
    assert_eq!(fs::read(model.weights().unwrap()).unwrap(), b"new!");
    assert!(!model.dir.join("stranger.bin").exists() && !model.dir.join("strange").exists());
}

#[test]
fn a_reader_always_finds_a_whole_model() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    stage(&store, OLD).install(&card("m", OLD)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0u32;
            while !done.load(Ordering::Relaxed) || reads < 100 {
                // A file opened between two looks may be of the other version, but a card is always there.
                let model = store.open("m").expect("the model is there at every moment");
                assert!(model.card == card("m", OLD) || model.card == card("m", NEW));
                reads += 1;
            }
        });
        for i in 0..40 {
            let files = if i % 2 == 0 { NEW } else { OLD };
            stage(&store, files).install(&card("m", files)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn replaces_a_link_and_leaves_its_target_alone() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("store"));
    let target = root.path().join("elsewhere");
    fs::create_dir_all(&target).unwrap();
    fs::create_dir_all(store.root()).unwrap();
    fs::write(target.join("precious"), b"x").unwrap();
    symlink(&target, store.root().join("m")).unwrap();
    stage(&store, NEW).install(&card("m", NEW)).unwrap();
    assert!(store.open("m").unwrap().weights().is_ok());
    assert!(target.join("precious").exists());
}

#[test]
fn one_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    let first = stage(&store, NEW);
    let (told, waits) = channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let staging = store.stage("m", &mut || told.send(()).unwrap()).unwrap();
            assert!(store.open("m").is_ok(), "the first has finished by now");
            staging.discard().unwrap();
        });
        waits.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!second.is_finished(), "it waits for the first");
        // Another model is no one's business.
        store.stage("other", &mut || panic!("another model waits for nobody")).unwrap().discard().unwrap();
        first.install(&card("m", NEW)).unwrap();
        second.join().unwrap();
    });
    assert_eq!(fs::read_dir(store.root()).unwrap().count(), 1, "locks are removed");
}

#[test]
fn names_are_checked_before_anything_is_touched() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("store"));
    for name in ["..", "", "a/b"] {
        assert!(matches!(store.stage(name, &mut || ()), Err(Error::InvalidName(_))));
        assert!(matches!(store.remove(name, &mut || ()), Err(Error::InvalidName(_))));
    }
    assert!(!store.root().exists());
}

//! What the store accepts as a model, and what it refuses.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::card;
use pg_answer_models::store::is_valid_name;
use pg_answer_models::{Card, Error, InstalledModel, Kind, Store};
use proptest::prelude::*;

/// Writes a model by hand, as an administrator might.
fn put(root: &Path, folder: &str, card: &Card, files: &[(&str, &[u8])]) {
    let dir = root.join(folder);
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("model.json"), serde_json::to_vec(card).unwrap()).unwrap();
}

fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Damaged { reason, .. }) => reason,
        other => panic!("not refused as damaged: {other:?}"),
    }
}

fn verify(model: &InstalledModel) -> Result<(), Error> {
    model.card.files.iter().try_for_each(|file| model.verify_file(file, &mut |_| Ok::<(), Error>(())))
}

const FILES: &[(&str, &[u8])] = &[("weights.bin", b"0123456789"), ("sub/config.json", b"{}")];

#[test]
fn opens_what_is_whole() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "m", &card("m", FILES), FILES);
    let model = Store::new(root.path()).open("m").unwrap();
    assert_eq!(fs::read(model.weights().unwrap()).unwrap(), b"0123456789");
    assert_eq!(fs::read(model.file("sub/config.json").unwrap()).unwrap(), b"{}");
    verify(&model).unwrap();
    assert_eq!(model.card.bytes(), 12);
}

#[test]
fn refuses_names_that_are_none() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("store"));
    put(root.path(), "x", &card("../x", FILES), FILES);
    let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
    for name in ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a\0", "a\n", "ä", "a b", &too_long]
    {
        assert!(matches!(store.open(name), Err(Error::InvalidName(_))), "{name:?}");
    }
    assert!(matches!(store.open(&longest), Err(Error::NotInstalled { .. })));
}

#[test]
fn refuses_cards_that_are_damaged() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    put(root.path(), "m", &card("m", FILES), FILES);
    let path = root.path().join("m/model.json");
    let whole = fs::read(&path).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        reason(store.open("m"));
    }
    fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    assert_eq!(reason(store.open("m")), "too long for a model card");
    fs::write(&path, "[".repeat(100_000)).unwrap();
    reason(store.open("m"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(reason(store.open("m")), "it is not a file");
    fs::remove_dir(&path).unwrap();
    assert!(matches!(store.open("m"), Err(Error::NotInstalled { .. })));
}

#[test]
fn refuses_cards_that_make_no_sense() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    let refused = |change: &dyn Fn(&mut Card)| {
        let mut card = card("m", FILES);
        change(&mut card);
        put(root.path(), "m", &card, FILES);
        reason(store.open("m"))
    };
    assert_eq!(refused(&|c| c.name = "other".to_owned()), "it is the card of \"other\"");
    assert_eq!(refused(&|c| c.files.clear()), "it names no files");
    assert_eq!(refused(&|c| c.context_length = 0), "its context length is 0");
    assert_eq!(refused(&|c| c.dims = None), "it is an encoder without dimensions");
    assert_eq!(refused(&|c| c.kind = Kind::Decoder), "it is of kind decoder and has dimensions");
    for path in ["/etc/passwd", "../x", "a/../b", "", ".", "./a", "a//b", "a/", "a\0b"] {
        let why = refused(&|c| c.files[1].path = path.to_owned());
        assert!(why.ends_with("is no path inside the model's folder"), "{path:?}: {why}");
    }
    assert_eq!(refused(&|c| c.files[1].path = "weights.bin".to_owned()), "it names \"weights.bin\" twice");
    assert_eq!(refused(&|c| c.files[1].path = "model.json".to_owned()), "it names \"model.json\" twice");
    for hash in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65)] {
        assert!(refused(&|c| c.files[0].sha256 = hash.to_owned()).contains("64 lower-case hex digits"));
    }
}

#[test]
fn refuses_files_that_are_not_what_the_card_says() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "m", &card("m", FILES), FILES);
    let model = Store::new(root.path()).open("m").unwrap();
    let weights = model.dir.join("weights.bin");
    assert_eq!(reason(model.file("other")), "the model card does not name it");
    assert_eq!(reason(model.file("../m/weights.bin")), "the model card does not name it");
    for (bytes, why) in
        [(&b"012345678"[..], "9 bytes instead of 10"), (b"0123456789a", "11 bytes instead of 10")]
    {
        fs::write(&weights, bytes).unwrap();
        assert_eq!(reason(model.weights()), why);
    }
    fs::write(&weights, b"0123456780").unwrap();
    model.weights().unwrap();
    assert!(reason(verify(&model)).starts_with("its SHA-256 is "));
    fs::remove_file(&weights).unwrap();
    reason(model.weights());
    fs::create_dir(&weights).unwrap();
    assert_eq!(reason(model.weights()), "it is not a file");
}

#[test]
fn refuses_links_out_of_the_folder() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "m", &card("m", FILES), FILES);
    let model = Store::new(root.path()).open("m").unwrap();
    let weights = model.dir.join("weights.bin");
    let (outside, inside) = (root.path().join("outside"), model.dir.join("inside"));
    for target in [&outside, &inside] {
        fs::write(target, b"0123456789").unwrap();
    }
    fs::remove_file(&weights).unwrap();
    symlink(&outside, &weights).unwrap();
    assert_eq!(reason(model.weights()), "it is a link out of the model's folder");
    assert_eq!(reason(verify(&model)), "it is a link out of the model's folder");
    fs::remove_file(&weights).unwrap();
    symlink(&inside, &weights).unwrap();
    model.weights().unwrap();
    // A folder in between may lead out as well.
    fs::rename(model.dir.join("sub"), root.path().join("sub")).unwrap();
    symlink(root.path().join("sub"), model.dir.join("sub")).unwrap();
    assert_eq!(reason(model.file("sub/config.json")), "it is a link out of the model's folder");
}

#[test]
fn lists_models_and_names_damaged_ones() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    assert!(Store::new(root.path().join("none")).list().unwrap().is_empty());
    for name in ["b", "a", "damaged"] {
        put(root.path(), name, &card(name, FILES), FILES);
    }
    fs::write(root.path().join("damaged/model.json"), b"{").unwrap();
    fs::create_dir(root.path().join("empty")).unwrap();
    put(root.path(), ".pull", &card("x", FILES), FILES);
    fs::write(root.path().join("file"), b"").unwrap();
    let list = store.list().unwrap();
    let names: Vec<_> = list.iter().map(|m| m.as_ref().map_or("!", |m| m.card.name.as_str())).collect();
    assert_eq!(names, ["a", "b", "!"]);
}

proptest! {
    #[test]
    fn a_valid_name_is_one_plain_path_component(name in "[ -~]{0,140}|[a-z./\\\\-]{0,8}|\\PC{0,6}") {
        if is_valid_name(&name) {
            let components: Vec<_> = Path::new(&name).components().collect();
            prop_assert_eq!(components.len(), 1);
            prop_assert!(matches!(components[0], std::path::Component::Normal(_)));
            prop_assert!(!name.starts_with(['.', '-']) && name.len() <= 128);
        } else {
            let store = Store::new("/nonexistent");
            let refused = matches!(store.open(&name), Err(Error::InvalidName(_)));
            prop_assert!(refused);
        }
    }

    #[test]
    fn whatever_a_card_says_no_path_leaves_the_folder(path in "[a-c./]{0,12}|\\PC{0,8}") {
        let mut card = card("m", FILES);
        card.files[0].path = path.clone();
        let model = InstalledModel { card: card.clone(), dir: "/nonexistent/m".into() };
        if card.check().is_ok() {
            prop_assert!(!path.starts_with('/') && path.split('/').all(|part| !part.is_empty() && part != ".."));
        } else {
            prop_assert!(model.file(&path).is_err());
        }
    }

    #[test]
    fn any_bytes_as_a_card_are_a_clean_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("m")).unwrap();
        fs::write(root.path().join("m/model.json"), &bytes).unwrap();
        let opened = Store::new(root.path()).open("m");
        let is_clean = matches!(opened, Err(Error::Damaged { .. }));
        prop_assert!(is_clean, "{opened:?}");
    }
}

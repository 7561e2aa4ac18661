use pg_answer_models::{Card, File, InstalledModel, Kind};

use super::*;

fn model(dir: &std::path::Path) -> InstalledModel {
    let file = File { path: "weights".to_owned(), bytes: 1, sha256: "0".repeat(64) };
    let card = Card {
        name: "m".to_owned(),
        kind: Kind::Decoder,
        architecture: "none".to_owned(),
        dims: None,
        context_length: 1,
        quantization: "F32".to_owned(),
        license: "PostgreSQL".to_owned(),
        origin: None,
        description: String::new(),
        files: vec![file],
    };
    InstalledModel { card, dir: dir.to_owned() }
}

fn build(model: &InstalledModel, place: Place) -> Result<std::sync::Arc<Image>> {
    let mut plan = Plan::new(model, "test-1", serde_json::json!({ "layers": 3 }));
    plan.section::<f32>("floats", 5);
    plan.section::<u8>("bytes", 4097);
    plan.section::<u16>("none", 0);
    let mut draft = plan.start(place)?;
    draft.fill::<f32>("floats")?.copy_from_slice(&[1.0, -2.0, f32::NAN, 4.0, 5.5]);
    let [floats, bytes] = draft.fill_together(["floats", "bytes"])?;
    assert_eq!((floats.len(), bytes.len()), (20, 4097));
    bytes.fill(7);
    assert!(draft.fill::<f32>("other").is_err());
    assert!(draft.fill::<u32>("bytes").is_err());
    assert!(draft.fill_together(["floats", "floats"]).is_err());
    draft.finish()
}

fn assert_content(image: &std::sync::Arc<Image>) {
    let floats = image.view::<f32>("floats", 5).unwrap();
    assert_eq!((floats[1], floats[4], floats.as_ptr().addr() % 4096), (-2.0, 5.5, 0));
    assert_eq!(*image.view::<u8>("bytes", 4097).unwrap(), [7; 4097]);
    assert!(image.view_all::<u16>("none").unwrap().is_empty());
    assert_eq!(image.meta::<std::collections::HashMap<String, u32>>().unwrap()["layers"], 3);
    assert!(image.has("none") && !image.has("nothing"));
    for wrong in [image.view::<f32>("floats", 6).err(), image.view::<f32>("nothing", 5).err()] {
        assert!(wrong.unwrap().to_string().contains("damaged"));
    }
    assert!(image.view_all::<u32>("bytes").is_err());
    assert!(image.meta::<Vec<u8>>().is_err());
}

#[test]
fn memory_and_file_hold_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    assert!(Image::open(&model, "test-1").unwrap().is_none());
    let memory = build(&model, Place::Memory).unwrap();
    assert_content(&memory);
    assert_eq!(memory.private_memory(), memory.memory());
    assert!(Image::open(&model, "test-1").unwrap().is_none());

    assert_content(&build(&model, Place::File).unwrap());
    let opened = Image::open(&model, "test-1").unwrap().unwrap();
    assert_content(&opened);
    assert_eq!(opened.private_memory(), 0);
    opened.verify(&mut || Ok(())).unwrap();
    assert_eq!(all(&model).unwrap().len(), 1);
    std::fs::write(path(&model, "test-0"), b"old").unwrap();
    assert!(matches!(&all(&model).unwrap()[..], [Err(_), Ok(_)]));
    remove_others(&model, &opened).unwrap();
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["prepared-test-1.bin"]);
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(&model(dir.path()), "test-1", serde_json::Value::Null);
    plan.section::<u8>("bytes", 10);
    drop(plan.start(Place::File).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn sizes_beyond_memory_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    for len in [1 << 60, usize::MAX] {
        for place in [Place::Memory, Place::File] {
            let mut plan = Plan::new(&model(dir.path()), "test-1", serde_json::Value::Null);
            plan.section::<f32>("large", len);
            assert!(plan.start(place).is_err(), "{len} {place:?}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn foreign_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = model(dir.path());
    build(&model, Place::File).unwrap();
    model.card.files[0].sha256 = "1".repeat(64);
    let error = Image::open(&model, "test-1").unwrap_err().to_string();
    assert!(error.contains("other files"), "{error}");
    std::fs::rename(path(&model, "test-1"), path(&model, "test-2")).unwrap();
    let error = Image::open(&model, "test-2").unwrap_err().to_string();
    assert!(error.contains("layout"), "{error}");
    std::fs::create_dir(path(&model, "test-3")).unwrap();
    assert!(Image::open(&model, "test-3").is_err());
}

/// A change of any byte is found: of the header at once, of the content by `verify`. A cut is found at once.
#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    build(&model, Place::File).unwrap();
    let path = path(&model, "test-1");
    let good = std::fs::read(&path).unwrap();
    let header =
        8 + 4 + 4 + 8 + 64 + usize::try_from(u32::from_le_bytes(good[12..16].try_into().unwrap())).unwrap();
    for at in (0..header).chain([4096, 8192, good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        std::fs::write(&path, &bad).unwrap();
        match Image::open(&model, "test-1") {
            Ok(image) => {
                assert!(at >= header, "byte {at}");
                assert!(image.unwrap().verify(&mut || Ok(())).is_err(), "byte {at}");
            }
            Err(error) => assert!(error.to_string().contains("damaged"), "byte {at}: {error}"),
        }
    }
    for length in (0..header).step_by(7).chain([4096, good.len() - 1]) {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(Image::open(&model, "test-1").is_err(), "{length} bytes");
    }
}

//! The built-in catalogue is right; a wrong one is refused with what is wrong in it.

use pg_answer_models::{Catalogue, Entry, Found, Source, catalogue::Error};

const GOOD: &str = r#"
[[model]]
name = "m"
kind = "encoder"
architecture = "bert"
dims = 4
context_length = 8
quantization = "F32"
license = "MIT"

[[model.files]]
path = "w.bin"
bytes = 3
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

[[model.sources]]
kind = "hub"
repo = "owner/name"
revision = "main"

[[model.sources]]
kind = "pip"

[model.sources.files]
"w.bin" = [{ package = "p==1.0", member = "p/w.bin" }]
"#;

#[test]
fn the_built_in_catalogue_has_the_models_it_promises() {
    let catalogue = Catalogue::built_in().unwrap();
    let weights = |name: &str| pinned(&catalogue, name).card.sha256().to_owned();
    for (name, sha256) in [
        ("all-MiniLM-L6-v2", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("qwen2.5-coder-0.5b-instruct", "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
        ("qwen2.5-coder-1.5b-instruct", "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
    ] {
        assert_eq!(weights(name), sha256, "{name}: a name stands for its weights");
    }
    for entry in &catalogue.models {
        assert!(entry.sources.len() >= 2, "{} can come from one place only", entry.card.name);
        assert!(!entry.card.description.is_empty());
    }
    assert!(catalogue.models.len() + catalogue.known.len() >= 15);
    for known in &catalogue.known {
        assert!(known.megabytes > 0 && !known.license.is_empty() && !known.description.is_empty());
        assert!(matches!(catalogue.get(&known.name), Ok(Found::Known(same)) if same == known));
    }
}

fn pinned(catalogue: &Catalogue, name: &str) -> Entry {
    match catalogue.get(name).unwrap() {
        Found::Pinned(entry) => entry.clone(),
        Found::Known(_) => panic!("{name} has no hashes"),
    }
}

#[test]
fn reads_models_and_sources() {
    let catalogue = Catalogue::parse(GOOD).unwrap();
    let entry = pinned(&catalogue, "m");
    assert_eq!((entry.card.dims, entry.card.bytes()), (Some(4), 3));
    assert_eq!(entry.sources[0], Source::Hub { repo: "owner/name".to_owned(), revision: "main".to_owned() });
    let Source::Pip { files } = &entry.sources[1] else { panic!("{:?}", entry.sources[1]) };
    assert_eq!(
        (files["w.bin"][0].package.as_str(), files["w.bin"][0].member.as_str()),
        ("p==1.0", "p/w.bin")
    );
}

#[test]
fn refuses_what_is_wrong() {
    for (from, to, word) in [
        ("name = \"m\"", "name = \"../m\"", "no name of a model"),
        ("path = \"w.bin\"", "path = \"/w.bin\"", "no path inside"),
        ("path = \"w.bin\"", "path = \"v.bin\"", "no members for \"v.bin\""),
        ("\"w.bin\" = [{", "\"v.bin\" = [{", "no members for \"w.bin\""),
        ("ba7816", "BA7816", "hex digits"),
        ("repo = \"owner/name\"", "repo = \"owner\"", "no repository"),
        ("repo = \"owner/name\"", "repo = \"../name\"", "no repository"),
        ("revision = \"main\"", "revision = \"a b\"", "no revision"),
        ("p==1.0", "p", "no package"),
        ("p==1.0", "--index-url==x", "no package"),
        ("p==1.0", "p @ file:///x==1", "no package"),
        ("kind = \"hub\"", "kind = \"ftp\"", "ftp"),
        ("dims = 4", "", "without dimensions"),
        ("bytes = 3", "bytes = -3", "-3"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        match Catalogue::parse(&text) {
            Err(Error::Invalid(reason)) => assert!(reason.contains(word), "{to}: {reason}"),
            other => panic!("{to}: {other:?}"),
        }
    }
    let twice = Catalogue::parse(&GOOD.repeat(2));
    assert!(matches!(twice, Err(Error::Invalid(reason)) if reason.contains("twice")));
}

#[test]
fn an_unknown_name_brings_the_nearest() {
    let catalogue = Catalogue::built_in().unwrap();
    let near = |name: &str| match catalogue.get(name) {
        Err(Error::Unknown { near, .. }) => near,
        other => panic!("{other:?}"),
    };
    assert_eq!(near("all-minilm-l6-v2")[0], "all-MiniLM-L6-v2");
    assert_eq!(near("qwen2.5-coder-1.5b")[0], "qwen2.5-coder-1.5b-instruct");
    assert!(near("zzz").is_empty());
    assert!(near("").is_empty());
}

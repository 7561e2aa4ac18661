//! Pulling from a hub that this test plays.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::site::{Run, Site, bytes, sha256};

const SOURCES: &str = "[[model.sources]]\nkind = \"hub\"\nrepo = \"owner/name\"\nrevision = \"v1\"\n";

/// A hub of few words: ranges of files, and connections that break when it is told so.
#[derive(Default)]
struct Hub {
    files: Mutex<HashMap<String, Vec<u8>>>,
    /// How many bytes the next large answers send before the connection breaks.
    cuts: Mutex<Vec<usize>>,
    /// First byte of every answer that was no mere question for the length.
    starts: Mutex<Vec<usize>>,
    /// What requests had as "authorization", in lower case.
    tokens: Mutex<Vec<String>>,
}

/// The commit that the hub's branch `main` stands for.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    fn start(site: &mut Site) -> Arc<Self> {
        let hub = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        site.hub = format!("http://{}", listener.local_addr().unwrap());
        let serving = Arc::clone(&hub);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serving.answer(stream);
            }
        });
        hub
    }

    fn put(&self, path: &str, content: &[u8]) {
        self.files.lock().unwrap().insert(format!("/owner/name/resolve/v1/{path}"), content.to_vec());
    }

    /// Puts a tiny model there, and what the hub says of it.
    fn put_model(&self, name: &str, leave_out: &str) {
        let mut siblings = Vec::new();
        for path in
            ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"]
        {
            let content = std::fs::read(crate::add::tiny(name).join(path)).unwrap();
            if path == leave_out {
                continue;
            }
            let mut sibling = serde_json::json!({ "rfilename": path, "size": content.len() });
            if path.ends_with(".safetensors") {
                sibling["lfs"] = serde_json::json!({ "sha256": sha256(&content) });
            }
            siblings.push(sibling);
            self.files.lock().unwrap().insert(format!("/owner/name/resolve/{COMMIT}/{path}"), content);
        }
        siblings.push(serde_json::json!({ "rfilename": "../config.json", "size": 1 }));
        siblings.push(serde_json::json!({ "rfilename": "pytorch_model.bin", "size": 1 }));
        self.describe(&siblings);
    }

    /// What the hub says of the repository.
    fn describe(&self, siblings: &[serde_json::Value]) {
        let about = serde_json::json!({
            "sha": COMMIT, "siblings": siblings, "cardData": { "license": "apache-2.0" },
        });
        let path = "/api/models/owner/name/revision/main?blobs=true".to_owned();
        self.files.lock().unwrap().insert(path, about.to_string().into_bytes());
    }

    /// Answers one request and closes; a client that goes away is its own affair.
    fn answer(&self, mut stream: TcpStream) {
        let head: Vec<String> = BufReader::new(&stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        let head: Vec<String> = head.iter().map(|line| line.to_lowercase()).collect();
        let token = head.iter().find_map(|line| line.strip_prefix("authorization: "));
        self.tokens.lock().unwrap().extend(token.map(str::to_owned));
        let range =
            head.iter().find_map(|line| line.strip_prefix("range: bytes=")).unwrap_or("0-").to_owned();
        let Some(content) = self.files.lock().unwrap().get(&path).cloned() else {
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        };
        let (start, end) = range.split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(content.len(), |end: usize| end + 1);
        let mut body = &content[start..end];
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n\
             ETag: \"{}\"\r\nX-Repo-Commit: abc\r\nConnection: close\r\n\r\n",
            body.len(),
            end - 1,
            content.len(),
            sha256(&content)
        );
        if range != "0-0" {
            self.starts.lock().unwrap().push(start);
            if let Some(cut) = self.cuts.lock().unwrap().pop() {
                body = &body[..cut.min(body.len())];
            }
        }
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    }
}

#[test]
fn pulls_and_goes_on_where_the_connection_broke() {
    let mut site = Site::new();
    let hub = Hub::start(&mut site);
    let weights = bytes(1, 2_000_000);
    site.add_model("m", &[("w.gguf", &weights), ("sub/c.json", b"{}")], SOURCES);
    hub.put("w.gguf", &weights);
    hub.put("sub/c.json", b"{}");
    // Taken from the end: the first answer breaks after 700,000 bytes, the second at once.
    *hub.cuts.lock().unwrap() = vec![0, 700_000];
    site.run(&["pull", "m"]).expect(1, &["source hub owner/name failed"]);
    site.run(&["pull", "m"]).expect(0, &["w.gguf: downloaded, SHA-256 right", "installed in"]);
    assert_eq!(site.installed("m/w.gguf"), weights);
    assert_eq!(site.installed("m/sub/c.json"), b"{}");
    let starts = hub.starts.lock().unwrap().clone();
    assert_eq!(starts[0], 0);
    assert!(starts[1] > 0 && starts[2] >= starts[1], "it went on, not back: {starts:?}");
    assert_eq!(site.names(), ["m"]);
}

#[test]
fn wrong_content_is_refused_and_not_kept() {
    let mut site = Site::new();
    let hub = Hub::start(&mut site);
    site.add_model("m", &[("w.gguf", &bytes(1, 100_000))], SOURCES);
    hub.put("w.gguf", &bytes(2, 100_000));
    let (expected, found) = (sha256(&bytes(1, 100_000)), sha256(&bytes(2, 100_000)));
    site.run(&["pull", "m"]).expect(1, &["w.gguf", &expected, &found]);
    assert!(!site.store().join("m").exists());
    hub.put("w.gguf", &bytes(1, 100_000));
    site.run(&["pull", "m"]).expect(0, &["installed in"]);
    assert_eq!(hub.starts.lock().unwrap().as_slice(), [0, 0]);
}

#[test]
fn a_file_that_the_hub_does_not_have_is_named() {
    let mut site = Site::new();
    let _hub = Hub::start(&mut site);
    site.add_model("m", &[("w.gguf", b"x")], SOURCES);
    site.run(&["pull", "m"]).expect(1, &["hub owner/name", "404"]);
}

#[test]
fn adds_by_name_and_records_commit_license_and_hashes() {
    let mut site = Site::new();
    let hub = Hub::start(&mut site);
    hub.put_model("bert_cls", "");
    // Taken from the end: what the hub says and the small files come whole, the weights break off, and again at once.
    *hub.cuts.lock().unwrap() = [vec![0, 100_000], vec![usize::MAX; 5]].concat();
    let add = |site: &Site| {
        Run::from(site.command(&["add", "owner/name"]).env("HF_TOKEN", "Secret").output().unwrap())
    };
    add(&site).expect(1, &["name: owner/name at commit 0123456789abcdef"]);
    add(&site).expect(0, &["bert in F32, 48 dimensions", "installed in"]);
    assert!(hub.starts.lock().unwrap().iter().any(|&start| start > 0), "it went on where it stopped");
    assert!(hub.tokens.lock().unwrap().iter().all(|token| token == "bearer secret"));
    assert!(!hub.tokens.lock().unwrap().is_empty());
    let card = crate::add::card(&site, "name");
    assert_eq!((&card["license"], &card["kind"]), (&"apache-2.0".into(), &"encoder".into()));
    assert_eq!(card["origin"], format!("owner/name@{COMMIT}"));
    let weights = site.installed("name/model.safetensors");
    assert_eq!(card["files"][0]["sha256"], sha256(&weights));
    assert_eq!(card["files"].as_array().unwrap().len(), 5);
    site.run(&["verify", "name"]).expect(0, &["verified"]);
    assert_eq!(site.names(), ["name"]);
}

#[test]
fn what_cannot_be_run_is_refused_before_its_weights_are_downloaded() {
    let mut site = Site::new();
    let hub = Hub::start(&mut site);
    let add = |words: &[&str]| {
        site.run(&["add", "owner/name", "--name", "m"]).expect(1, words);
        assert!(site.names().is_empty(), "nothing may be left");
    };
    hub.put_model("bert_cls", "");
    let path = format!("/owner/name/resolve/{COMMIT}/config.json");
    let config = String::from_utf8(hub.files.lock().unwrap()[&path].clone()).unwrap();
    let config = config.replace("BertModel", "OtherModel").into_bytes();
    hub.files.lock().unwrap().insert(path, config.clone());
    hub.files.lock().unwrap().remove(&format!("/owner/name/resolve/{COMMIT}/model.safetensors"));
    let mut siblings: Vec<serde_json::Value> = vec![
        serde_json::json!({ "rfilename": "config.json", "size": config.len() }),
        serde_json::json!({ "rfilename": "model.safetensors", "size": 1 }),
    ];
    hub.describe(&siblings);
    add(&["architecture OtherModel is not supported"]);
    siblings[1] = serde_json::json!({ "rfilename": "pytorch_model.bin", "size": 1 });
    hub.describe(&siblings);
    add(&["pickle", "pytorch_model.bin"]);
    siblings[1] = serde_json::json!({ "rfilename": "q4.gguf", "size": 1 });
    siblings.push(serde_json::json!({ "rfilename": "q8.gguf", "size": 1 }));
    hub.describe(&siblings);
    add(&["several sets of weights", "--file q4.gguf"]);
    site.run(&["add", "owner/other"]).expect(1, &["hub owner/other at main", "404", "HF_TOKEN"]);
    site.run(&["add", "./owner/name"]).expect(2, &["--name"]);
}

#[test]
fn a_model_without_hashes_is_taken_on_trust_once_and_verified_afterwards() {
    let mut site = Site::new();
    let hub = Hub::start(&mut site);
    let known = "[[known]]\nname = \"m\"\nkind = \"encoder\"\narchitecture = \"bert\"\ndims = 48\n\
                 context_length = 48\nmegabytes = 1\nlicense = \"MIT\"\ndescription = \"tiny\"\nrepo = \"owner/name\"\n";
    std::fs::write(site.path("catalogue.toml"), known).unwrap();
    let list = site.run(&["list", "--available"]).expect(0, &[]).out;
    assert!(list.contains("first pull") && list.contains("tiny"), "{list}");
    hub.put_model("bert_cls", "");
    site.run(&["pull", "m"]).expect(0, &["no SHA-256", "taken on trust", "installed in"]);
    let card = crate::add::card(&site, "m");
    assert_eq!((&card["license"], &card["description"]), (&"MIT".into(), &"tiny".into()));
    site.run(&["pull", "m"]).expect(0, &["already installed"]);
    // A file is damaged, and the hub has another by now: only what was there the first time will do.
    let (path, weights) = (site.store().join("m/model.safetensors"), site.installed("m/model.safetensors"));
    std::fs::write(&path, bytes(1, weights.len())).unwrap();
    site.run(&["verify", "m"]).expect(1, &["SHA-256"]);
    let there = format!("/owner/name/resolve/{COMMIT}/model.safetensors");
    hub.files.lock().unwrap().insert(there.clone(), bytes(2, weights.len()));
    site.run(&["pull", "m"]).expect(1, &["is not the file that was asked for"]);
    hub.files.lock().unwrap().insert(there, weights.clone());
    site.run(&["pull", "m"]).expect(0, &["SHA-256 right", "installed in"]);
    assert_eq!(site.installed("m/model.safetensors"), weights);
    assert_eq!(crate::add::card(&site, "m"), card);
}

//! Pulling from a hub that this test plays.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::site::{Site, bytes, sha256};

const SOURCES: &str = "[[model.sources]]\nkind = \"hub\"\nrepo = \"owner/name\"\nrevision = \"v1\"\n";

/// A hub of few words: ranges of files, and connections that break when it is told so.
#[derive(Default)]
struct Hub {
    files: Mutex<HashMap<String, Vec<u8>>>,
    /// How many bytes the next large answers send before the connection breaks.
    cuts: Mutex<Vec<usize>>,
    /// First byte of every answer that was no mere question for the length.
    starts: Mutex<Vec<usize>>,
}

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

    /// Answers one request and closes; a client that goes away is its own affair.
    fn answer(&self, mut stream: TcpStream) {
        let head: Vec<String> = BufReader::new(&stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .map(|line| line.to_lowercase())
            .collect();
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
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

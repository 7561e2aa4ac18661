//! The Hugging Face hub.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use pg_answer_models::{Digest, File, Staging};
use serde::Deserialize;

use super::part;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// The library waits for ever. Without a sign of life for so long the source counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look for signals.
const TICK: Duration = Duration::from_millis(100);

/// A file in a repository.
pub struct Wanted<'a> {
    /// Where it lies there, and in the model's folder.
    pub path: &'a str,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256; where it is not known, whatever is there is taken.
    pub sha256: Option<&'a str>,
}

/// What the hub says of a repository.
#[derive(Debug, Deserialize)]
pub struct About {
    /// The commit that the revision stands for.
    pub sha: String,
    /// Its files.
    pub siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<CardData>,
}

/// A file of a repository.
#[derive(Debug, Deserialize)]
pub struct Sibling {
    /// Its path.
    #[serde(rename = "rfilename")]
    pub path: String,
    /// Its length.
    #[serde(default)]
    pub size: u64,
    /// What is known of large files.
    #[serde(default)]
    pub lfs: Option<Lfs>,
}

/// What is known of a large file.
#[derive(Debug, Deserialize)]
pub struct Lfs {
    /// SHA-256 of its content.
    pub sha256: String,
}

#[derive(Debug, Deserialize)]
struct CardData {
    /// One, or a list of them.
    license: Option<serde_json::Value>,
}

impl About {
    /// The licence that the authors name.
    pub fn license(&self) -> Option<&str> {
        self.card.as_ref()?.license.as_ref()?.as_str()
    }
}

/// Downloads `files` from the repository `repo` at `revision`; goes on with what an earlier run has of them.
pub fn fetch(staging: &Staging, name: &str, repo: &str, revision: &str, files: &[&File]) -> Result<()> {
    for file in files {
        let wanted = Wanted { path: &file.path, bytes: file.bytes, sha256: Some(&file.sha256) };
        fetch_one(staging, name, repo, revision, &wanted)?;
    }
    Ok(())
}

/// Downloads a file as [`fetch`] does; its SHA-256.
pub fn fetch_one(
    staging: &Staging,
    name: &str,
    repo: &str,
    revision: &str,
    wanted: &Wanted<'_>,
) -> Result<File> {
    let cache = staging.work().join("hub");
    let mut progress = Progress::new(format!("{name}: {}", wanted.path), wanted.bytes);
    progress.doing("asking the hub");
    remove_overlong(&cache, repo, wanted.bytes)?;
    let repo = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
    let link = download(&cache, &repo, wanted.path, &mut progress)?;
    let blob = link.canonicalize().map_err(|e| Failure::io(&link, e))?;
    progress.doing("checking");
    progress.set(0);
    let mut digest = Digest::default();
    let bytes = digest.update_from(&blob, &mut |bytes| {
        progress.advance(bytes);
        interrupt::check()
    })?;
    part::remove(&link)?;
    let found = digest.hex();
    if let Some(sha256) = wanted.sha256.filter(|sha256| *sha256 != found) {
        part::remove(&blob)?;
        let message = format!("its SHA-256 is {found} instead of {sha256}");
        return Err(Failure::new(format!("{} is not the file that was asked for: {message}", wanted.path)));
    }
    let place = staging.file(wanted.path)?;
    std::fs::rename(&blob, &place).map_err(|e| Failure::io(&place, e))?;
    progress.done(match wanted.sha256 {
        Some(_) => "downloaded, SHA-256 right",
        None => "downloaded, SHA-256 recorded",
    });
    Ok(File { path: wanted.path.to_owned(), bytes, sha256: found })
}

/// What the hub says of `repo` at `revision`.
pub fn ask(staging: &Staging, repo: &str, revision: &str) -> Result<About> {
    let cache = staging.work().join("hub");
    let repo = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let answer = connect(cache).map_err(|e| e.to_string()).and_then(|api| {
            let mut answer =
                api.repo(repo).info_request().query("blobs", "true").call().map_err(|e| e.to_string())?;
            answer.body_mut().read_json::<About>().map_err(|e| e.to_string())
        });
        let _ = sender.send(Event::End(answer.map_err(Failure::new)));
    });
    follow(&receiver, &mut Progress::new(String::new(), 0))
}

/// The hub as the user's environment names it: `HF_ENDPOINT`, `HF_TOKEN` or the token that `hf auth login` left.
fn connect(cache: PathBuf) -> Result<Api, ApiError> {
    let mut builder = ApiBuilder::from_env().with_cache_dir(cache).with_progress(false);
    if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()) {
        builder = builder.with_token(Some(token));
    }
    builder.build()
}

/// What the downloading thread tells.
enum Event<T> {
    Start,
    Bytes(u64),
    End(Result<T>),
}

struct Reporter(Sender<Event<PathBuf>>);

impl hf_hub::api::Progress for Reporter {
    fn init(&mut self, _size: usize, _filename: &str) {
        let _ = self.0.send(Event::Start);
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(Event::Bytes(size as u64));
    }

    fn finish(&mut self) {}
}

/// Downloads the file `path`; a connection that breaks is made again as long as each one brings something.
fn download(cache: &Path, repo: &Repo, path: &str, progress: &mut Progress) -> Result<PathBuf> {
    let mut before = 0;
    loop {
        let downloaded = attempt(cache, repo.clone(), path, progress);
        let now = progress.position();
        match downloaded {
            Err(failure) if !failure.is_final() && now > before => before = now,
            downloaded => return downloaded,
        }
    }
}

/// Downloads on a thread of its own, which is left behind when the hub falls silent or a signal comes.
/// Trying again is not left to the library: after a resumption it would append from the beginning.
fn attempt(cache: &Path, repo: Repo, path: &str, progress: &mut Progress) -> Result<PathBuf> {
    let (sender, receiver) = channel();
    let (cache, path) = (cache.to_owned(), path.to_owned());
    std::thread::spawn(move || {
        let link = connect(cache)
            .and_then(|api| api.repo(repo).download_with_progress(&path, Reporter(sender.clone())));
        let _ = sender.send(Event::End(link.map_err(|e| Failure::new(e.to_string()))));
    });
    follow(&receiver, progress)
}

fn follow<T>(receiver: &Receiver<Event<T>>, progress: &mut Progress) -> Result<T> {
    let mut last = Instant::now();
    loop {
        interrupt::check()?;
        match receiver.recv_timeout(TICK) {
            Ok(Event::Start) => {
                progress.doing("downloading");
                progress.set(0);
                last = Instant::now();
            }
            Ok(Event::Bytes(bytes)) => {
                progress.advance(bytes);
                last = Instant::now();
            }
            Ok(Event::End(answer)) => return answer,
            Err(RecvTimeoutError::Timeout) if last.elapsed() > PATIENCE => {
                return Err(Failure::new(format!("no answer for {} s", PATIENCE.as_secs())));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::new("the download broke off")),
        }
    }
}

/// The library cannot go on with a partial file that is already as long as the whole: let it begin anew.
fn remove_overlong(cache: &Path, repo: &str, bytes: u64) -> Result<()> {
    let folder = Cache::new(cache.to_owned()).model(repo.to_owned()).blob_path("");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_part = path.extension().is_some_and(|e| e == "part");
        if is_part && entry.metadata().is_ok_and(|m| m.len() >= bytes) {
            part::remove(&path)?;
        }
    }
    Ok(())
}

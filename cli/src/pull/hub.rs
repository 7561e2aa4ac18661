//! The Hugging Face hub.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use pg_answer_models::{Digest, File, Staging};

use super::part;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// The library waits for ever. Without a sign of life for so long the source counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look for signals.
const TICK: Duration = Duration::from_millis(100);

/// Downloads `files` from the repository `repo` at `revision`; goes on with what an earlier run has of them.
pub fn fetch(staging: &Staging, name: &str, repo: &str, revision: &str, files: &[&File]) -> Result<()> {
    let cache = staging.work().join("hub");
    for file in files {
        let mut progress = Progress::new(format!("{name}: {}", file.path), file.bytes);
        progress.doing("asking the hub");
        remove_overlong(&cache, repo, file.bytes)?;
        let repo = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
        let link = download(&cache, &repo, &file.path, &mut progress)?;
        let blob = link.canonicalize().map_err(|e| Failure::io(&link, e))?;
        progress.doing("checking");
        progress.set(0);
        let mut digest = Digest::default();
        digest.update_from(&blob, &mut |bytes| {
            progress.advance(bytes);
            interrupt::check()
        })?;
        part::remove(&link)?;
        let found = digest.hex();
        if found != file.sha256 {
            part::remove(&blob)?;
            let message = format!("its SHA-256 is {found} instead of {}", file.sha256);
            return Err(Failure::new(format!("{} is not the file that was asked for: {message}", file.path)));
        }
        let place = staging.file(&file.path)?;
        std::fs::rename(&blob, &place).map_err(|e| Failure::io(&place, e))?;
        progress.done("downloaded, SHA-256 right");
    }
    Ok(())
}

/// What the downloading thread tells.
enum Event {
    Start,
    Bytes(u64),
    End(Result<PathBuf>),
}

struct Reporter(Sender<Event>);

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
        // `from_env` also finds the user's token and endpoint.
        let api = ApiBuilder::from_env().with_cache_dir(cache).with_progress(false).build();
        let link = api.and_then(|api| api.repo(repo).download_with_progress(&path, Reporter(sender.clone())));
        let _ = sender.send(Event::End(link.map_err(|e| Failure::new(e.to_string()))));
    });
    follow(&receiver, progress)
}

fn follow(receiver: &Receiver<Event>, progress: &mut Progress) -> Result<PathBuf> {
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
            Ok(Event::End(link)) => return link,
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

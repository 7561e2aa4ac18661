//! Counters of the models, one set for all sessions of the server.
//!
//! They lie in a small file beside the server's own temporary statistics, which every backend maps: nothing must be
//! preloaded, counting takes no lock, and what was counted outlives a crash and a restart. Zeros are an empty file, so
//! that whoever comes first need not prepare it for the others.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memmap2::MmapRaw;

/// Relative to the folder of the cluster, where a backend works. Base backups leave this folder's files out.
pub const TEMPORARY: &str = "pg_stat_tmp";
/// The number is the version of the layout.
const NAME_OF_FILE: &str = "pg_answer.1.stat";
/// More models than a server has; those beyond are not counted.
const MODELS: usize = 128;
/// The longest name that a folder can have.
const NAME: usize = 255;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const NAMED: u32 = 2;

/// What is counted of a model.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Runs of the model.
    pub calls: AtomicU64,
    /// Those that ended in an error or a cancel.
    pub failed: AtomicU64,
    /// Texts read: prompts, or texts that became vectors.
    pub texts: AtomicU64,
    /// Tokens read.
    pub tokens_in: AtomicU64,
    /// Tokens written.
    pub tokens_out: AtomicU64,
    /// Texts that were cut to the model's window.
    pub truncated: AtomicU64,
    /// Time of the runs.
    pub microseconds: AtomicU64,
    /// Since when all this is counted, in microseconds since 1970.
    pub since: AtomicU64,
}

/// A place for the counters of one model.
#[derive(Debug)]
#[repr(C)]
struct Slot {
    counters: Counters,
    state: AtomicU32,
    length: AtomicU8,
    name: [AtomicU8; NAME],
}

/// The counters of model `name`; none where there is no room for them.
///
/// # Errors
/// When the file cannot be opened.
pub fn of(name: &str) -> std::io::Result<Option<&'static Counters>> {
    let slots = slots()?;
    if let Some(slot) = slots.iter().find(|slot| slot.name().is_some_and(|n| n == name.as_bytes())) {
        return Ok(Some(&slot.counters));
    }
    // Two sessions that begin at once may take a slot each: readers add up those of one name.
    Ok(slots.iter().find(|slot| slot.take(name)).map(|slot| &slot.counters))
}

/// All counters with the names of their models.
///
/// # Errors
/// When the file cannot be opened.
pub fn all() -> std::io::Result<impl Iterator<Item = (String, &'static Counters)>> {
    let name = |slot: &Slot| slot.name().map(|name| String::from_utf8_lossy(&name).into_owned());
    Ok(slots()?.iter().filter_map(move |slot| Some((name(slot)?, &slot.counters))))
}

impl Counters {
    /// Begins anew.
    pub fn reset(&self) {
        let Self { calls, failed, texts, tokens_in, tokens_out, truncated, microseconds, since } = self;
        for counter in [calls, failed, texts, tokens_in, tokens_out, truncated, microseconds] {
            counter.store(0, Ordering::Relaxed);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        since.store(u64::try_from(now.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Slot {
    /// The name, once it is written.
    fn name(&self) -> Option<Vec<u8>> {
        if self.state.load(Ordering::Acquire) != NAMED {
            return None;
        }
        let length = usize::from(self.length.load(Ordering::Relaxed));
        Some(self.name.iter().take(length).map(|byte| byte.load(Ordering::Relaxed)).collect())
    }

    /// Whether the slot was free and is now that of model `name`. Who dies meanwhile leaves a slot that nobody uses.
    fn take(&self, name: &str) -> bool {
        let Ok(length) = u8::try_from(name.len()) else { return false };
        if self.state.compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        for (byte, &b) in self.name.iter().zip(name.as_bytes()) {
            byte.store(b, Ordering::Relaxed);
        }
        self.length.store(length, Ordering::Relaxed);
        self.counters.reset();
        self.state.store(NAMED, Ordering::Release);
        true
    }
}

/// The mapped file.
fn slots() -> std::io::Result<&'static [Slot; MODELS]> {
    static PAGES: OnceLock<MmapRaw> = OnceLock::new();
    let pages = match PAGES.get() {
        Some(pages) => pages,
        None => {
            let pages = MmapRaw::map_raw(&open()?)?;
            PAGES.get_or_init(|| pages)
        }
    };
    // SAFETY: the file is as long as this, and nobody makes it shorter; the map begins on a page and stays until the
    // process ends. The type is made of atomic integers, for which any bytes will do.
    Ok(unsafe { &*pages.as_ptr().cast() })
}

/// The file, at least as long as all slots. Its blocks are reserved: on a full disk a write to the map would be a SIGBUS.
fn open() -> std::io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(Path::new(TEMPORARY).join(NAME_OF_FILE))?;
    let length = libc::off_t::try_from(size_of::<[Slot; MODELS]>()).unwrap_or(libc::off_t::MAX);
    // SAFETY: a plain call on an open file; what is there already stays as it is.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(file),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

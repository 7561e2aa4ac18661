//! Models that this process has loaded, and its helper threads.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pg_answer_inference::encoder::Encoder;
use pg_answer_inference::language::Rewriter;
use pg_answer_inference::{Error, Kernels, LanguageModel, Pool, Reranker, Result};
use pg_answer_models::{InstalledModel, Kind, Store};

use crate::model::check;
use crate::model::counters::TEMPORARY;
use crate::settings;

/// Loaded models of one kind, the last used first. The oldest goes when there are more than `LIMIT`.
struct Cache<T, const LIMIT: usize> {
    loaded: RefCell<Vec<Entry<T>>>,
}

struct Entry<T> {
    dir: PathBuf,
    kernels: Kernels,
    model: Rc<T>,
}

impl<T, const LIMIT: usize> Cache<T, LIMIT> {
    const fn new() -> Self {
        Self { loaded: RefCell::new(Vec::new()) }
    }

    /// The model `name`, loaded by `load` unless it is here for the kernels that are set.
    fn get(
        &self,
        name: &str,
        kind: Kind,
        load: impl FnOnce(&InstalledModel, Kernels) -> Result<T>,
    ) -> Result<Rc<T>> {
        let store = Store::new(settings::model_path());
        let dir = store.root().join(name);
        let kernels = settings::kernels();
        // Loading can raise an ERROR: no borrow may be held across it.
        let at = self.loaded.borrow().iter().position(|e| e.dir == dir && e.kernels == kernels);
        let entry = match at {
            Some(at) => self.loaded.borrow_mut().remove(at),
            None => {
                let installed = store.open(name)?;
                if installed.card.kind != kind {
                    let reason =
                        format!("it is of kind {}, not {}", installed.card.kind.as_str(), kind.as_str());
                    return Err(Error::Unsupported { model: name.to_owned(), reason });
                }
                // Make room first: two large models need not fit at once.
                self.loaded.borrow_mut().truncate(LIMIT - 1);
                Entry { dir, kernels, model: Rc::new(load(&installed, kernels)?) }
            }
        };
        let model = Rc::clone(&entry.model);
        self.loaded.borrow_mut().insert(0, entry);
        Ok(model)
    }

    fn find(&self, dir: &Path) -> Option<Rc<T>> {
        self.loaded.borrow().iter().find(|e| e.dir == dir).map(|e| Rc::clone(&e.model))
    }
}

/// Small and often used side by side (the models of two sources).
const ENCODERS: usize = 4;
/// They serve one query at a time, and their weights are mapped.
const RERANKERS: usize = 2;
/// Their weights are mapped.
const REWRITERS: usize = 2;
/// Large: one at a time.
const DECODERS: usize = 1;

thread_local! {
    static LOADED_ENCODERS: Cache<Encoder, ENCODERS> = const { Cache::new() };
    static LOADED_RERANKERS: Cache<Reranker, RERANKERS> = const { Cache::new() };
    static LOADED_REWRITERS: Cache<Rewriter, REWRITERS> = const { Cache::new() };
    static LOADED_DECODERS: Cache<RefCell<LanguageModel>, DECODERS> = const { Cache::new() };
    static POOL: RefCell<Option<(usize, Rc<Pool>)>> = const { RefCell::new(None) };
}

/// The helper threads, as many as `pg_answer.threads` says now.
fn pool() -> Result<Rc<Pool>> {
    let threads = settings::threads();
    POOL.with_borrow_mut(|slot| match slot {
        Some((n, pool)) if *n == threads => Ok(Rc::clone(pool)),
        _ => {
            let pool = Rc::new(Pool::new(threads)?);
            *slot = Some((threads, Rc::clone(&pool)));
            Ok(pool)
        }
    })
}

/// Runs `work` with encoder `name`, loading it first if need be.
///
/// # Errors
/// Those of the load and of `work`.
pub fn with_encoder<R>(name: &str, work: impl FnOnce(&Encoder, &Pool) -> Result<R>) -> Result<R> {
    let encoder = LOADED_ENCODERS.with(|cache| cache.get(name, Kind::Encoder, Encoder::load_for))?;
    work(&encoder, &*pool()?)
}

/// Runs `work` with reranker `name`, loading it first if need be.
///
/// # Errors
/// Those of the load and of `work`.
pub fn with_reranker<R>(name: &str, work: impl FnOnce(&Reranker, &Pool) -> Result<R>) -> Result<R> {
    let reranker = LOADED_RERANKERS
        .with(|cache| cache.get(name, Kind::CrossEncoder, |model, _| Reranker::load(model)))?;
    work(&reranker, &*pool()?)
}

/// Runs `work` with encoder-decoder `name`, loading it first if need be.
///
/// # Errors
/// Those of the load and of `work`.
pub fn with_rewriter<R>(name: &str, work: impl FnOnce(&Rewriter, &Pool) -> Result<R>) -> Result<R> {
    let load = |model: &InstalledModel, _| Rewriter::load(model);
    let rewriter = LOADED_REWRITERS.with(|cache| cache.get(name, Kind::EncoderDecoder, load))?;
    work(&rewriter, &*pool()?)
}

/// Runs `work` with decoder `name`, loading it first if need be.
///
/// # Errors
/// Those of the load and of `work`.
pub fn with_decoder<R>(name: &str, work: impl FnOnce(&mut LanguageModel, &Pool) -> Result<R>) -> Result<R> {
    let pool = pool()?;
    let load = |model: &InstalledModel, kernels| {
        let mut loaded = LanguageModel::load(model, kernels, &pool, &mut check)?;
        loaded.share_beginnings(Path::new(TEMPORARY), model);
        Ok(RefCell::new(loaded))
    };
    let decoder = LOADED_DECODERS.with(|cache| cache.get(name, Kind::Decoder, load))?;
    // No SQL runs while a model does, so nothing in this session can ask for it a second time.
    work(&mut decoder.borrow_mut(), &pool)
}

/// Of which kind the model `name` is; its card is read only if it is not loaded.
///
/// # Errors
/// When it is not installed or damaged.
pub fn kind(name: &str) -> Result<Kind> {
    let store = Store::new(settings::model_path());
    let dir = store.root().join(name);
    if LOADED_ENCODERS.with(|cache| cache.find(&dir)).is_some() {
        Ok(Kind::Encoder)
    } else if LOADED_DECODERS.with(|cache| cache.find(&dir)).is_some() {
        Ok(Kind::Decoder)
    } else {
        Ok(store.open(name)?.card.kind)
    }
}

/// Bytes that the model in folder `dir` holds in this process, if it is loaded.
pub(super) fn loaded_bytes(dir: &Path) -> Option<usize> {
    let encoder = LOADED_ENCODERS.with(|cache| cache.find(dir)).map(|m| m.memory());
    let encoder = encoder.or_else(|| LOADED_REWRITERS.with(|cache| cache.find(dir)).map(|m| m.memory()));
    let encoder = encoder.or_else(|| LOADED_RERANKERS.with(|cache| cache.find(dir)).map(|m| m.memory()));
    encoder.or_else(|| LOADED_DECODERS.with(|cache| cache.find(dir)).map(|m| m.borrow().memory()))
}

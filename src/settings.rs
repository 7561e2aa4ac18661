//! The settings `pg_answer.*`.

use std::ffi::{CStr, CString};

use pg_answer_inference::Kernels;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};

/// What happens to a text that is longer than the model's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum OnTruncate {
    /// Embed its beginning and say nothing, as sentence-transformers does.
    #[name = c"ignore"]
    Ignore,
    /// Embed its beginning and raise a NOTICE.
    #[name = c"notice"]
    Notice,
    /// Raise an ERROR.
    #[name = c"error"]
    Error,
}

/// Which arithmetic runs models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum KernelsSetting {
    /// That of this extension.
    #[name = c"auto"]
    Auto,
    /// That of the candle library: slow, and the reference.
    #[name = c"candle"]
    Candle,
}

static MODEL_PATH: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"/var/lib/pg_answer/models"));
static EMBEDDING_MODEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"all-MiniLM-L6-v2"));
const LANGUAGE_MODEL: &CStr = c"qwen2.5-coder-0.5b-instruct";
static GENERATION_MODEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(LANGUAGE_MODEL));
const CROSS_ENCODER: &CStr = c"ms-marco-MiniLM-L6-v2";
static RERANKING_MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(CROSS_ENCODER));
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static KERNELS: GucSetting<KernelsSetting> = GucSetting::<KernelsSetting>::new(KernelsSetting::Auto);
static MAX_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(1024);
static BACKGROUND_WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);
static ON_TRUNCATE: GucSetting<OnTruncate> = GucSetting::<OnTruncate>::new(OnTruncate::Ignore);
static TARGET_RECALL: GucSetting<f64> = GucSetting::<f64>::new(0.95);
static PROBES: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Makes the settings known; called once when the library is loaded.
pub fn define() {
    GucRegistry::define_string_guc(
        c"pg_answer.model_path",
        c"Folder of the installed models.",
        c"Models are put there by the command pg_answer_model. Only superusers may change it.",
        &MODEL_PATH,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_string_guc(
        c"pg_answer.embedding_model",
        c"Model of embed() when none is named.",
        c"",
        &EMBEDDING_MODEL,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_string_guc(
        c"pg_answer.generation_model",
        c"Model of generate() and rag_answer() when none is named.",
        c"",
        &GENERATION_MODEL,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_string_guc(
        c"pg_answer.reranking_model",
        c"Model of rerank() when none is named.",
        c"",
        &RERANKING_MODEL,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"pg_answer.threads",
        c"Threads that run a model in one session.",
        c"0 means one per core. Parallel workers always use one.",
        &THREADS,
        0,
        256,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"pg_answer.kernels",
        c"Arithmetic that runs models.",
        c"auto: that of this extension; candle: that of the candle library, slow, to compare with. Only superusers may change it.",
        &KERNELS,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"pg_answer.background_worker",
        c"Whether background workers embed what is queued.",
        c"Off in a session: what it queues starts no worker. Only superusers may change it.",
        &BACKGROUND_WORKER,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"pg_answer.max_memory",
        c"Most memory that a prompt and its answer may take in one session.",
        c"For the keys and values of a language model; a longer context is an error. 0 means no limit.",
        &MAX_MEMORY,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_enum_guc(
        c"pg_answer.on_truncate",
        c"What embed() does with a text that is longer than the model's window.",
        c"ignore: embed its beginning; notice: the same with a NOTICE; error: raise an ERROR.",
        &ON_TRUNCATE,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_float_guc(
        c"pg_answer.target_recall",
        c"Share of the true nearest rows that a scan of an index of method ann shall find.",
        c"How many lists that takes was measured when the index was built.",
        &TARGET_RECALL,
        0.5,
        0.999,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"pg_answer.probes",
        c"Lists that a scan of an index of method ann visits first.",
        c"0 means as many as pg_answer.target_recall takes.",
        &PROBES,
        0,
        1_000_000,
        GucContext::Userset,
        GucFlags::empty(),
    );
    // SAFETY: a valid C string; called on the main thread while the library is loaded.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"pg_answer".as_ptr());
    }
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().unwrap_or_default().to_string_lossy().into_owned()
}

/// Folder of the installed models.
pub fn model_path() -> String {
    text(&MODEL_PATH)
}

/// Model of `embed(text)`.
pub fn embedding_model() -> String {
    text(&EMBEDDING_MODEL)
}

/// Model of `generate` and `rag_answer`.
pub fn generation_model() -> String {
    text(&GENERATION_MODEL)
}

/// The same where nobody chose one.
pub fn default_generation_model() -> String {
    LANGUAGE_MODEL.to_string_lossy().into_owned()
}

/// Model of `rerank`.
pub fn reranking_model() -> String {
    text(&RERANKING_MODEL)
}

/// Whether nobody chose the model of `rerank`.
pub fn reranking_model_is_default() -> bool {
    RERANKING_MODEL.get().as_deref() == Some(CROSS_ENCODER)
}

/// Threads for one model run in this process; 0 means one per core.
pub fn threads() -> usize {
    // SAFETY: reads a plain global of the server on the main thread.
    let worker = unsafe { pg_sys::ParallelWorkerNumber } >= 0;
    if worker { 1 } else { usize::try_from(THREADS.get()).unwrap_or(0) }
}

/// Arithmetic that runs models.
pub fn kernels() -> Kernels {
    match KERNELS.get() {
        KernelsSetting::Auto => Kernels::Auto,
        KernelsSetting::Candle => Kernels::Candle,
    }
}

/// Whether background workers embed what is queued.
pub fn background_worker() -> bool {
    BACKGROUND_WORKER.get()
}

/// Most bytes for a prompt and its answer.
pub fn max_memory() -> usize {
    match usize::try_from(MAX_MEMORY.get()).unwrap_or(0) {
        0 => usize::MAX,
        megabytes => megabytes.saturating_mul(1 << 20),
    }
}

/// What to do with a text that is too long.
pub fn on_truncate() -> OnTruncate {
    ON_TRUNCATE.get()
}

/// Share of the true neighbours that an index scan shall find.
pub fn target_recall() -> f64 {
    TARGET_RECALL.get()
}

/// Lists that an index scan visits first; `None` lets the target recall decide.
pub fn probes() -> Option<usize> {
    usize::try_from(PROBES.get()).ok().filter(|probes| *probes > 0)
}

//! `add`: installs a model without hashes from a folder or the hub, after a look at what it is.

mod choose;

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use pg_answer_inference::inspect::{About, inspect, recognize};
use pg_answer_inference::{Error, Pool};
use pg_answer_models::store::{is_safe_path, is_valid_name};
use pg_answer_models::{Card, Digest, File, InstalledModel, Kind, Staging, Store};

use self::choose::{choose, is_weights, list};
use crate::failure::{Failure, Result};
use crate::pull::{check_space, hub};
use crate::{interrupt, prepare};

/// Where a model comes from.
pub enum Place<'a> {
    /// A folder, or a GGUF file.
    Path(PathBuf),
    /// A repository of the Hugging Face hub, `owner/name`, at a commit, tag or branch.
    Hub { repo: &'a str, revision: &'a str },
}

/// What to add, and as what.
pub struct Request<'a> {
    /// Where it comes from.
    pub from: Place<'a>,
    /// Its name.
    pub name: &'a str,
    /// SPDX name of its licence; what the hub says where it is none.
    pub license: Option<&'a str>,
    /// One line for people.
    pub description: &'a str,
    /// Which weights to take where there are several.
    pub file: Option<&'a str>,
}

/// The files of a model, the weights first, and what their source says of them.
#[derive(Default)]
struct Taken {
    files: Vec<File>,
    origin: Option<String>,
    license: Option<String>,
}

/// Installs a model.
pub fn add(store: &Store, request: &Request<'_>) -> Result<()> {
    let name = request.name;
    if !is_valid_name(name) {
        return Err(pg_answer_models::Error::InvalidName(name.to_owned()).into());
    }
    if store.open(name).is_ok() {
        return Err(Failure::new(format!("there is a model \"{name}\" already")).hint(
            "a name stands for one content: choose another, or remove the model first with: pg_answer_model remove",
        ));
    }
    if let Place::Path(path) = &request.from {
        std::fs::metadata(path).map_err(|e| Failure::io(path, e))?;
    }
    let staging =
        store.stage(name, &mut || eprintln!("{name}: waiting for another process that is at it"))?;
    let installed = match &request.from {
        Place::Path(path) => copy(&staging, path, request),
        Place::Hub { repo, revision } => download(&staging, repo, revision, request),
    }
    .and_then(|taken| examine(&staging, taken, request));
    match installed {
        Ok(card) => {
            let about = describe(&card);
            let model = staging.install(&card)?;
            eprintln!("{name}: {about}");
            eprintln!("{name}: installed in {} ({})", model.dir.display(), HumanBytes(card.bytes()));
            prepare::after_pull(&model)
        }
        Err(failure) => {
            // What the network broke off can go on; what cannot be run is not kept.
            let is_unfinished = matches!(request.from, Place::Hub { .. }) && failure.is_temporary();
            if !is_unfinished {
                staging.discard()?;
            }
            Err(failure.of(name))
        }
    }
}

/// Copies the files from a folder.
fn copy(staging: &Staging, from: &Path, request: &Request<'_>) -> Result<Taken> {
    let (folder, paths) = files_of(from, request.file)?;
    let mut taken = Taken::default();
    for path in paths {
        interrupt::check()?;
        let target = staging.file(&path)?;
        std::fs::copy(folder.join(&path), &target).map_err(|e| Failure::io(&target, e))?;
        let mut digest = Digest::default();
        let bytes = digest.update_from(&target, &mut |_| interrupt::check())?;
        taken.files.push(File { path, bytes, sha256: digest.hex() });
    }
    Ok(taken)
}

/// Downloads the files of `repo` at the commit that `revision` stands for: first the small ones, which say whether the
/// weights are worth it.
fn download(staging: &Staging, repo: &str, revision: &str, request: &Request<'_>) -> Result<Taken> {
    let name = request.name;
    let about = hub::ask(staging, repo, revision).map_err(|failure| {
        failure.of(&format!("hub {repo} at {revision}")).hint(
            "is the name right, and is there a network? A private or gated model needs HF_TOKEN, and your consent on its page",
        )
    })?;
    if !is_valid_name(&about.sha) {
        return Err(Failure::new(format!("hub {repo}: it names no commit")));
    }
    eprintln!("{name}: {repo} at commit {}", about.sha);
    let siblings: Vec<&hub::Sibling> =
        about.siblings.iter().filter(|file| is_safe_path(&file.path)).collect();
    let found: Vec<String> = siblings.iter().map(|file| file.path.clone()).collect();
    let paths = choose(&found, request.file).map_err(|failure| failure.of(&format!("hub {repo}")))?;
    let wanted: Vec<&hub::Sibling> =
        paths.iter().filter_map(|path| siblings.iter().find(|file| file.path == *path)).copied().collect();
    let size =
        |file: &&hub::Sibling| File { path: file.path.clone(), bytes: file.size, sha256: String::new() };
    let sizes: Vec<File> = wanted.iter().map(size).collect();
    check_space(staging, name, &sizes.iter().collect::<Vec<_>>())?;
    let mut files = sizes.clone();
    let (weights, small): (Vec<usize>, Vec<usize>) = (0..wanted.len()).partition(|&i| is_weights(&paths[i]));
    for i in small {
        files[i] = fetch(staging, repo, &about.sha, wanted[i], name)?;
    }
    if !paths[0].ends_with(".gguf") {
        recognize(&staged(staging, card_of(request, &Taken { files: files.clone(), ..Taken::default() })))?;
    }
    for i in weights {
        files[i] = fetch(staging, repo, &about.sha, wanted[i], name)?;
    }
    let license = about.license().map(str::to_owned);
    Ok(Taken { files, origin: Some(format!("{repo}@{}", about.sha)), license })
}

/// Downloads a file, unless an earlier run has finished it.
fn fetch(staging: &Staging, repo: &str, commit: &str, file: &hub::Sibling, name: &str) -> Result<File> {
    let sha256 = file.lfs.as_ref().map(|lfs| lfs.sha256.as_str());
    let place = staging.file(&file.path)?;
    if let (true, Some(sha256)) = (place.exists(), sha256) {
        let mut digest = Digest::default();
        let bytes = digest.update_from(&place, &mut |_| interrupt::check())?;
        if digest.hex() == sha256 {
            eprintln!("{name}: {}: already here", file.path);
            return Ok(File { path: file.path.clone(), bytes, sha256: sha256.to_owned() });
        }
    }
    let wanted = hub::Wanted { path: &file.path, bytes: file.size, sha256 };
    hub::fetch_one(staging, name, repo, commit, &wanted)
}

/// Finds out what the files in `staging` are.
fn examine(staging: &Staging, taken: Taken, request: &Request<'_>) -> Result<Card> {
    let model = staged(staging, card_of(request, &taken));
    let mut check = || interrupt::check().map_err(|_| Error::Interrupted);
    let About { kind, family, dims, context_length, quantization } =
        inspect(&model, &Pool::new(0)?, &mut check)?;
    let mut card = model.card;
    (card.kind, card.dims, card.context_length) = (kind, dims, context_length);
    (card.architecture, card.quantization) = (family, quantization);
    Ok(card)
}

/// The card of a model of which nothing but its files is known.
fn card_of(request: &Request<'_>, taken: &Taken) -> Card {
    Card {
        name: request.name.to_owned(),
        kind: Kind::Decoder,
        architecture: String::new(),
        dims: None,
        context_length: 1,
        quantization: String::new(),
        license: request.license.or(taken.license.as_deref()).unwrap_or("unknown").to_owned(),
        origin: taken.origin.clone(),
        description: request.description.to_owned(),
        files: taken.files.clone(),
    }
}

/// The model whose files lie in `staging`.
fn staged(staging: &Staging, card: Card) -> InstalledModel {
    InstalledModel { card, dir: staging.work().join("new") }
}

/// One line on what the model is and can do.
fn describe(card: &Card) -> String {
    let does = match card.kind {
        Kind::Encoder => "embed()",
        Kind::Decoder => "generate() and rag_answer()",
        Kind::CrossEncoder => "rerank()",
        Kind::EncoderDecoder => "generate()",
    };
    let dims = card.dims.map_or_else(String::new, |dims| format!(", {dims} dimensions"));
    let Card { architecture, quantization, context_length, .. } = card;
    format!("{architecture} in {quantization}{dims}, up to {context_length} tokens; for {does}")
}

/// The folder and the files in it that make up the model, the weights first.
fn files_of(from: &Path, file: Option<&str>) -> Result<(PathBuf, Vec<String>)> {
    let about = std::fs::metadata(from).map_err(|e| Failure::io(from, e))?;
    if about.is_file() {
        let name = from.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.ends_with(".gguf") {
            return Err(Failure::new(format!("{} is neither a folder nor a GGUF file", from.display())));
        }
        let folder = from.parent().unwrap_or(Path::new("")).to_owned();
        return Ok((folder, vec![name.to_owned()]));
    }
    choose(&list(from)?, file)
        .map(|paths| (from.to_owned(), paths))
        .map_err(|failure| failure.of(&from.display().to_string()))
}

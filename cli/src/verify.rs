//! `verify`: are the installed models what their cards say?

use indicatif::HumanBytes;
use pg_answer_models::{Catalogue, Found, InstalledModel, Store};

use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::{interrupt, prepare};

/// Reads the models `names`, or all, and compares every file.
pub fn verify(store: &Store, catalogue: &Catalogue, names: &[String]) -> Result<()> {
    let models: Vec<Result<InstalledModel>> = match names {
        [] => store.list()?.into_iter().map(|model| Ok(model?)).collect(),
        names => names.iter().map(|name| Ok(store.open(name)?)).collect(),
    };
    if models.is_empty() {
        eprintln!("no models in {}", store.root().display());
    }
    let mut bad = 0;
    for model in models {
        let verified = model.and_then(|model| {
            check(&model)?;
            prepare::verify(&model)?;
            Ok(model)
        });
        match verified {
            Ok(model) => note_other_content(&model, catalogue),
            Err(failure) if failure.status() == 130 => return Err(failure),
            // An invalid name is wrong usage, whatever the other models are like.
            Err(failure) if failure.status() == 2 => return Err(failure),
            Err(failure) => {
                eprint!("{}", failure.report());
                bad += 1;
            }
        }
    }
    match bad {
        0 => Ok(()),
        1 => Err(Failure::local("1 model is not as it should be")),
        n => Err(Failure::local(format!("{n} models are not as they should be"))),
    }
}

/// Reads every file of the model; names each damaged one.
pub fn check(model: &InstalledModel) -> Result<()> {
    let name = &model.card.name;
    let mut progress = Progress::new(name, model.card.bytes());
    let mut damaged = Vec::new();
    for file in &model.card.files {
        progress.doing(&file.path);
        let read = model.verify_file(file, &mut |bytes| {
            progress.advance(bytes);
            interrupt::check()
        });
        match read {
            Ok(()) => {}
            Err(failure) if failure.status() == 130 => return Err(failure),
            Err(failure) => damaged.push(failure.message().to_owned()),
        }
    }
    if damaged.is_empty() {
        let (files, bytes) = (model.card.files.len(), HumanBytes(model.card.bytes()));
        progress.done(&format!("verified, {files} file{}, {bytes}", if files == 1 { "" } else { "s" }));
        return Ok(());
    }
    drop(progress);
    let hint = format!("mend it with: pg_answer_model --model-path {} pull {name}", root(model));
    Err(Failure::local(format!("{name}: {}", damaged.join("\n       "))).hint(hint))
}

fn root(model: &InstalledModel) -> std::path::Display<'_> {
    model.dir.parent().unwrap_or(&model.dir).display()
}

fn note_other_content(model: &InstalledModel, catalogue: &Catalogue) {
    let name = &model.card.name;
    let is_other =
        |found| matches!(found, Found::Pinned(entry) if entry.card.sha256() != model.card.sha256());
    if catalogue.get(name).is_ok_and(is_other) {
        eprintln!("{name}: note: these are not the weights that the catalogue gives this name");
    }
}

//! `prepare`: writes the file of a model's weights that all sessions of a server share.

use indicatif::HumanBytes;
use pg_answer_inference::{Error, Pool};
use pg_answer_models::{InstalledModel, Store};

use crate::failure::{Failure, Result};
use crate::interrupt;

/// Prepares the models `names`, or all, whether or not they are prepared already.
pub fn prepare(store: &Store, names: &[String]) -> Result<()> {
    let models: Vec<InstalledModel> = match names {
        [] => store.list()?.into_iter().collect::<Result<_, _>>()?,
        names => names.iter().map(|name| store.open(name)).collect::<Result<_, _>>()?,
    };
    models.iter().try_for_each(prepare_one)
}

/// Prepares a model that has just been pulled, unless it is prepared. A model that cannot be is installed all the same.
pub fn after_pull(model: &InstalledModel) -> Result<()> {
    if matches!(pg_answer_inference::prepared(model), Ok(Some(_))) {
        return Ok(());
    }
    match prepare_one(model) {
        Err(failure) if failure.status() != 130 => {
            eprintln!("{}: not prepared: {}", model.card.name, failure.message());
            Ok(())
        }
        done => done,
    }
}

fn prepare_one(model: &InstalledModel) -> Result<()> {
    let name = &model.card.name;
    let mut check = || interrupt::check().map_err(|_| Error::Interrupted);
    match pg_answer_inference::prepare(model, &Pool::new(0)?, &mut check)? {
        Some(image) => {
            eprintln!("{name}: prepared, {} that all sessions share", HumanBytes(image.memory() as u64));
        }
        None => eprintln!("{name}: all sessions share its files as they are"),
    }
    Ok(())
}

/// Reads the prepared files of `model` and compares their SHA-256.
pub fn verify(model: &InstalledModel) -> Result<()> {
    let mut check = || interrupt::check().map_err(|_| Error::Interrupted);
    let checked = pg_answer_inference::prepared::all(model)
        .and_then(|images| images.into_iter().try_for_each(|image| image?.verify(&mut check)));
    checked.map_err(|error| {
        let failure = Failure::from(error);
        let root = model.dir.parent().unwrap_or(&model.dir).display();
        let hint =
            format!("write it again with: pg_answer_model --model-path {root} prepare {}", model.card.name);
        if failure.status() == 130 { failure } else { failure.hint(hint) }
    })
}

//! `pg_answer_model`: pulls, verifies and lists the models that the extension `pg_answer` runs.

mod add;
mod failure;
mod interrupt;
mod list;
mod prepare;
mod progress;
mod pull;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pg_answer_models::catalogue::is_repository;
use pg_answer_models::{Catalogue, Store};

use add::{Place, Request};
use failure::{Failure, Result};

const EXAMPLES: &str = "\
Examples:
  pg_answer_model list --available            what can be had
  sudo pg_answer_model pull all-MiniLM-L6-v2  get a model for all databases of this machine
  pg_answer_model --model-path ~/models pull all-MiniLM-L6-v2
  pg_answer_model pull all-MiniLM-L6-v2 --from /media/usb/minilm   without any network
  pg_answer_model add ./bge-small --name bge-small   a model of your own
  pg_answer_model add BAAI/bge-small-en-v1.5         any other of the Hugging Face hub
  pg_answer_model verify                      read all models and compare their SHA-256
  pg_answer_model path all-MiniLM-L6-v2       the folder it is in

A pull that was cut off goes on where it stopped when it is started again.
The setting pg_answer.model_path of the server must name the same folder as --model-path.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// Pulls, verifies and lists the models of the PostgreSQL extension pg_answer.
#[derive(Parser)]
#[command(name = "pg_answer_model", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

/// Where things are.
#[derive(Args)]
struct Places {
    /// Folder of the installed models
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PG_ANSWER_MODEL_PATH",
        default_value = "/var/lib/pg_answer/models"
    )]
    model_path: PathBuf,
    /// Catalogue to use instead of the built-in one
    #[arg(long, global = true, value_name = "FILE")]
    catalogue: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Get models, check every file's SHA-256, and install them
    Pull {
        /// Names as in `list --available`
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Take the files from this folder (or its subfolder NAME) and use no network
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Install a model that is in no catalogue: find out what it is, or why it cannot be run
    Add {
        /// Folder with config.json, tokenizer.json and safetensors, a GGUF file, or owner/name on the Hugging Face hub
        /// (HF_ENDPOINT and HF_TOKEN are heeded)
        #[arg(value_name = "PATH|OWNER/NAME")]
        from: String,
        /// Its name in SQL; a name stands for one content, for ever. From the hub: the repository's name if none is given
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// SPDX name of its licence, for the list; from the hub: what its page says if none is given
        #[arg(long, value_name = "LICENSE")]
        license: Option<String>,
        /// Commit, tag or branch on the hub
        #[arg(long, value_name = "REVISION", default_value = "main")]
        revision: String,
        /// Which weights to take where there are several
        #[arg(long, value_name = "FILE")]
        file: Option<String>,
    },
    /// List the installed models, or those that can be pulled
    List {
        /// List what can be pulled
        #[arg(long)]
        available: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read installed models and compare every file's SHA-256
    Verify {
        /// Names of installed models; all of them if none is given
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Write the files from which all sessions of a server share a model's weights; `pull` does it too
    Prepare {
        /// Names of installed models; all of them if none is given
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print the folder of the models, or of one model
    Path {
        /// Name of an installed model
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove an installed model, and what an unfinished pull of it left
    Remove {
        /// Name of an installed model
        #[arg(value_name = "NAME")]
        name: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{}", failure.report());
            ExitCode::from(failure.status())
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    interrupt::catch()?;
    let Places { model_path, catalogue } = cli.places;
    let root = std::path::absolute(&model_path).map_err(|e| Failure::io(&model_path, e))?;
    let store = Store::new(root);
    let catalogue = || match &catalogue {
        Some(path) => Catalogue::read(path),
        None => Catalogue::built_in(),
    };
    match cli.command {
        Command::Pull { names, from } => pull::pull(&store, &catalogue()?, &names, from.as_deref()),
        Command::Add { from, name, license, revision, file } => {
            let path = PathBuf::from(&from);
            let is_hub = !path.exists() && is_repository(&from);
            let named = || if is_hub { from.split('/').next_back() } else { None };
            let Some(name) = name.as_deref().or_else(named) else {
                return Err(Failure::usage("a model from a folder needs a name").hint("say --name NAME"));
            };
            let request = Request {
                from: if is_hub {
                    Place::Hub { repo: &from, revision: &revision }
                } else {
                    Place::Path(path)
                },
                name,
                license: license.as_deref(),
                description: "",
                file: file.as_deref(),
            };
            add::add(&store, &request)
        }
        Command::List { available, json } => {
            let catalogue = if available { Some(catalogue()?) } else { None };
            list::list(&store, catalogue.as_ref(), json)
        }
        Command::Verify { names } => verify::verify(&store, &catalogue()?, &names),
        Command::Prepare { names } => prepare::prepare(&store, &names),
        Command::Path { name } => {
            let dir = match name {
                Some(name) => store.open(&name)?.dir,
                None => store.root().to_owned(),
            };
            list::print(&format!("{}\n", dir.display()))
        }
        Command::Remove { name } => {
            store.remove(&name, &mut || eprintln!("{name}: waiting for another process that is at it"))?;
            eprintln!("{name}: removed from {}", store.root().display());
            Ok(())
        }
    }
}

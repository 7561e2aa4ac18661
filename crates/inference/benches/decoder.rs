//! The decoder beside llama.cpp: the same work in turns, in one run. Needs the store that `PG_ANSWER_MODEL_PATH` names;
//! `PG_ANSWER_PEERS` names a Python with llama-cpp-python, without which our half is measured alone.
//!
//! Arguments: models to measure; by default those of the store that are decoders. `--processor-time` counts the time of
//! the processor with one thread on each side instead of the clock's with two: for machines that others use meanwhile.
//! `--only=WORDS` measures the work whose name begins like that.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use pg_answer_inference::Pool;
use pg_answer_inference::decoder::{Decoder, GenerateOptions, Message, Prompt, Sampling};
use pg_answer_models::{InstalledModel, Kind, Store};

const ROUNDS: usize = 3;
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/peers/decoder.py");

/// What is timed: reading, or writing after a short or quotable prompt. Figures are tokens a second.
struct Work {
    name: &'static str,
    prompt: Vec<u32>,
    written: usize,
    draft: bool,
}

/// How time is counted.
#[derive(Clone, Copy)]
struct Timer {
    clock: libc::clockid_t,
    threads: usize,
}

impl Timer {
    fn seconds(self, work: impl FnOnce()) -> f64 {
        let now = || {
            let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: a valid pointer to a local value.
            assert_eq!(unsafe { libc::clock_gettime(self.clock, &raw mut now) }, 0);
            Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
        };
        let start = now();
        work();
        (now() - start).as_secs_f64()
    }
}

struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    fn start(model: &InstalledModel, timer: Timer) -> Option<Self> {
        let python = std::env::var("PG_ANSWER_PEERS").ok()?;
        let file = model.weights().expect("weights");
        let mut child = Command::new(python)
            .args([PEER, &file.display().to_string(), &timer.threads.to_string()])
            .arg(if timer.clock == libc::CLOCK_MONOTONIC { "clock" } else { "processor" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peers' Python");
        let (input, output) = (child.stdin.take().expect("pipe"), child.stdout.take().expect("pipe"));
        let mut peer = Self { child, input, output: BufReader::new(output), version: String::new() };
        peer.version = peer.line();
        Some(peer)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer of the peer");
        line.trim().to_owned()
    }

    /// Seconds of reading and of writing.
    fn run(&mut self, work: &Work) -> (f64, f64) {
        writeln!(self.input, "{} {:?}", work.written, work.prompt).expect("a task for the peer");
        let line = self.line();
        let mut numbers = line.split(' ').map(|x| x.parse().expect("a number"));
        (numbers.next().expect("seconds"), numbers.next().expect("seconds"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours(decoder: &mut Decoder, pool: &Pool, timer: Timer, work: &Work) -> (f64, f64) {
    let options = GenerateOptions {
        max_tokens: work.written + 1,
        sampling: Sampling::default(),
        stop: Vec::new(),
        draft: work.draft,
        max_memory: usize::MAX,
    };
    decoder.forget();
    let read = timer.seconds(|| {
        decoder.prefill(&work.prompt, pool, &mut || Ok(())).expect("prefill");
    });
    if work.written == 0 {
        return (read, 0.0);
    }
    let prompt = Prompt { text: String::new(), ids: work.prompt.clone(), fixed: 0 };
    let mut tokens = 0;
    let wrote = timer.seconds(|| {
        let answer = decoder.generate(&prompt, &options, pool, &mut || Ok(()), &mut |_| Ok(()));
        tokens = answer.expect("generate").ids.len();
    });
    // The last token of the prompt is read again, as a pass of its own: as many passes as plain tokens.
    (read, wrote * work.written as f64 / tokens as f64)
}

fn work(decoder: &Decoder) -> Vec<Work> {
    let numbers = |n: u32| (0..n).map(|i| 1000 + i * 7 % 90_000).collect::<Vec<u32>>();
    let passage = include_str!("passage.txt");
    let content = format!("Repeat the following text word for word.\n\n{passage}");
    let quoting = decoder.render_chat(&[Message { role: "user".to_owned(), content }]).expect("a template");
    let work = |name, prompt, written, draft| Work { name, prompt, written, draft };
    vec![
        work("read 512", numbers(512), 0, false),
        work("read 2,000", numbers(2000), 0, false),
        work("write 64", numbers(32), 64, false),
        work("write 128 that quote", quoting.ids, 128, true),
    ]
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    let root = std::env::var("PG_ANSWER_MODEL_PATH")
        .expect("set PG_ANSWER_MODEL_PATH to the folder of installed models");
    let store = Store::new(root);
    let mut names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if names.is_empty() {
        let models = store.list().expect("the store");
        let decoders = models.into_iter().flatten().filter(|m| m.card.kind == Kind::Decoder);
        names = decoders.map(|m| m.card.name).collect();
    }
    let timer = if std::env::args().any(|a| a == "--processor-time") {
        Timer { clock: libc::CLOCK_PROCESS_CPUTIME_ID, threads: 1 }
    } else {
        Timer { clock: libc::CLOCK_MONOTONIC, threads: 2 }
    };
    let only =
        std::env::args().find_map(|a| a.strip_prefix("--only=").map(str::to_owned)).unwrap_or_default();
    let pool = Pool::new(timer.threads).expect("threads");
    for name in names {
        let model = store.open(&name).unwrap_or_else(|e| panic!("{e}"));
        let mut decoder = None;
        let load = timer.seconds(|| decoder = Decoder::load(&model, &pool, &mut || Ok(())).ok());
        let mut decoder = decoder.expect("load");
        println!("{name}: loaded in {:.0} ms", load * 1000.0);
        let mut peer = Peer::start(&model, timer);
        println!("peer: {}", peer.as_ref().map_or("none", |p| &p.version));
        println!(
            "| tokens/s, threads: {} | ours | llama.cpp | ratio |\n| --- | --- | --- | --- |",
            timer.threads
        );
        for work in work(&decoder).into_iter().filter(|work| work.name.starts_with(&only)) {
            let (mut mine, mut theirs) = (Vec::new(), Vec::new());
            let time = |(read, wrote): (f64, f64)| if work.written == 0 { read } else { wrote };
            for _ in 0..ROUNDS {
                mine.push(time(ours(&mut decoder, &pool, timer, &work)));
                if let Some(peer) = &mut peer {
                    theirs.push(time(peer.run(&work)));
                }
            }
            let tokens = if work.written == 0 { work.prompt.len() } else { work.written } as f64;
            let mine = tokens / median(mine);
            if theirs.is_empty() {
                println!("| {} | {mine:.1} | | |", work.name);
            } else {
                let theirs = tokens / median(theirs);
                println!("| {} | {mine:.1} | {theirs:.1} | {:.2} |", work.name, mine / theirs);
            }
        }
    }
}

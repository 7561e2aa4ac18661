//! Progress of long work: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress over one file.
pub struct Progress {
    bar: ProgressBar,
    label: String,
    plain: bool,
    last: Instant,
}

impl Progress {
    /// Shows that `bytes` of work begin on what `label` names.
    pub fn new(label: impl Into<String>, bytes: u64) -> Self {
        let label = label.into();
        let plain = !std::io::stderr().is_terminal();
        let target =
            if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let style = "{msg}\n  {wide_bar} {bytes:>10} of {total_bytes}  {bytes_per_sec:>12}  ETA {eta}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(label.clone());
        Self { bar, label, plain, last: Instant::now() }
    }

    /// Says what is being done right now.
    pub fn doing(&self, what: &str) {
        self.bar.set_message(format!("{} ({what})", self.label));
    }

    /// So many bytes more are done.
    pub fn advance(&mut self, bytes: u64) {
        self.set(self.bar.position() + bytes);
    }

    /// So many bytes are done in all.
    pub fn set(&mut self, bytes: u64) {
        let total = self.bar.length().unwrap_or(0);
        let bytes = bytes.min(total);
        self.bar.set_position(bytes);
        if self.plain && self.last.elapsed() >= LINE_EVERY && bytes < total {
            self.last = Instant::now();
            let rate = self.bar.per_sec();
            eprintln!(
                "{}: {} of {} ({} %), {}/s, about {} s left",
                self.label,
                HumanBytes(bytes),
                HumanBytes(total),
                bytes * 100 / total.max(1),
                HumanBytes(rate as u64),
                self.bar.eta().as_secs()
            );
        }
    }

    /// How many bytes are done.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Takes the bar away and prints a line in its place.
    pub fn done(self, outcome: &str) {
        self.bar.finish_and_clear();
        eprintln!("{}: {outcome}", self.label);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

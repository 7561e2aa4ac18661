//! `summarize`, `translate`, `rewrite`: long texts by pieces that the model can read.

use pg_answer_inference::language::RewriteOptions;
use pg_answer_models::Kind;
use pg_answer_tasks::writing::{FRAME, Task, whole_sentences};
use pg_answer_text::chunk::{Limits, try_split};
use pgrx::PgSqlErrorCode as Code;
use pgrx::prelude::*;

use super::messages;
use crate::error::{OrRaise, Report, required};
use crate::generate::{Choices, converse, rewrite};
use crate::model::{self, check, with_decoder, with_rewriter};
use crate::settings;

/// Fewest tokens of a text that a piece must have room for.
const LEAST: usize = 32;

/// A model, and how much of a text it reads and writes at once.
struct Author {
    name: String,
    kind: Kind,
    /// Most tokens of a piece.
    room: usize,
}

impl Author {
    /// The model named or set. It reads at most `context_tokens` of a text at once, and leaves room for `written` tokens
    /// and, of a text that is written anew, as many as it has.
    fn new(model: Option<&str>, context_tokens: i32, written: usize, anew: bool) -> Self {
        let name = model.map_or_else(settings::generation_model, str::to_owned);
        let kind = model::kind(&name).or_raise();
        let room = match kind {
            Kind::EncoderDecoder => {
                with_rewriter(&name, |rewriter, _| Ok(rewriter.context_length().saturating_sub(LEAST)))
                    .or_raise()
            }
            _ => {
                let window = with_decoder(&name, |decoder, _| Ok(decoder.context_length())).or_raise();
                window.saturating_sub(FRAME + written) / if anew { 2 } else { 1 }
            }
        };
        let room = room.min(positive("context_tokens", context_tokens));
        if room < LEAST {
            Report::new(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("there is no room for a text: {room} tokens are left"),
            )
            .hint("Raise context_tokens, lower max_tokens, or choose a model with a larger window.")
            .raise();
        }
        Self { name, kind, room }
    }

    fn count(&self, text: &str) -> usize {
        model::count_tokens(&self.name, text).or_raise()
    }

    /// The pieces of `content`, by paragraphs and sentences where it has them, and what stands before each.
    fn pieces<'a>(&self, content: &'a str) -> Vec<(&'a str, &'a str)> {
        if self.count(content) <= self.room {
            return vec![("", content)];
        }
        let limits = Limits::new(self.room).map_err(|e| Report::invalid(e.to_string())).or_raise();
        let count = |text: &str| {
            check()?;
            model::count_tokens(&self.name, text)
        };
        let mut end = 0;
        let ranges = try_split(content, limits, &count).or_raise();
        let pieces = ranges.into_iter().map(|range| {
            let before = &content[end..range.start];
            end = range.end;
            (before, &content[range])
        });
        pieces.collect()
    }

    /// What becomes of `content`, which fits, in at most `max_tokens`; the end of a text that was cut is a sentence's.
    fn write(&self, task: Task<'_>, content: &str, max_tokens: usize) -> String {
        if self.kind == Kind::EncoderDecoder {
            let options = RewriteOptions { max_tokens, ..RewriteOptions::default() };
            let text = |rewriter: &pg_answer_inference::language::Rewriter| {
                let mut prefixes = rewriter.tasks().filter_map(|name| Some((name, rewriter.prefix(name)?)));
                let prefix = prefixes.find(|(name, prefix)| task.is_called(name, prefix));
                Ok(prefix.map_or("", |(_, prefix)| prefix).to_owned() + content)
            };
            return rewrite(&self.name, text, &options);
        }
        let max_tokens = i32::try_from(max_tokens).unwrap_or(i32::MAX);
        let choices = Choices { max_tokens, temperature: 0.0, top_p: 1.0, seed: Some(0), stop: Vec::new() };
        let written = converse(&messages(&task.turns(content)), &self.name, choices).generation;
        let text = written.text.trim();
        let cut = written.stop == pg_answer_inference::decoder::StopReason::Length;
        if cut { whole_sentences(text).to_owned() } else { text.to_owned() }
    }

    /// `content` written anew piece by piece, with what stood between the pieces.
    fn write_anew(&self, task: Task<'_>, content: &str) -> String {
        let mut out = String::new();
        for (before, piece) in self.pieces(content) {
            out.push_str(before);
            if !piece.trim().is_empty() {
                out.push_str(&self.write(task, piece, 2 * self.count(piece) + LEAST));
            }
        }
        out
    }
}

fn positive(name: &str, value: i32) -> usize {
    usize::try_from(value)
        .ok()
        .filter(|n| *n > 0)
        .unwrap_or_else(|| Report::invalid(format!("{name} must be at least 1, not {value}")).raise())
}

/// A summary; that of a long text is made of its pieces' summaries, as often as it takes.
#[pg_extern(sql = false)]
fn pg_answer_summarize(
    content: Option<&str>,
    instruction: Option<&str>,
    max_tokens: Option<i32>,
    context_tokens: Option<i32>,
    model: Option<&str>,
) -> String {
    required!(content, max_tokens, context_tokens);
    let max_tokens = positive("max_tokens", max_tokens);
    let author = Author::new(model, context_tokens, max_tokens, false);
    let task = Task::Summarize { instruction };
    let mut content = content.to_owned();
    loop {
        if content.trim().is_empty() {
            return String::new();
        }
        let pieces = author.pieces(&content);
        if let [(_, whole)] = pieces[..] {
            return author.write(task, whole, max_tokens);
        }
        // Short enough that every round leaves at most half.
        let short = max_tokens.min(author.room / 4);
        let summaries: Vec<String> =
            pieces.iter().map(|(_, piece)| author.write(task, piece, short)).collect();
        content = summaries.join("\n\n");
    }
}

#[pg_extern(sql = false)]
fn pg_answer_translate(
    content: Option<&str>,
    language: Option<&str>,
    context_tokens: Option<i32>,
    model: Option<&str>,
) -> String {
    required!(content, language, context_tokens);
    if language.trim().is_empty() {
        Report::invalid("language must not be empty").raise();
    }
    let author = Author::new(model, context_tokens, LEAST, true);
    author.write_anew(Task::Translate { language }, content)
}

#[pg_extern(sql = false)]
fn pg_answer_rewrite(
    content: Option<&str>,
    instruction: Option<&str>,
    context_tokens: Option<i32>,
    model: Option<&str>,
) -> String {
    required!(content, instruction, context_tokens);
    let author = Author::new(model, context_tokens, LEAST, true);
    if author.kind == Kind::EncoderDecoder {
        let message = format!("model \"{}\" cannot follow an instruction", author.name);
        Report::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message)
            .hint("Take a chat model, or generate() with the prefix that the model was trained for.")
            .raise();
    }
    author.write_anew(Task::Rewrite { instruction }, content)
}

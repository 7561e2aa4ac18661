//! Answers handed out sentence by sentence, as the model writes them.

use pg_answer_inference::language::Continuation;
use pg_answer_rag::{Attempt, Passage, Sentences, Unsupported, attempts};
use pgrx::Array;
use pgrx::prelude::*;

use super::answer::{Task, collect};
use crate::error::{OrRaise, Report, required};
use crate::generate::Choices;
use crate::model::{Run, check, with_decoder};

/// Tokens to write before whole sentences are looked for: about half a sentence.
const STEP: usize = 12;

/// An answer that is being written. Between two rows it holds texts and tokens, and nothing of a model: the session may ask
/// other questions, and a cursor that is closed early leaves nothing behind.
struct Answer {
    query: String,
    given: Vec<Passage>,
    system: String,
    message: String,
    model: Option<String>,
    context_tokens: i32,
    choices: Choices,
    unsupported: Unsupported,
    /// The attempts that are left, the next one last.
    attempts: Vec<Attempt>,
    attempt: Option<Running>,
    has_given: bool,
    /// What to say when no attempt gives a sentence.
    refusal: Option<String>,
}

struct Running {
    model: String,
    written: Continuation,
    sentences: Sentences,
}

impl Answer {
    fn begin(&self, Attempt { read, question_first }: Attempt) -> Running {
        let task = Task::new(&self.query, &self.given[..read], self.model.as_deref(), self.context_tokens);
        let asked = task.asked(&self.system, &self.message, question_first);
        let prompt = with_decoder(&task.model, |decoder, _| asked.prompt(decoder)).or_raise();
        let written = Continuation::new(prompt, self.choices.clone().options());
        let sentences = Sentences::new(&self.query, self.given.clone(), self.unsupported);
        Running { model: task.model, written, sentences }
    }
}

impl Running {
    fn write(&mut self) {
        let Self { model, written, .. } = self;
        let before = written.answer_tokens();
        let (texts, tokens) = if before == 0 { (1, written.prompt_tokens()) } else { (0, 0) };
        with_decoder(model, |decoder, pool| {
            let run = Run::begin(model, texts, tokens, 0);
            written.step(decoder, STEP, pool, &mut check)?;
            run.succeeded(written.answer_tokens() - before);
            Ok(())
        })
        .or_raise();
    }
}

impl Iterator for Answer {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let Some(attempt) = &mut self.attempt else {
                match self.attempts.pop() {
                    Some(attempt) => self.attempt = Some(self.begin(attempt)),
                    None => return self.refusal.take(),
                }
                continue;
            };
            let has_ended = attempt.written.has_ended();
            if let Some(sentence) = attempt.sentences.next(attempt.written.text(), has_ended) {
                self.has_given = true;
                return Some(sentence);
            }
            match (has_ended, self.has_given) {
                (true, true) => return None,
                (true, false) => self.attempt = None,
                (false, _) => attempt.write(),
            }
        }
    }
}

/// As `pg_answer_write`, with one row for each sentence, made when it is asked for.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn pg_answer_stream(
    query: Option<&str>,
    contents: Option<Array<&str>>,
    titles: Option<Array<&str>>,
    system: Option<&str>,
    message: Option<&str>,
    model: Option<&str>,
    max_tokens: Option<i32>,
    context_tokens: Option<i32>,
    temperature: Option<f64>,
    seed: Option<i64>,
    on_unsupported: Option<&str>,
    refusal: Option<&str>,
) -> SetOfIterator<'static, String> {
    required!(
        query,
        contents,
        titles,
        system,
        message,
        max_tokens,
        context_tokens,
        temperature,
        on_unsupported
    );
    let unsupported: Unsupported = on_unsupported.parse().map_err(Report::invalid).or_raise();
    let given = collect(&contents, &titles).1;
    let attempts = attempts(given.len()).into_iter().rev().collect();
    SetOfIterator::new(Answer {
        query: query.to_owned(),
        given,
        system: system.to_owned(),
        message: message.to_owned(),
        model: model.map(str::to_owned),
        context_tokens,
        choices: Choices { max_tokens, temperature, top_p: 1.0, seed, stop: Vec::new() },
        unsupported,
        attempts,
        attempt: None,
        has_given: false,
        refusal: refusal.map(str::to_owned),
    })
}

//! An answer in steps, between which the model serves others.

use super::LanguageModel;
use crate::decoder::{GenerateOptions, Prompt, StopReason};
use crate::{Check, Pool, Result};

/// An answer that is being written. It holds tokens and nothing of the model: who has read something else in between
/// only makes it read again.
pub struct Continuation {
    prompt_tokens: usize,
    /// The prompt, and what is written after it.
    so_far: Prompt,
    options: GenerateOptions,
    text: String,
    ended: bool,
}

impl Continuation {
    /// Nothing written yet after `prompt`. Strings of `options.stop` are looked for within a step only.
    pub fn new(prompt: Prompt, options: GenerateOptions) -> Self {
        let (prompt_tokens, ended) = (prompt.ids.len(), options.max_tokens == 0);
        Self { prompt_tokens, so_far: prompt, options, text: String::new(), ended }
    }

    /// All that is written, in whole characters.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing will follow.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Tokens written, without the end token.
    pub fn answer_tokens(&self) -> usize {
        self.so_far.ids.len() - self.prompt_tokens
    }

    /// Writes at most `tokens` tokens more. After an error nothing is lost: the step may be taken again.
    ///
    /// # Errors
    /// As [`LanguageModel::generate`].
    pub fn step(
        &mut self,
        model: &mut LanguageModel,
        tokens: usize,
        pool: &Pool,
        check: Check<'_>,
    ) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let written = self.answer_tokens();
        let mut options = self.options.clone();
        options.max_tokens = (options.max_tokens - written).min(tokens.max(1));
        // Another number for each step, the same from run to run.
        options.sampling.seed = options.sampling.seed.wrapping_add(written as u64);
        let mut step = model.generate(&self.so_far, &options, pool, check, &mut |_| Ok(()))?;
        if step.stop == StopReason::EndOfText {
            step.ids.pop();
        }
        self.so_far.ids.append(&mut step.ids);
        self.text = model.text(&self.so_far.ids[self.prompt_tokens..])?;
        self.ended = step.stop != StopReason::Length
            || self.answer_tokens() >= self.options.max_tokens
            || self.so_far.ids.len() >= model.context_length();
        Ok(())
    }
}

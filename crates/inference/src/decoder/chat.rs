//! Prompts: the file's chat template, and the separation of its control tokens from the users' text.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value, context};

use super::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Steps after which a template is taken to run forever.
const FUEL: u64 = 10_000_000;
const NAME: &str = "chat";

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said. Texts of control tokens in it stay text.
    pub content: String,
}

/// What a model reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// As text.
    pub text: String,
    /// As tokens.
    pub ids: Vec<u32>,
    /// How many of them, from the first on, are known to stand in other prompts, too, and to hold nothing of a user's: what
    /// a model keeps of them may be kept for other sessions.
    pub fixed: usize,
}

impl Prompt {
    /// This prompt, of which as much is [`fixed`](Self::fixed) as `frame` begins with: the same without a user's texts.
    pub fn within(mut self, frame: &Self) -> Self {
        self.fixed = self.ids.iter().zip(&frame.ids).take_while(|(a, b)| a == b).count();
        self
    }
}

/// What a chat template needs of a tokenizer.
pub trait ChatTokens {
    /// The token that begins every prompt, if the model wants one.
    fn begin(&self) -> Option<u32>;
    /// Start and end of the control tokens' texts in `text`.
    fn find_control(&self, text: &str) -> Vec<(usize, usize)>;
    /// Ids of `text` with its control tokens, every `hidden` character left out after they have been found.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the text cannot be split into words.
    fn encode_chat(&self, text: &str, hidden: char) -> Result<Vec<u32>>;
}

impl ChatTokens for Tokenizer {
    fn begin(&self) -> Option<u32> {
        self.begin()
    }

    fn find_control(&self, text: &str) -> Vec<(usize, usize)> {
        self.find_control(text)
    }

    fn encode_chat(&self, text: &str, hidden: char) -> Result<Vec<u32>> {
        self.encode_without(text, true, Some(hidden))
    }
}

/// A chat template.
pub struct Template {
    environment: Option<Environment<'static>>,
    begin: String,
    end: String,
}

impl Template {
    /// The template `source`, which a model need not have; `begin` and `end` are the texts of the tokens that begin
    /// and end a text.
    ///
    /// # Errors
    /// What is wrong with its syntax.
    pub fn new(source: Option<&str>, begin: &str, end: &str) -> std::result::Result<Self, String> {
        let (begin, end) = (begin.to_owned(), end.to_owned());
        let Some(source) = source else { return Ok(Self { environment: None, begin, end }) };
        let mut environment = Environment::new();
        // As Hugging Face's transformers renders templates.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| e.to_string())?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<String, _> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|e| format!("its chat template is wrong: {e}"))?;
        Ok(Self { environment: Some(environment), begin, end })
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.environment.is_some()
    }

    /// The prompt for an answer to `messages`.
    ///
    /// # Errors
    /// `InvalidInput` without messages, for a strange role, without a template, or when the template refuses.
    pub fn render(&self, messages: &[Message], tokenizer: &dyn ChatTokens) -> Result<Prompt> {
        if messages.is_empty() {
            return Err(Error::InvalidInput("a conversation needs at least one message".to_owned()));
        }
        for Message { role, .. } in messages {
            if role.is_empty() || !role.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(Error::InvalidInput(format!("\"{role}\" is not a role")));
            }
        }
        let Some(environment) = &self.environment else {
            return Err(Error::InvalidInput("the model has no chat template".to_owned()));
        };
        let hidden = self.unused_character(messages, environment)?;
        let turns: Vec<Value> = messages
            .iter()
            .map(|m| {
                let content = break_control(&m.content, hidden, tokenizer);
                context! { role => m.role.as_str(), content => content }
            })
            .collect();
        let rendered = environment
            .get_template(NAME)
            .and_then(|template| {
                template.render(context! {
                    messages => turns,
                    add_generation_prompt => true,
                    bos_token => self.begin.as_str(),
                    eos_token => self.end.as_str(),
                })
            })
            .map_err(|e| Error::InvalidInput(format!("the chat template failed: {e}")))?;
        let mut ids = tokenizer.encode_chat(&rendered, hidden)?;
        if let Some(begin) = tokenizer.begin().filter(|begin| ids.first() != Some(begin)) {
            ids.insert(0, begin);
        }
        Ok(Prompt { text: rendered.replace(hidden, ""), ids, fixed: 0 })
    }

    /// A private character that stands nowhere in what is rendered.
    fn unused_character(&self, messages: &[Message], environment: &Environment<'_>) -> Result<char> {
        let template = environment.get_template(NAME).map_err(|e| Error::Internal(e.to_string()))?;
        let mut used: std::collections::HashSet<char> = template.source().chars().collect();
        used.extend(messages.iter().flat_map(|m| m.content.chars()));
        used.extend(self.begin.chars().chain(self.end.chars()));
        ('\u{E000}'..='\u{F8FF}')
            .chain('\u{F0000}'..='\u{FFFFD}')
            .find(|c| !used.contains(c))
            .ok_or_else(|| Error::InvalidInput("the conversation uses every private character".to_owned()))
    }
}

/// Puts `hidden` into the texts of control tokens, so that they are not found after rendering.
fn break_control(content: &str, hidden: char, tokenizer: &dyn ChatTokens) -> String {
    let mut text = content.to_owned();
    loop {
        let found = tokenizer.find_control(&text);
        if found.is_empty() {
            return text;
        }
        let mut out = String::with_capacity(text.len() + 4 * found.len());
        let mut from = 0;
        for (start, _) in found {
            let first = text[start..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&text[from..start + first]);
            out.push(hidden);
            from = start + first;
        }
        out.push_str(&text[from..]);
        // A control token of a single character cannot be broken: leave it out.
        if tokenizer.find_control(&out).len() >= tokenizer.find_control(&text).len() {
            return content_without_control(content, tokenizer);
        }
        text = out;
    }
}

/// The content without the texts of control tokens.
fn content_without_control(content: &str, tokenizer: &dyn ChatTokens) -> String {
    let mut text = content.to_owned();
    loop {
        let found = tokenizer.find_control(&text);
        if found.is_empty() {
            return text;
        }
        for (start, end) in found.into_iter().rev() {
            text.replace_range(start..end, "");
        }
    }
}

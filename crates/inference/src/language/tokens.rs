//! Text to tokens and back by the tokenizers library, for models that write.

use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Encoding, Token, Tokenizer};

use super::pieces::{self, Pieces};
use super::vocabulary;
use crate::decoder::chat::{ChatTokens, Template};
use crate::encoder::files::Files;
use crate::encoder::tokenizer::caught;
use crate::families::Fields;
use crate::{Error, Result};

/// Vocabularies of 250,000 words take about 20 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Id that no vocabulary holds: it stands for a text's own tokens.
const MARK: u32 = u32::MAX;
/// Tokens that a character may need: those before it are decoded again to find what the last one adds.
const WINDOW: usize = 16;

/// The tokenizer of a model that writes.
pub struct Tokens {
    library: Library,
    /// Finds the texts of control tokens.
    control: Option<AhoCorasick>,
    control_ids: Vec<u32>,
    /// Tokens before and after every text.
    before: Vec<u32>,
    after: Vec<u32>,
    ends: Vec<u32>,
}

/// What makes ids of texts.
enum Library {
    File(Box<Tokenizer>),
    Pieces(Box<Pieces>),
}

/// What the files beside `tokenizer.json` say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    bos_token: Value,
    eos_token: Value,
    chat_template: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GenerationConfig {
    eos_token_id: Value,
}

impl Tokens {
    /// The tokenizer and the chat template in `files`; `fields` are those of `config.json`.
    ///
    /// # Errors
    /// [`pg_answer_models::Error::Damaged`].
    pub fn read(files: &Files<'_>, fields: &Fields) -> Result<(Self, Template)> {
        const FILE: &str = "tokenizer.json";
        let config: Config = files.json("tokenizer_config.json")?.unwrap_or_default();
        let (mut begin, mut end) = (name_of(&config.bos_token), name_of(&config.eos_token));
        let mut source = template_of(&config.chat_template);
        if files.has("chat_template.jinja") {
            let text = files.read("chat_template.jinja", 1 << 20)?;
            source = Some(String::from_utf8_lossy(&text).into_owned());
        }
        let mut ends = fields.ids("eos_token_id");
        let generation: GenerationConfig = files.json("generation_config.json")?.unwrap_or_default();
        ends.extend(Fields::ids_of(&generation.eos_token_id));
        if !files.has(FILE) && files.has(pieces::SOURCE) {
            let pieces = Pieces::read(files)?;
            ends.push(pieces.end());
            let template = Template::new(None, &begin, &end).map_err(|reason| files.damaged(FILE, reason))?;
            return Ok((Self::of_pieces(pieces, ends), template));
        }
        let library = match files.gguf()? {
            Some(gguf) if !files.has(FILE) => {
                let found = vocabulary::tokenizer(&gguf)?;
                (begin, end) = (found.begin, found.end);
                source = gguf.text("tokenizer.chat_template").map(str::to_owned);
                ends.extend(found.ends);
                found.library
            }
            _ => {
                let json = files.read(FILE, MAX_BYTES)?;
                caught(|| Tokenizer::from_bytes(&json)).map_err(|reason| files.damaged(FILE, reason))?
            }
        };
        let template = Template::new(source.as_deref(), &begin, &end);
        let template = template.map_err(|reason| files.damaged("tokenizer_config.json", reason))?;
        ends.extend(library.token_to_id(&end));
        let tokens = Self::new(library, ends).map_err(|reason| files.damaged(FILE, reason))?;
        Ok((tokens, template))
    }

    fn new(mut library: Tokenizer, ends: Vec<u32>) -> std::result::Result<Self, String> {
        caught(|| library.with_truncation(None).map(drop))?;
        library.with_padding(None);
        // Texts of control tokens in a text of users stay text.
        library.set_encode_special_tokens(true);
        let probe = Encoding::from_tokens(vec![Token::new(MARK, String::new(), (0, 0))], 0);
        let probe = caught(|| library.post_process(probe, None, true))?;
        let mut around = probe.get_ids().split(|&id| id == MARK);
        let (Some(before), Some(after), None) = (around.next(), around.next(), around.next()) else {
            return Err("its post-processor does not keep a text in one piece".to_owned());
        };
        let (before, after) = (before.to_vec(), after.to_vec());
        let added = library.get_added_tokens_decoder();
        let mut special: Vec<(u32, String)> = added
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (id, token.content))
            .collect();
        special.sort();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(special.iter().map(|(_, text)| text))
            .map_err(|e| e.to_string())?;
        let control_ids: Vec<u32> = special.iter().map(|(id, _)| *id).collect();
        let control = (!control_ids.is_empty()).then_some(search);
        let library = Library::File(Box::new(library));
        Ok(Self { library, control, control_ids, before, after, ends })
    }

    fn of_pieces(pieces: Pieces, ends: Vec<u32>) -> Self {
        let after = vec![pieces.end()];
        let library = Library::Pieces(Box::new(pieces));
        Self { library, control: None, control_ids: Vec::new(), before: Vec::new(), after, ends }
    }

    /// The ids of `text` alone.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let library = match &self.library {
            Library::Pieces(pieces) => return pieces.encode(text),
            Library::File(library) => library,
        };
        let encoding = caught(|| library.encode_fast(text, false));
        encoding.map(|e| e.get_ids().to_vec()).map_err(|e| Error::InvalidInput(format!("tokenizer: {e}")))
    }

    /// `ids` with the tokens before and after every text.
    pub fn frame(&self, ids: Vec<u32>) -> Vec<u32> {
        [&self.before[..], &ids, &self.after].concat()
    }

    /// Tokens that end an answer.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// What each of `size` tokens writes: nothing for control tokens.
    ///
    /// # Errors
    /// [`Error::Internal`] when the tokenizer does not say what bytes its tokens write.
    pub fn words(&self, size: usize) -> Result<Vec<Vec<u8>>> {
        let Library::File(library) = &self.library else {
            return Err(Error::Internal("pieces have no bytes".to_owned()));
        };
        let words = || {
            let json = serde_json::from_str(&library.to_string(false)?)?;
            Ok(llguidance::token_bytes_from_tokenizer_json(&json)?)
        };
        let mut words = caught(words).map_err(|e| Error::Internal(format!("tokenizer: {e}")))?;
        words.resize(size, Vec::new());
        self.control_ids.iter().filter_map(|&id| words.get_mut(id as usize).map(Vec::clear)).for_each(drop);
        Ok(words)
    }

    /// The text of `ids`; control tokens have none.
    ///
    /// # Errors
    /// [`Error::Internal`] when the library fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match &self.library {
            Library::Pieces(pieces) => Ok(pieces.decode(ids)),
            Library::File(library) => {
                caught(|| library.decode(ids, true)).map_err(|e| Error::Internal(format!("tokenizer: {e}")))
            }
        }
    }

    /// Whether `id` ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// Puts what the last of `ids` adds to their text into `out`: nothing while a character is not whole, unless it is
    /// the `last` that will come, and nothing for control tokens.
    ///
    /// # Errors
    /// [`Error::Internal`] when the library fails.
    pub fn write(&self, ids: &[u32], out: &mut String, last: bool) -> Result<()> {
        out.clear();
        let decode = |ids: &[u32]| self.decode(ids);
        let whole = |text: &str| !text.ends_with('\u{FFFD}');
        // Where the text up to a token is whole, what follows does not change it.
        let (end, start) = (ids.len() - usize::from(!last), ids.len().saturating_sub(WINDOW));
        let mut known = end;
        let mut before = decode(&ids[start..known])?;
        while known > start && !whole(&before) {
            known -= 1;
            before = decode(&ids[start..known])?;
        }
        let text = decode(&ids[start..])?;
        if last || whole(&text) {
            out.push_str(text.strip_prefix(before.as_str()).unwrap_or_default());
        }
        Ok(())
    }
}

impl ChatTokens for Tokens {
    fn begin(&self) -> Option<u32> {
        self.before.first().copied()
    }

    fn find_control(&self, text: &str) -> Vec<(usize, usize)> {
        self.control.iter().flat_map(|search| search.find_iter(text)).map(|m| (m.start(), m.end())).collect()
    }

    fn encode_chat(&self, text: &str, hidden: char) -> Result<Vec<u32>> {
        let plain = |text: &str, ids: &mut Vec<u32>| -> Result<()> {
            if !text.is_empty() {
                ids.extend(self.encode(&text.replace(hidden, ""))?);
            }
            Ok(())
        };
        let (mut ids, mut from) = (Vec::new(), 0);
        for found in self.control.iter().flat_map(|search| search.find_iter(text)) {
            plain(&text[from..found.start()], &mut ids)?;
            ids.push(self.control_ids[found.pattern().as_usize()]);
            from = found.end();
        }
        plain(&text[from..], &mut ids)?;
        Ok(ids)
    }
}

/// A token's text, which stands there as it is or as an object.
fn name_of(token: &Value) -> String {
    token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default().to_owned()
}

/// The chat template, or the one called "default" of several.
fn template_of(value: &Value) -> Option<String> {
    let of_list = || {
        let list = value.as_array()?;
        let chosen = list.iter().find(|entry| entry["name"] == "default").or(list.first())?;
        chosen["template"].as_str()
    };
    value.as_str().or_else(of_list).map(str::to_owned)
}

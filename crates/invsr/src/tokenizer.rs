//! CLIP's tokenizer: from a prompt to the 77 numbers that the text encoder reads.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use crate::config::read_json;
use crate::error::LoadError;

/// Why a prompt could not be turned into token numbers.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The base model comes without a tokenizer.
    #[error(
        "{0} has neither vocab.json and merges.txt nor tokenizer.json: fetch the base model whole"
    )]
    Missing(std::path::PathBuf),
    /// A file cannot be read or contradicts another.
    #[error("read the tokenizer in {folder}")]
    Read {
        /// The tokenizer's folder.
        folder: std::path::PathBuf,
        /// What is wrong.
        #[source]
        source: tokenizers::Error,
    },
    /// A configuration file cannot be read.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A token that marks a prompt's start, end or padding is unknown.
    #[error("the tokenizer has no token {0:?}")]
    NoToken(String),
    /// The tokenizer is not the text encoder's.
    #[error(
        "the tokenizer gives token {id}, the text encoder knows {known}: the folder mixes two models"
    )]
    TooLarge {
        /// The largest token number of the prompt.
        id: u32,
        /// How many the text encoder has.
        known: usize,
    },
    /// The prompt does not fit.
    #[error("the prompt has {tokens} tokens, the text encoder reads {limit}: shorten it")]
    TooLong {
        /// Tokens, without start and end.
        tokens: usize,
        /// The most that fit beside start and end.
        limit: usize,
    },
}

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// What Stable Diffusion 2.x pads with: token 0, and not the end token.
const PADDING: &str = "!";

/// Words as CLIP was trained on them: contractions, runs of letters, single digits, runs of the rest.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";

/// A tokenizer with the special tokens of its folder.
pub(crate) struct Tokenizer {
    pieces: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    padding: u32,
}

impl Tokenizer {
    /// Reads `vocab.json` and `merges.txt`, else `tokenizer.json`, and the padding token from
    /// `special_tokens_map.json`, else from `tokenizer_config.json`.
    pub(crate) fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let mut pieces = read_pieces(folder)?;
        let padding = match padding_in(&folder.join("special_tokens_map.json"))? {
            Some(token) => token,
            None => padding_in(&folder.join("tokenizer_config.json"))?
                .unwrap_or_else(|| PADDING.to_owned()),
        };
        let number = |token: &str| {
            let id = pieces.token_to_id(token);
            id.ok_or_else(|| TokenizerError::NoToken(token.to_owned()))
        };
        let [start, end, fill] = [number(START)?, number(END)?, number(&padding)?];
        // The reference makes these words of their own, so that an exclamation mark in a prompt is
        // the padding token too.
        let special = [START, END, &padding].map(|token| AddedToken::from(token, true));
        let added = pieces.add_special_tokens(special);
        added.map_err(|source| TokenizerError::Read {
            folder: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            pieces,
            start,
            end,
            padding: fill,
        })
    }

    /// Start, the prompt's tokens, end, padding: `length` numbers, each below `known`.
    ///
    /// # Errors
    /// [`TokenizerError::TooLong`]: a prompt is not cut, since its end may be what matters.
    pub(crate) fn encode(
        &self,
        prompt: &str,
        length: usize,
        known: usize,
    ) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.pieces.encode(prompt, false);
        let encoding = encoding.map_err(|source| TokenizerError::Read {
            folder: "tokenizer".into(),
            source,
        })?;
        let (tokens, limit) = (encoding.get_ids(), length.saturating_sub(2));
        if tokens.len() > limit {
            let tokens = tokens.len();
            return Err(TokenizerError::TooLong { tokens, limit });
        }
        let mut ids = Vec::with_capacity(length);
        ids.push(self.start);
        ids.extend(tokens);
        ids.push(self.end);
        ids.resize(length, self.padding);
        match ids.iter().copied().find(|id| *id as usize >= known) {
            Some(id) => Err(TokenizerError::TooLarge { id, known }),
            None => Ok(ids),
        }
    }
}

fn read_pieces(folder: &Path) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let failed = |source| TokenizerError::Read {
        folder: folder.to_owned(),
        source,
    };
    let [vocabulary, merges, whole] =
        ["vocab.json", "merges.txt", "tokenizer.json"].map(|name| folder.join(name));
    if vocabulary.is_file() && merges.is_file() {
        return from_merges(&vocabulary, &merges).map_err(failed);
    }
    if !whole.is_file() {
        return Err(TokenizerError::Missing(folder.to_owned()));
    }
    let mut pieces = tokenizers::Tokenizer::from_file(whole).map_err(failed)?;
    // Start, end and padding are added here, whatever the file says of them.
    pieces.with_truncation(None).map_err(failed)?;
    pieces.with_padding(None);
    Ok(pieces)
}

fn from_merges(vocabulary: &Path, merges: &Path) -> tokenizers::Result<tokenizers::Tokenizer> {
    let [vocabulary, merges] = [vocabulary, merges].map(|path| path.to_string_lossy().into_owned());
    let model = BPE::from_file(&vocabulary, &merges)
        .end_of_word_suffix("</w>".to_owned())
        .unk_token(END.to_owned())
        .build()?;
    let mut pieces = tokenizers::Tokenizer::new(model);
    let normalizer: NormalizerWrapper = serde_json::from_value(json!({
        "type": "Sequence",
        "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ],
    }))?;
    let words: PreTokenizerWrapper = serde_json::from_value(json!({
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ],
    }))?;
    pieces.with_normalizer(Some(normalizer))?;
    pieces.with_pre_tokenizer(Some(words));
    Ok(pieces)
}

/// The padding token that a file of the tokenizer names, as a text or as an object with `content`.
fn padding_in(path: &Path) -> Result<Option<String>, LoadError> {
    #[derive(Deserialize)]
    struct Tokens {
        #[serde(default)]
        pad_token: Value,
    }
    if !path.is_file() {
        return Ok(None);
    }
    let Tokens { pad_token } = read_json(path)?;
    let text = pad_token.as_str().or_else(|| pad_token["content"].as_str());
    Ok(text.map(str::to_owned))
}

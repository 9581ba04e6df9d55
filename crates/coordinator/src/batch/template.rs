//! Where results go: an address with words in braces, filled in for each input.

use upres_common::job::spec::OutputFormat;
use upres_common::objects::ObjectUri;

/// What may stand between braces.
const WORDS: [&str; 8] = [
    "bucket", "prefix", "dir", "name", "stem", "ext", "steps", "line",
];
/// Without one of these, different inputs get the same output.
const TELLING: [&str; 3] = ["name", "stem", "line"];

/// An output's address, still with its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Word(&'static str),
}

/// What the words stand for.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// The input.
    pub input: &'a ObjectUri,
    /// The beginning of keys that the batch's source names, empty unless it is a prefix.
    pub prefix: &'a str,
    /// Of the output.
    pub format: OutputFormat,
    /// Denoising steps.
    pub steps: usize,
    /// The item's place in its source.
    pub line: u64,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence when a word is unknown or a brace stands alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(at);
            let inside = from_brace
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'));
            let Some((word, after)) = inside else {
                return Err("a brace stands alone: write words as {stem}".to_owned());
            };
            let Some(word) = WORDS.into_iter().find(|known| *known == word) else {
                let known = WORDS.map(|word| format!("{{{word}}}")).join(", ");
                return Err(format!("there is no word {{{word}}}; there are {known}"));
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Word(word));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// What stands before the first word: every address begins with it.
    #[must_use]
    pub fn beginning(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether different inputs can get different outputs.
    #[must_use]
    pub fn tells_inputs_apart(&self) -> bool {
        let telling = |piece: &Piece| matches!(piece, Piece::Word(word) if TELLING.contains(word));
        self.0.iter().any(telling)
    }

    /// The address for one input. An empty `{dir}` takes the slash behind it along.
    #[must_use]
    pub fn fill(&self, words: &Words<'_>) -> String {
        let mut filled = String::new();
        let mut nothing_before = false;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) if nothing_before => {
                    filled.push_str(text.strip_prefix('/').unwrap_or(text));
                }
                Piece::Text(text) => filled.push_str(text),
                Piece::Word(word) => filled.push_str(&words.value(word)),
            }
            nothing_before = matches!(piece, Piece::Word("dir")) && words.value("dir").is_empty();
        }
        filled
    }
}

impl Words<'_> {
    fn value(&self, word: &str) -> String {
        let key = self.input.key();
        let below = key.strip_prefix(self.prefix).unwrap_or(key);
        let (dir, name) = below.rsplit_once('/').unwrap_or(("", below));
        // The name alone may have been cut by a prefix that ends within it.
        let name = if name.is_empty() { key } else { name };
        let (stem, ext) = name.rsplit_once('.').unwrap_or((name, ""));
        match word {
            "bucket" => self.input.bucket().to_owned(),
            "prefix" => self.prefix.trim_end_matches('/').to_owned(),
            "dir" => dir.trim_start_matches('/').to_owned(),
            "name" => name.to_owned(),
            "stem" => stem.to_owned(),
            "ext" => match extension(self.format) {
                Some(extension) => extension.to_owned(),
                None => kept(ext),
            },
            "steps" => self.steps.to_string(),
            _ => self.line.to_string(),
        }
    }
}

/// The ending where the input's format is kept: its own, but for formats that are only read.
fn kept(ext: &str) -> String {
    match ext.to_ascii_lowercase().as_str() {
        "gif" | "bmp" | "dib" => "png".to_owned(),
        "jp2" | "j2k" | "j2c" | "jpf" | "jpx" | "jpeg2000" => "tif".to_owned(),
        _ => ext.to_owned(),
    }
}

/// The usual ending of a format's files; the input's own where the format is kept.
const fn extension(format: OutputFormat) -> Option<&'static str> {
    match format {
        OutputFormat::Keep => None,
        OutputFormat::Png => Some("png"),
        OutputFormat::Tiff => Some("tif"),
        OutputFormat::Jpeg => Some("jpg"),
        OutputFormat::Webp => Some("webp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, input: &str, prefix: &str, format: OutputFormat) -> String {
        let words = Words {
            input: &input.parse().unwrap(),
            prefix,
            format,
            steps: 3,
            line: 7,
        };
        Template::parse(template).unwrap().fill(&words)
    }

    #[test]
    fn words_are_filled_in() {
        let template = "s3://out/{dir}/{stem}_{steps}-{line}.{ext}";
        let keep = OutputFormat::Keep;
        for (input, prefix, filled) in [
            ("s3://in-1/box/a/1.tif", "box/", "s3://out/a/1_3-7.tif"),
            ("s3://in-1/box/1.tif", "box/", "s3://out/1_3-7.tif"),
            ("s3://in-1/box/1.x.tif", "", "s3://out/box/1.x_3-7.tif"),
            ("s3://in-1/box/a/1.tif", "box", "s3://out/a/1_3-7.tif"),
            ("s3://in-1/plain", "", "s3://out/plain_3-7."),
            ("s3://in-1/1.TIFF", "", "s3://out/1_3-7.TIFF"),
            ("s3://in-1/1.GIF", "", "s3://out/1_3-7.png"),
            ("s3://in-1/1.jp2", "", "s3://out/1_3-7.tif"),
        ] {
            assert_eq!(fill(template, input, prefix, keep), filled, "{input}");
        }
        let png = OutputFormat::Png;
        assert_eq!(
            fill(
                "s3://out/{bucket}/{prefix}/{name}.{ext}",
                "s3://in-1/b/1.tif",
                "b/",
                png
            ),
            "s3://out/in-1/b/1.tif.png"
        );
    }

    #[test]
    fn what_is_no_word_is_refused() {
        for wrong in [
            "s3://out/{stm}.tif",
            "s3://out/{stem.tif",
            "s3://out/stem}.tif",
        ] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        assert!(
            !Template::parse("s3://out/{dir}/1.tif")
                .unwrap()
                .tells_inputs_apart()
        );
    }
}

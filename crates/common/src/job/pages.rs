//! Which pages of a file are upscaled.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Pages of a file of several; those of a result are in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pages {
    /// Every page.
    #[default]
    All,
    /// The only one: a file of several pages is refused.
    Single,
    /// These, from 1: first and last of stretches that rise.
    Listed(Vec<(u32, u32)>),
}

/// Why a list of pages was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PagesError {
    /// Neither a word nor a list.
    #[error("`{0}` is no page: give `all`, `single`, or pages such as 1,3-5")]
    NotAPage(String),
    /// Counted from 1.
    #[error("there is no page 0: pages are counted from 1")]
    Zero,
    /// Out of order, or twice.
    #[error("pages must rise: {next} follows {previous}")]
    NotRising {
        /// The earlier one.
        previous: u32,
        /// The one after it.
        next: u32,
    },
}

/// Why a file does not have the pages that were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchosen {
    /// There are several where one was wanted.
    Several,
    /// There are fewer than this one, counted from 1.
    Missing(u32),
}

impl Pages {
    /// Whether nothing was chosen.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// The chosen ones of `count` pages, from 0, rising.
    ///
    /// # Errors
    /// [`Unchosen`].
    pub fn choose(&self, count: u32) -> Result<Vec<u32>, Unchosen> {
        match self {
            Self::All => Ok((0..count).collect()),
            Self::Single if count > 1 => Err(Unchosen::Several),
            Self::Single => Ok(vec![0]),
            Self::Listed(stretches) => {
                let last = stretches.last().map_or(0, |(_, last)| *last);
                if last > count {
                    return Err(Unchosen::Missing(last));
                }
                let stretches = stretches.iter();
                Ok(stretches
                    .flat_map(|(first, last)| first - 1..*last)
                    .collect())
            }
        }
    }

    /// Whether a page, counted from 0, is chosen where it is there.
    #[must_use]
    pub fn contains(&self, page: u32) -> bool {
        match self {
            Self::All | Self::Single => true,
            Self::Listed(stretches) => stretches
                .iter()
                .any(|(first, last)| (first - 1..*last).contains(&page)),
        }
    }
}

impl FromStr for Pages {
    type Err = PagesError;

    fn from_str(text: &str) -> Result<Self, PagesError> {
        match text.trim() {
            "all" => return Ok(Self::All),
            "single" => return Ok(Self::Single),
            _ => {}
        }
        let number = |word: &str| {
            let word = word.trim();
            let number = word.parse::<u32>();
            match number.map_err(|_| PagesError::NotAPage(word.to_owned()))? {
                0 => Err(PagesError::Zero),
                page => Ok(page),
            }
        };
        let mut stretches: Vec<(u32, u32)> = Vec::new();
        for stretch in text.split(',') {
            let (first, last) = stretch.split_once('-').unwrap_or((stretch, stretch));
            let (first, last) = (number(first)?, number(last)?);
            let previous = stretches.last().map_or(0, |(_, last)| *last);
            for (previous, next, rises) in [
                (previous, first, previous < first),
                (first, last, first <= last),
            ] {
                if !rises {
                    return Err(PagesError::NotRising { previous, next });
                }
            }
            stretches.push((first, last));
        }
        Ok(Self::Listed(stretches))
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Single => f.write_str("single"),
            Self::Listed(stretches) => {
                let words = stretches.iter().map(|(first, last)| {
                    if first == last {
                        first.to_string()
                    } else {
                        format!("{first}-{last}")
                    }
                });
                f.write_str(&words.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl TryFrom<String> for Pages {
    type Error = PagesError;

    fn try_from(text: String) -> Result<Self, PagesError> {
        text.parse()
    }
}

impl From<Pages> for String {
    fn from(pages: Pages) -> Self {
        pages.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_chosen_from_those_that_are_there() {
        let choose = |text: &str, count| text.parse::<Pages>().unwrap().choose(count);
        assert_eq!(choose("all", 3), Ok(vec![0, 1, 2]));
        assert_eq!(choose("1,3-5", 6), Ok(vec![0, 2, 3, 4]));
        assert_eq!(choose(" 2 , 3 - 3 ", 3), Ok(vec![1, 2]));
        assert_eq!(
            choose("1,3-4000000000", 6),
            Err(Unchosen::Missing(4_000_000_000))
        );
        assert_eq!(choose("single", 1), Ok(vec![0]));
        assert_eq!(choose("single", 2), Err(Unchosen::Several));
    }

    #[test]
    fn what_is_no_list_is_refused_in_a_sentence() {
        for (text, sentence) in [
            ("", "`` is no page"),
            ("first", "`first` is no page"),
            ("1,,2", "`` is no page"),
            ("-3", "`` is no page"),
            ("0", "no page 0"),
            ("5-3", "3 follows 5"),
            ("1-4,4", "4 follows 4"),
            ("3,1", "1 follows 3"),
        ] {
            let error = text.parse::<Pages>().unwrap_err().to_string();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["all", "single", "1", "1,3-5,7"] {
            let pages: Pages = serde_json::from_value(serde_json::json!(text)).unwrap();
            assert_eq!(serde_json::to_value(&pages).unwrap(), text);
        }
    }
}

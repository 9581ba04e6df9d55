//! Cuts an ordered list of keys into pages, and rolls keys up at a delimiter.

use std::collections::VecDeque;

/// What a client asks of a listing.
#[derive(Debug, Default)]
pub struct Query {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub start_after: Option<String>,
    pub resume: Option<Token>,
    pub limit: usize,
}

/// Where a page ended, so that the next begins behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Key(String),
    /// A rolled-up prefix: all keys under it are done with.
    Prefix(String),
}

impl Token {
    /// Opaque to clients, and safe in XML whatever the key holds.
    pub fn encode(&self) -> String {
        match self {
            Self::Key(key) => format!("k{}", hex::encode(key)),
            Self::Prefix(prefix) => format!("p{}", hex::encode(prefix)),
        }
    }

    pub fn decode(token: &str) -> Option<Self> {
        let text = |digits: &str| String::from_utf8(hex::decode(digits).ok()?).ok();
        match token.split_at_checked(1)? {
            ("k", digits) => Some(Self::Key(text(digits)?)),
            ("p", digits) => Some(Self::Prefix(text(digits)?)),
            _ => None,
        }
    }

    fn is_behind(&self, key: &str) -> bool {
        match self {
            Self::Key(last) => key > last.as_str(),
            Self::Prefix(last) => key > last.as_str() && !key.starts_with(last.as_str()),
        }
    }
}

/// One page. Keys and prefixes count alike towards the limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub keys: Vec<String>,
    pub prefixes: Vec<String>,
    pub next: Option<Token>,
}

/// The page of `keys`, which are in order, that `query` asks for.
pub fn page(keys: Vec<String>, query: &Query) -> Page {
    let mut page = Page::default();
    let mut last = None;
    let mut rest: VecDeque<String> = keys
        .into_iter()
        .filter(|key| is_wanted(key, query))
        .collect();
    while let Some(key) = rest.pop_front() {
        if page.keys.len() + page.prefixes.len() == query.limit {
            page.next = last;
            break;
        }
        if let Some(prefix) = rolled_up(&key, query) {
            while rest.front().is_some_and(|key| key.starts_with(prefix)) {
                rest.pop_front();
            }
            last = Some(Token::Prefix(prefix.to_owned()));
            page.prefixes.push(prefix.to_owned());
        } else {
            last = Some(Token::Key(key.clone()));
            page.keys.push(key);
        }
    }
    page
}

fn is_wanted(key: &str, query: &Query) -> bool {
    key.starts_with(&query.prefix)
        && query
            .start_after
            .as_ref()
            .is_none_or(|after| key > after.as_str())
        && query
            .resume
            .as_ref()
            .is_none_or(|token| token.is_behind(key))
}

/// The key up to the first delimiter behind the prefix.
fn rolled_up<'key>(key: &'key str, query: &Query) -> Option<&'key str> {
    let delimiter = query
        .delimiter
        .as_deref()
        .filter(|delimiter| !delimiter.is_empty())?;
    let behind = key.get(query.prefix.len()..)?;
    let end = query.prefix.len() + behind.find(delimiter)? + delimiter.len();
    key.get(..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(ToString::to_string).collect()
    }

    fn pages(all: &[String], prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<Page> {
        let mut pages = Vec::new();
        let mut resume = None;
        loop {
            let query = Query {
                prefix: prefix.to_owned(),
                delimiter: delimiter.map(ToOwned::to_owned),
                start_after: None,
                resume: resume.take(),
                limit,
            };
            let page = page(all.to_vec(), &query);
            resume = page
                .next
                .as_ref()
                .map(|token| Token::decode(&token.encode()).unwrap());
            pages.push(page);
            if resume.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn keys_roll_up_behind_the_prefix() {
        let all = keys(&["a/", "a/1", "a/b/1", "a/b/2", "a/c/1", "b"]);
        let page = &pages(&all, "a/", Some("/"), 10)[0];
        assert_eq!(page.keys, keys(&["a/", "a/1"]));
        assert_eq!(page.prefixes, keys(&["a/b/", "a/c/"]));
    }

    #[test]
    fn no_room_is_no_next_page() {
        let query = Query {
            limit: 0,
            ..Query::default()
        };
        assert_eq!(page(keys(&["a"]), &query), Page::default());
    }

    proptest! {
        #[test]
        fn pages_lose_and_repeat_nothing(
            all in proptest::collection::btree_set("[ab/]{1,5}", 0..40),
            prefix in "[ab/]{0,2}",
            delimiter in proptest::option::of(Just("/")),
            limit in 1..7_usize,
        ) {
            let all: Vec<String> = all.into_iter().collect();
            let whole = &pages(&all, &prefix, delimiter, usize::MAX)[0];
            let cut = pages(&all, &prefix, delimiter, limit);
            prop_assert!(cut.iter().all(|page| page.keys.len() + page.prefixes.len() <= limit));
            let keys: Vec<_> = cut.iter().flat_map(|page| page.keys.clone()).collect();
            let prefixes: Vec<_> = cut.iter().flat_map(|page| page.prefixes.clone()).collect();
            prop_assert_eq!(&keys, &whole.keys);
            prop_assert_eq!(&prefixes, &whole.prefixes);
        }
    }
}

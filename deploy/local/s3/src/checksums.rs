//! The checksums that clients send along and ask back: `x-amz-checksum-*`.

use std::collections::BTreeMap;

use http::HeaderMap;
use s3s::TrailingHeaders;
use s3s::checksum::ChecksumHasher;
use serde::{Deserialize, Serialize};

const ALGORITHMS: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];

/// Base64 digests of a whole object or part, by lower-case algorithm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksums(BTreeMap<String, String>);

impl Checksums {
    /// What the headers claim. `sum-of-sums-N`, which some clients send for a multipart object, is
    /// left out: the parts it stands for have been checked one by one.
    pub fn claimed(headers: &HeaderMap) -> Self {
        let claims = ALGORITHMS.into_iter().filter_map(|algorithm| {
            let value = headers
                .get(format!("x-amz-checksum-{algorithm}"))?
                .to_str()
                .ok()?;
            (!value.contains('-')).then(|| (algorithm.to_owned(), value.to_owned()))
        });
        Self(claims.collect())
    }

    /// Takes over what came after the body, where a client that streams puts it.
    pub fn claim_trailers(&mut self, trailers: Option<&TrailingHeaders>) {
        let claims = trailers.and_then(|trailers| trailers.read(Self::claimed));
        self.0.extend(claims.unwrap_or_default().0);
    }

    /// What a hasher found.
    pub fn computed(hasher: ChecksumHasher) -> Self {
        let sums = hasher.finalize();
        let found = [
            ("crc32", sums.checksum_crc32),
            ("crc32c", sums.checksum_crc32c),
            ("crc64nvme", sums.checksum_crc64nvme),
            ("sha1", sums.checksum_sha1),
            ("sha256", sums.checksum_sha256),
        ];
        let found = found
            .into_iter()
            .filter_map(|(name, sum)| Some((name.to_owned(), sum?)));
        Self(found.collect())
    }

    /// A hasher for the algorithms that are here.
    pub fn hasher(&self) -> ChecksumHasher {
        hasher(|name| self.0.contains_key(name))
    }

    pub fn get(&self, algorithm: &str) -> Option<String> {
        self.0.get(algorithm).cloned()
    }

    /// The first algorithm whose claim is not borne out by what was computed.
    pub fn refuted_by(&self, computed: &Self) -> Option<&str> {
        let wrong = self
            .0
            .iter()
            .find(|(name, claim)| computed.0.get(*name) != Some(*claim));
        wrong.map(|(name, _)| name.as_str())
    }
}

/// A hasher for every algorithm that the headers name: with its value, as one that follows the body, or
/// as the one the server shall compute.
pub fn hasher_for(headers: &HeaderMap) -> ChecksumHasher {
    let announced: Vec<String> = [
        "x-amz-trailer",
        "x-amz-checksum-algorithm",
        "x-amz-sdk-checksum-algorithm",
    ]
    .into_iter()
    .flat_map(|name| headers.get_all(name))
    .filter_map(|value| value.to_str().ok())
    .flat_map(|value| value.split(','))
    .map(|name| {
        name.trim()
            .to_ascii_lowercase()
            .replace("x-amz-checksum-", "")
    })
    .collect();
    hasher(|name| {
        announced.iter().any(|announced| announced == name)
            || headers.contains_key(format!("x-amz-checksum-{name}"))
    })
}

fn hasher(wanted: impl Fn(&str) -> bool) -> ChecksumHasher {
    ChecksumHasher {
        crc32: wanted("crc32").then(Default::default),
        crc32c: wanted("crc32c").then(Default::default),
        sha1: wanted("sha1").then(Default::default),
        sha256: wanted("sha256").then(Default::default),
        crc64nvme: wanted("crc64nvme").then(Default::default),
    }
}

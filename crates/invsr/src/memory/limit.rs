//! The limit: what a person writes, or a part of what this machine has.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use crate::error::UpscaleError;

/// Of the machine's memory, or of its control group's: the rest is for the system and for files.
const DEFAULT_PART: (u64, u64) = (3, 4);

const UNITS: [(&str, u32); 8] = [
    ("kib", 10),
    ("mib", 20),
    ("gib", 30),
    ("tib", 40),
    ("k", 10),
    ("m", 20),
    ("g", 30),
    ("t", 40),
];

/// How much main memory a process may take; no limit is one, too, and the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryLimit(Option<u64>);

impl MemoryLimit {
    /// Three quarters of what the machine has, or its control group lets this process have. None
    /// where the system does not say (only Linux is asked).
    #[must_use]
    pub fn of_this_machine() -> Self {
        let (part, of) = DEFAULT_PART;
        Self(all_memory(Path::new("/")).map(|bytes| bytes / of * part))
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        self.0
    }

    /// The refusal of work that would take so many bytes in all.
    #[must_use]
    pub fn needing(self, needed: u64) -> UpscaleError {
        UpscaleError::Memory {
            needed,
            limit: self.0.unwrap_or(u64::MAX),
        }
    }

    /// What is left when a caller holds so many bytes himself.
    #[must_use]
    pub fn less(self, held: u64) -> Self {
        Self(self.0.map(|bytes| bytes.saturating_sub(held)))
    }
}

impl FromStr for MemoryLimit {
    type Err = ParseMemoryLimitError;

    /// Reads a number of bytes, with a unit of 1,024 (`512MiB`, `6G`, `1.5GiB`) or without; `none`
    /// for no limit.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseMemoryLimitError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        if lower == "none" {
            return Ok(Self(None));
        }
        let unit = UNITS.iter().find(|(unit, _)| lower.ends_with(unit));
        let (number, bits) = match unit {
            Some((unit, bits)) => (&lower[..lower.len() - unit.len()], *bits),
            None => (&*lower, 0),
        };
        let number: f64 = number.trim().parse().map_err(|_| refused())?;
        let bytes = number * f64::from(bits).exp2();
        if !(1.0..9e18).contains(&bytes) {
            return Err(refused());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be positive and in range"
        )]
        Ok(Self(Some(bytes as u64)))
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{} MiB", bytes >> 20),
            None => f.write_str("none"),
        }
    }
}

/// A size that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("memory limit {0:?} is no size: write 6GiB, 512MiB, a number of bytes, or none")]
pub struct ParseMemoryLimitError(String);

/// The machine's memory in bytes, or that of the tightest control group around this process.
///
/// - `root`: where `proc` and `sys` lie.
fn all_memory(root: &Path) -> Option<u64> {
    let machine = machine_memory(&fs::read_to_string(root.join("proc/meminfo")).ok()?);
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let of_groups = groups.lines().filter_map(|line| group_limit(root, line));
    of_groups.chain(machine).min()
}

fn machine_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The least limit of a group and those around it. A line is `0::/path` in the second version of
/// control groups, `7:memory:/path` in the first.
fn group_limit(root: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, kind, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (tree, file) = if kind.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if kind.split(',').any(|kind| kind == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    let tree = root.join(tree);
    let group = tree.join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|dir| dir.starts_with(&tree));
    let limit = |dir: &Path| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok();
    around.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<u64> {
        text.parse::<MemoryLimit>().unwrap().bytes()
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!(bytes("1048576"), Some(1 << 20));
        assert_eq!(bytes("6GiB"), Some(6 << 30));
        assert_eq!(bytes("1.5 g"), Some(3 << 29));
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!(bytes("none"), None);
        for text in ["", "GiB", "-1", "0", "nan", "inf", "6GB", "much"] {
            assert!(text.parse::<MemoryLimit>().is_err(), "{text}");
        }
    }

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        all_memory(root.path())
    }

    const EIGHT_GIB: (&str, &str) = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:  8388608 kB\n");

    #[test]
    fn the_tightest_of_machine_and_groups_counts() {
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[EIGHT_GIB]), Some(8 << 30));
        let own = ("proc/self/cgroup", "0::/jobs/one\n");
        let unlimited = ("sys/fs/cgroup/jobs/one/memory.max", "max\n");
        let parent = ("sys/fs/cgroup/jobs/memory.max", "1073741824\n");
        assert_eq!(machine(&[EIGHT_GIB, own, unlimited]), Some(8 << 30));
        assert_eq!(machine(&[EIGHT_GIB, own, unlimited, parent]), Some(1 << 30));
        let first = ("proc/self/cgroup", "5:cpu:/x\n4:memory,hugetlb:/y\n");
        let limit = (
            "sys/fs/cgroup/memory/y/memory.limit_in_bytes",
            "536870912\n",
        );
        assert_eq!(machine(&[EIGHT_GIB, first, limit]), Some(1 << 29));
    }
}

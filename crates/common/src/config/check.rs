//! `check-config`: every problem instead of the first.

use std::ffi::{OsStr, OsString};

use clap::builder::{OsStr as Text, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::find;

/// The subcommand that names every problem instead of the first.
pub(super) const CHECK: &str = "check-config";
/// Takes the place of a setting that must be given but was not, while others are checked.
const STAND_IN: &str = "unset";

/// What `check-config` found that could not even be read.
#[derive(Debug)]
pub struct Refused {
    problems: Vec<String>,
    /// Flags that hold a stand-in, such as `--listen`.
    flags: Vec<String>,
}

impl Refused {
    /// What is wrong with the file, to begin with.
    pub(super) fn new(problems: Vec<String>) -> Self {
        let flags = Vec::new();
        Self { problems, flags }
    }

    /// Every problem: what could not be read, then `others`, the program's own rules. Those that
    /// speak of a setting already refused are left out: they judge its stand-in.
    #[must_use]
    pub fn and(mut self, others: Vec<String>) -> Vec<String> {
        let own = |problem: &String| {
            let mut words = problem.split(|c: char| c != '-' && !c.is_ascii_alphanumeric());
            !words.any(|word| self.flags.iter().any(|flag| flag == word))
        };
        let others: Vec<_> = others.into_iter().filter(own).collect();
        self.problems.extend(others);
        self.problems
    }
}

/// Parses again and again, each time without the settings that were refused: they take the default
/// that they have in `plain`, or a stand-in.
pub(super) fn read_what_can_be(
    mut command: Command,
    plain: &Command,
    mut args: Vec<OsString>,
    refused: &mut Refused,
) -> Result<ArgMatches, clap::Error> {
    loop {
        let error = match command.clone().try_get_matches_from(&args) {
            Ok(matches) => return Ok(matches),
            Err(error) => error,
        };
        let flags = flags_of(&error);
        if flags.is_empty() || flags.iter().any(|flag| refused.flags.contains(flag)) {
            return Err(error);
        }
        for flag in flags {
            let Some(arg) = plain
                .find_subcommand(CHECK)
                .and_then(|sub| find(sub, &flag))
            else {
                return Err(error);
            };
            refused.problems.push(sentence(&error, &flag, arg));
            command = command.mut_subcommand(CHECK, |sub| put_aside(sub, arg));
            remove(&mut args, &flag);
            refused.flags.push(flag);
        }
    }
}

/// The flags a value of which is refused, or which are missing; none for any other error.
fn flags_of(error: &clap::Error) -> Vec<String> {
    let readable = [
        ErrorKind::InvalidValue,
        ErrorKind::ValueValidation,
        ErrorKind::MissingRequiredArgument,
    ];
    if !readable.contains(&error.kind()) {
        return Vec::new();
    }
    let shown: Vec<&String> = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => vec![arg],
        Some(ContextValue::Strings(args)) => args.iter().collect(),
        _ => Vec::new(),
    };
    let flag = |shown: &String| shown.split(' ').next().unwrap_or_default().to_owned();
    shown.into_iter().map(flag).collect()
}

fn sentence(error: &clap::Error, flag: &str, arg: &Arg) -> String {
    if error.kind() == ErrorKind::MissingRequiredArgument {
        let variable = arg.get_env().map(OsStr::to_string_lossy);
        let variable = variable.map_or_else(String::new, |name| format!(" or set {name}"));
        return format!("{flag} is missing: give it{variable}");
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or(text);
    let lines: Vec<_> = first.lines().map(str::trim).collect();
    lines.join(" ")
}

fn put_aside(command: Command, plain: &Arg) -> Command {
    let default = match plain.get_default_values().first() {
        Some(default) => Resettable::Value(default.clone()),
        None if plain.is_required_set() => Resettable::Value(Text::from(STAND_IN)),
        None => Resettable::Reset,
    };
    command.mut_arg(plain.get_id(), |arg| {
        arg.required(false)
            .env(Resettable::<Text>::Reset)
            .default_value(default)
    })
}

/// Takes `--flag value` and `--flag=value` out of the command line.
fn remove(args: &mut Vec<OsString>, flag: &str) {
    let with_value = format!("{flag}=");
    let mut value_follows = false;
    args.retain(|arg| {
        let bytes = arg.as_encoded_bytes();
        let is_value = std::mem::take(&mut value_follows) && !bytes.starts_with(b"--");
        value_follows = arg == flag;
        !is_value && arg != flag && !bytes.starts_with(with_value.as_bytes())
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::{program, with};
    use super::*;

    fn checked(file: &str, args: &[&str], others: &[&str]) -> Vec<String> {
        let (command, problems) = with(file);
        let mut refused = Refused::new(problems);
        let args = ["x", CHECK].iter().chain(args).map(OsString::from);
        read_what_can_be(command, &program(), args.collect(), &mut refused).unwrap();
        refused.and(others.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_check_names_everything_that_cannot_be_read_and_goes_on_to_the_rest() {
        let others = [
            "--api-key is no API key",
            "--listen must not be `--port`",
            "--s3-endpoint is no URL",
        ];
        let problems = checked("port_number = 'b'", &["--listen=a"], &others);
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with("invalid value 'a' for '--listen"));
        assert!(problems[1].starts_with("invalid value 'b' for '--port-number"));
        let missing = "--api-key is missing: give it or set UPRES_TEST_NOT_SET";
        assert_eq!(problems[2], missing);
        assert_eq!(problems[3], others[2]);
        let given = ["--listen", "a", "--api-key", "k"];
        assert_eq!(checked("", &given, &others).len(), 3);
        assert!(checked("", &given[2..], &[]).is_empty());
    }

    #[test]
    fn a_word_that_is_no_setting_still_ends_a_check() {
        let args = ["x", CHECK, "--lissen", "2"].map(OsString::from).to_vec();
        let mut refused = Refused::new(Vec::new());
        assert!(read_what_can_be(program(), &program(), args, &mut refused).is_err());
    }
}

//! Configuration: flags, then the environment, then `upres.toml`, then the default.
//!
//! The file holds the flags' names with underscores (`database_url = "…"`). A key at the top level
//! serves every program that has such a flag; a table named after the program serves it alone.
//! What the help hides of the environment, a password or a key, it hides of the file too.

mod check;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory, FromArgMatches};

pub use check::Refused;
use check::{CHECK, read_what_can_be};

/// Names another file than `./upres.toml`.
const FILE_VARIABLE: &str = "UPRES_CONFIG";
const TABLES: [&str; 3] = ["cli", "coordinator", "worker"];

/// Parses the command line of `program`, with values from the file as defaults. Ends the process
/// with status 2 and a sentence when the file or a flag is wrong.
#[must_use]
pub fn parse<T: CommandFactory + FromArgMatches>(program: &str, fallbacks: &[PathBuf]) -> T {
    let args: Vec<_> = std::env::args_os().collect();
    parse_from(program, fallbacks, args, false).0
}

/// The same for a program with the subcommand `check-config`, for which what cannot be read is put
/// aside and told, so that the rest is checked too.
#[must_use]
pub fn parse_or_refuse<T: CommandFactory + FromArgMatches>(
    program: &str,
    fallbacks: &[PathBuf],
) -> (T, Refused) {
    let args: Vec<_> = std::env::args_os().collect();
    let check = args.get(1).is_some_and(|word| word == CHECK);
    parse_from(program, fallbacks, args, check)
}

fn parse_from<T: CommandFactory + FromArgMatches>(
    program: &str,
    fallbacks: &[PathBuf],
    args: Vec<OsString>,
    check: bool,
) -> (T, Refused) {
    let (command, problems) = with_file(T::command(), program, fallbacks);
    if !check && !problems.is_empty() {
        for problem in problems {
            eprintln!("error: {problem}");
        }
        std::process::exit(2);
    }
    let mut refused = Refused::new(problems);
    let matches = if check {
        read_what_can_be(command, &T::command(), args, &mut refused)
    } else {
        command.try_get_matches_from(args)
    };
    let parsed = matches.and_then(|matches| T::from_arg_matches(&matches));
    (parsed.unwrap_or_else(|error| error.exit()), refused)
}

/// The command with the file's values as defaults, and everything that is wrong with the file.
fn with_file(command: Command, program: &str, fallbacks: &[PathBuf]) -> (Command, Vec<String>) {
    let named = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    let found = named.or_else(|| fallbacks.iter().find(|path| path.is_file()).cloned());
    let Some(path) = found else {
        return (command, Vec::new());
    };
    match read(&path) {
        Ok(table) => apply(command, &table, program, &path),
        Err(problem) => (command, vec![problem]),
    }
}

fn read(path: &Path) -> Result<toml::Table, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    text.parse()
        .map_err(|error| format!("{} is not valid TOML: {error}", path.display()))
}

fn apply(
    mut command: Command,
    table: &toml::Table,
    program: &str,
    path: &Path,
) -> (Command, Vec<String>) {
    let (mut problems, mut tables) = (Vec::new(), Vec::new());
    let flags = flags(&command);
    let mut set = |command, key: &str, value: &toml::Value, own| {
        let Some(text) = text(value) else {
            problems.push(format!(
                "{}: `{key}` must be a text, a number or a boolean",
                path.display()
            ));
            return command;
        };
        let mut known = false;
        let command = set_default(command, key, &text, &mut known);
        // What stands in no table may be another program's, but hardly if it is a slip from one of ours.
        let meant = flags.iter().find(|flag| is_slip(key, flag));
        match meant {
            Some(meant) if !known => problems.push(format!(
                "{}: there is no setting `{key}`: is `{meant}` meant?",
                path.display()
            )),
            None if own && !known => {
                problems.push(format!("{}: there is no setting `{key}`", path.display()));
            }
            _ => {}
        }
        command
    };
    for (key, value) in table {
        match value {
            toml::Value::Table(own) if TABLES.contains(&key.as_str()) => {
                for (key, value) in own.iter().filter(|_| key == program) {
                    command = set(command, key, value, true);
                }
            }
            toml::Value::Table(_) => tables.push(format!(
                "{}: there is no table `[{key}]`: write [cli], [coordinator] or [worker]",
                path.display()
            )),
            value => command = set(command, key, value, false),
        }
    }
    problems.extend(tables);
    (command, problems)
}

/// The flags' names as the file has them.
fn flags(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(Arg::get_long);
    let own = own.map(|flag| flag.replace('-', "_"));
    own.chain(command.get_subcommands().flat_map(flags))
        .collect()
}

/// Whether `key` is `flag` but for a letter or two.
fn is_slip(key: &str, flag: &str) -> bool {
    key != flag && flag.len() >= 6 && strsim::damerau_levenshtein(key, flag) <= 2
}

fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(choice) => Some(choice.to_string()),
        _ => None,
    }
}

/// Makes `text` the default of the flag `key`, wherever among the subcommands it occurs.
fn set_default(mut command: Command, key: &str, text: &str, known: &mut bool) -> Command {
    let flag = format!("--{}", key.replace('_', "-"));
    if let Some(id) = find(&command, &flag).map(|arg| arg.get_id().clone()) {
        *known = true;
        let text = text.to_owned();
        command = command.mut_arg(id, |arg| {
            // The help shows defaults; what is secret in the environment is so in the file.
            let secret = arg.is_hide_env_values_set() || arg.is_hide_default_value_set();
            arg.required(false)
                .default_value(text)
                .hide_default_value(secret)
        });
    }
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| set_default(sub, key, text, known));
    }
    command
}

fn find<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    let name = flag.strip_prefix("--")?;
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name))
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    pub(super) fn program() -> Command {
        let listen = Arg::new("address").long("listen").default_value("1");
        let port = Arg::new("port").long("port-number").default_value("1");
        let key = Arg::new("api_key")
            .long("api-key")
            .env("UPRES_TEST_NOT_SET")
            .hide_env_values(true)
            .required(true);
        let number = clap::value_parser!(u16);
        let args = [listen.value_parser(number), port.value_parser(number), key];
        Command::new("x")
            .subcommand(Command::new("serve").args(args.clone()))
            .subcommand(Command::new(CHECK).args(args))
    }

    pub(super) fn with(file: &str) -> (Command, Vec<String>) {
        let table = file.parse().unwrap();
        apply(program(), &table, "coordinator", Path::new("upres.toml"))
    }

    fn parsed(file: &str, args: &[&str]) -> u16 {
        let (command, problems) = with(file);
        assert!(problems.is_empty(), "{problems:?}");
        let line = [&["x", "serve", "--api-key", "k"], args].concat();
        let matches = command.try_get_matches_from(line).unwrap();
        *matches.subcommand().unwrap().1.get_one("address").unwrap()
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        assert_eq!(parsed("", &[]), 1);
        assert_eq!(parsed("listen = 2", &[]), 2);
        assert_eq!(parsed("[coordinator]\nlisten = '3'", &[]), 3);
        assert_eq!(parsed("[worker]\nlisten = 3", &[]), 1);
        assert_eq!(parsed("listen = 2", &["--listen", "4"]), 4);
    }

    #[test]
    fn everything_wrong_in_the_programs_own_table_is_named() {
        let problems = with("[coordinator]\nlissen = 2\nlisten = [2]").1;
        assert_eq!(problems.len(), 2);
        assert!(problems.iter().any(|problem| problem.contains("`lissen`")));
        assert!(problems.iter().any(|problem| problem.contains("`listen`")));
    }

    #[test]
    fn a_slip_and_an_unknown_table_are_named_wherever_they_stand() {
        let problems = with("lisetn = 2\n[wroker]\nlisten = 2").1;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("is `listen` meant?"), "{problems:?}");
        assert!(problems[1].contains("write [cli], [coordinator] or [worker]"));
        // Another program's own.
        assert!(with("model_dir = 'models'").1.is_empty());
    }

    #[test]
    fn the_help_shows_what_the_file_sets_but_no_secret() {
        let (mut command, _) = with("api_key = 'upres_secret'\nlisten = 7");
        for name in ["serve", CHECK] {
            let help = command.find_subcommand_mut(name).unwrap();
            for help in [help.render_help(), help.render_long_help()] {
                let help = help.to_string();
                assert!(help.contains("[default: 7]"), "{help}");
                assert!(!help.contains("secret"), "{help}");
            }
        }
    }
}

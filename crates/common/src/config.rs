//! Configuration: flags, then the environment, then `upres.toml`, then the default.
//!
//! The file holds the flags' names with underscores (`database_url = "…"`). A key at the top level
//! serves every program that has such a flag; a table named after the program serves it alone.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, FromArgMatches};

/// Names another file than `./upres.toml`.
const FILE_VARIABLE: &str = "UPRES_CONFIG";
const TABLES: [&str; 3] = ["cli", "coordinator", "worker"];

/// Parses the command line of `program`, with values from the file as defaults. Ends the process
/// with status 2 and a sentence when the file or a flag is wrong.
#[must_use]
pub fn parse<T: CommandFactory + FromArgMatches>(program: &str, fallbacks: &[PathBuf]) -> T {
    let command = T::command();
    let command = match with_file(command, program, fallbacks) {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("error: {problem}");
            std::process::exit(2);
        }
    };
    let matches = command.get_matches();
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn with_file(command: Command, program: &str, fallbacks: &[PathBuf]) -> Result<Command, String> {
    let named = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    if let Some(path) = named {
        return apply(command, &read(&path)?, program, &path);
    }
    for path in fallbacks {
        if path.is_file() {
            return apply(command, &read(path)?, program, path);
        }
    }
    Ok(command)
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
) -> Result<Command, String> {
    for (key, value) in table {
        match value {
            toml::Value::Table(own) if TABLES.contains(&key.as_str()) => {
                if key == program {
                    for (key, value) in own {
                        command = default(command, key, value, true, path)?;
                    }
                }
            }
            value => command = default(command, key, value, false, path)?,
        }
    }
    Ok(command)
}

/// Makes `value` the default of the flag `key`, wherever among the subcommands it occurs.
fn default(
    command: Command,
    key: &str,
    value: &toml::Value,
    required: bool,
    path: &Path,
) -> Result<Command, String> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(choice) => choice.to_string(),
        _ => {
            return Err(format!(
                "{}: `{key}` must be a text, a number or a boolean",
                path.display()
            ));
        }
    };
    let mut known = false;
    let command = set_default(command, key, &text, &mut known);
    if required && !known {
        return Err(format!("{}: there is no setting `{key}`", path.display()));
    }
    Ok(command)
}

fn set_default(mut command: Command, key: &str, text: &str, known: &mut bool) -> Command {
    if command.get_arguments().any(|arg| arg.get_id() == key) {
        *known = true;
        let text = text.to_owned();
        command = command.mut_arg(key, |arg| arg.required(false).default_value(text));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(file: &str, args: &[&str]) -> Result<String, String> {
        let sub =
            Command::new("serve").arg(clap::Arg::new("listen").long("listen").default_value("a"));
        let command = Command::new("x").subcommand(sub);
        let table = file.parse().unwrap();
        let command = apply(command, &table, "coordinator", Path::new("upres.toml"))?;
        let matches = command
            .try_get_matches_from([&["x", "serve"], args].concat())
            .unwrap();
        let (_, serve) = matches.subcommand().unwrap();
        Ok(serve.get_one::<String>("listen").unwrap().clone())
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        assert_eq!(parsed("", &[]).unwrap(), "a");
        assert_eq!(parsed("listen = 'b'", &[]).unwrap(), "b");
        assert_eq!(parsed("[coordinator]\nlisten = 'c'", &[]).unwrap(), "c");
        assert_eq!(parsed("[worker]\nlisten = 'c'", &[]).unwrap(), "a");
        assert_eq!(parsed("listen = 'b'", &["--listen", "d"]).unwrap(), "d");
    }

    #[test]
    fn a_misspelt_setting_in_the_programs_own_table_is_named() {
        assert!(
            parsed("[coordinator]\nlissen = 'b'", &[])
                .unwrap_err()
                .contains("lissen")
        );
    }
}

//! From the words of the command line to a subcommand and its flags.

use super::flags::{COMMANDS, Command};
use super::matches::Matches;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction};
use std::ffi::OsString;

/// What the command line asks for.
pub(super) enum Parsed {
    /// To print this: help or version.
    Say(String),
    /// To run a subcommand.
    Run(&'static Command, Matches),
}

/// Parses the words of a command line, the first being the program's name. The error is what to print.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
    let words: Vec<OsString> = words.into_iter().enumerate().map(|(i, w)| normal(i, w)).collect();
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Parsed::Say(e.to_string().trim_end().to_string()));
        }
        Err(e) if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Err(format!("error: a subcommand is missing\n\n{e}"));
        }
        Err(e) => return Err(e.to_string()),
    };
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        let command = COMMANDS.iter().find(|c| c.name == name)?;
        Some(Parsed::Run(command, Matches::new(matches.clone())))
    });
    chosen.ok_or_else(|| "error: a subcommand is missing".to_string())
}

/// Caffe's users type one dash before a flag of any length; so does this: `-solver` is `--solver`.
fn normal(position: usize, word: OsString) -> OsString {
    let is_long = |text: &str| {
        let mut letters = text.chars();
        text.len() > 2
            && letters.next() == Some('-')
            && letters.next().is_some_and(|c| c.is_ascii_alphabetic())
            && letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
    };
    match word.to_str() {
        Some(text) if position > 0 && is_long(text) => OsString::from(format!("-{text}")),
        _ => word,
    }
}

/// The parser for the table.
fn command() -> clap::Command {
    let root = clap::Command::new("cortado")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Caffe reborn in Rust: train, test, time, run and check nets written in prototxt")
        .after_help("Flags may be written as Caffe's users do: -solver x, -solver=x, --solver x, --solver=x.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true);
    COMMANDS.iter().fold(root, |root, command| root.subcommand(subcommand(command)))
}

fn subcommand(command: &Command) -> clap::Command {
    let mut examples = String::from("Examples:");
    for example in command.examples {
        examples += &format!("\n  {example}");
    }
    let mut parser = clap::Command::new(command.name).about(command.about).after_help(examples);
    for (name, help) in command.arguments {
        let arg = Arg::new(*name).help(*help).required(true).value_parser(clap::value_parser!(OsString));
        parser = parser.arg(arg);
    }
    for flag in command.flags {
        let arg = Arg::new(flag.name).long(flag.name).help(flag.help).required(flag.required);
        parser = parser.arg(if flag.value.is_empty() {
            arg.action(ArgAction::SetTrue)
        } else {
            let arg = arg.value_name(flag.value).action(ArgAction::Set).allow_negative_numbers(true);
            arg.value_parser(clap::value_parser!(OsString))
        });
    }
    parser
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(line.split(' ').map(OsString::from))
    }

    fn matches(line: &str) -> Matches {
        match parsed(line) {
            Ok(Parsed::Run(_, matches)) => matches,
            Ok(Parsed::Say(text)) => panic!("{text}"),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn flags_work_as_caffe_users_type_them() {
        for form in ["-solver x", "--solver x", "-solver=x", "--solver=x"] {
            let m = matches(&format!("cortado train {form} -weights a,b -level -2"));
            assert_eq!(m.path("solver").unwrap().to_str(), Some("x"));
            assert_eq!(m.paths("weights"), ["a", "b"].map(std::path::PathBuf::from));
            assert_eq!(m.number::<i32>("level", 0).unwrap(), -2);
        }
        let m = matches("cortado time -model n --json -iterations 7");
        assert!(m.is_set("json"));
        assert_eq!(m.number::<usize>("iterations", 50).unwrap(), 7);
        assert_eq!(m.number::<usize>("threads", 0).unwrap(), 0);
    }

    #[test]
    fn mistakes_are_named_with_the_nearest_flag() {
        for (line, word) in [
            ("cortado train -slver x", "'--solver'"),
            ("cortado trian", "'train'"),
            ("cortado train", "--solver <SOLVER>"),
            ("cortado train -solver", "--solver <SOLVER>"),
            ("cortado", "subcommand"),
            ("cortado run", "<NET>"),
        ] {
            let error = parsed(line).err().unwrap_or_default();
            assert!(error.starts_with("error: ") && error.contains(word), "{line}: {error}");
        }
        let m = matches("cortado time -model n -iterations many");
        let error = m.number::<usize>("iterations", 50).unwrap_err().to_string();
        assert!(error.contains("iterations") && error.contains("many"), "{error}");
    }

    #[test]
    fn every_subcommand_has_help_with_examples() {
        for command in COMMANDS {
            let Ok(Parsed::Say(text)) = parsed(&format!("cortado {} --help", command.name)) else {
                panic!("no help for {}", command.name);
            };
            assert!(text.contains(command.examples[0]), "{text}");
            assert!(command.flags.iter().all(|f| text.contains(f.name)), "{text}");
        }
        command().debug_assert();
    }
}

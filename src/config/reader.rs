//! Flags and variables, read by one reader: what may be written in one may be written in the other.
//!
//! Blanks and line ends around a value are no part of it, and an empty value is not said. Lists are taken apart as
//! their definition's delimiter has it: `,` stands for commas and white space, a blank for white space alone (where
//! values have commas of their own), a line end for lines. Flags go before variables. clap sees flags only.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Error, Parser};

use super::source::without_secrets;
use super::variables;

/// The seed's: any text is yes, blanks too.
const ANY_TEXT: [&str; 2] = ["NO_DHCP", "NO_VNC"];

const YES: [&str; 4] = ["1", "yes", "on", "true"];
const NO: [&str; 4] = ["0", "no", "off", "false"];

/// Where variables are looked up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own.
#[expect(clippy::disallowed_methods, reason = "the one room that reads the environment")]
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A word that switches something.
pub fn switch(word: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    if is(YES) { Some(true) } else { is(NO).then_some(false) }
}

/// Reads the arguments (program name first), and variables for what they do not say. The error has every value that is
/// wrong, not the first alone.
pub fn parse<T: Parser>(args: &[OsString], environment: Environment<'_>) -> Result<T, Error> {
    let command = T::command();
    let mut said = Said::default();
    let (mut words, verbs) = said.arrange(&command, args, environment)?;
    let mut command = flags_alone(command, &verbs);
    let mut mistakes = Vec::new();
    let mut wrong = BTreeSet::new();
    loop {
        let read = command.try_get_matches_from_mut(&words).and_then(|mut matches| {
            T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
        });
        let error = match read {
            Ok(read) if mistakes.is_empty() => return Ok(read),
            Ok(_) => break,
            // Help names the variables. Clap's own error would show the wrong value as it is.
            Err(error) if !error.use_stderr() && !mistakes.is_empty() => break,
            Err(error) if !error.use_stderr() => {
                return Err(T::command().try_get_matches_from(args).err().unwrap_or(error));
            }
            Err(error) => error,
        };
        let flag = set_aside(&mut words, &error);
        if flag.is_some() || !is_only_for_want_of(&error, &wrong) {
            mistakes.push(said.shown(error));
        }
        match flag {
            Some(flag) => wrong.insert(flag),
            None => break,
        };
    }
    Err(together(mistakes))
}

/// Takes the value that an error is about out of the words, so that the others are read. Returns its flag; None for an
/// error that is not about a value.
fn set_aside(words: &mut Vec<OsString>, error: &Error) -> Option<String> {
    let (Some(ContextValue::String(arg)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let flag = arg.split(' ').next().unwrap_or_default();
    let word = OsString::from(format!("{flag}={value}"));
    let before = words.len();
    words.retain(|found| *found != word);
    (words.len() < before).then(|| flag.to_owned())
}

/// Whether a flag is only missed because its value was set aside.
fn is_only_for_want_of(error: &Error, wrong: &BTreeSet<String>) -> bool {
    let Some(ContextValue::Strings(missed)) = error.get(ContextKind::InvalidArg) else {
        return false;
    };
    let is_wrong = |arg: &String| arg.split(' ').next().is_some_and(|flag| wrong.contains(flag));
    error.kind() == ErrorKind::MissingRequiredArgument && missed.iter().all(is_wrong)
}

/// Several errors as one.
fn together(mut mistakes: Vec<Error>) -> Error {
    if mistakes.len() == 1
        && let Some(mistake) = mistakes.pop()
    {
        return mistake;
    }
    const END: &str = "\n\nFor more information, try '--help'.\n";
    let what = |error: &Error| {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        text.strip_suffix(END).unwrap_or(text).trim_end().to_owned()
    };
    let texts: Vec<String> = mistakes.iter().map(what).collect();
    Error::raw(ErrorKind::ValueValidation, texts.join("\nerror: ") + END)
}

/// The same definition for what `Said` has arranged, as far as these verbs lead: others cost time at each start.
fn flags_alone(command: Command, verbs: &[String]) -> Command {
    let plain = |arg: Arg| {
        let words = arg.get_action().takes_values() && !arg.get_possible_values().is_empty();
        arg.env(Resettable::Reset).value_delimiter(Resettable::Reset).ignore_case(words)
    };
    let command = command.mut_args(plain);
    match verbs {
        [] => command,
        [verb, below @ ..] => command.mut_subcommand(verb, |command| flags_alone(command, below)),
    }
}

/// Which flags stand for a variable.
#[derive(Debug, Default)]
struct Said {
    variables: BTreeMap<String, String>,
}

impl Said {
    /// Each value as one word with its flag, those of variables in front; and the verbs that are among the words.
    fn arrange(
        &mut self,
        command: &Command,
        args: &[OsString],
        environment: Environment<'_>,
    ) -> Result<(Vec<OsString>, Vec<String>), Error> {
        let mut levels = vec![Level::new(command)];
        let (name, rest) =
            args.split_first().map_or((None, args), |(name, rest)| (Some(name), rest));
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            let Some(level) = levels.last_mut() else { break };
            if word == "--" {
                level.words.push(word.clone());
                level.words.extend(words.by_ref().cloned());
            } else if let Some((arg, value)) = level.flag(word) {
                level.take(arg, word, value, &mut words);
            } else if let Some(below) =
                word.to_str().and_then(|word| level.command.find_subcommand(word))
            {
                level.words.push(word.clone());
                levels.push(Level::new(below));
            } else {
                level.words.push(word.clone());
            }
        }
        let mut out: Vec<OsString> = name.into_iter().cloned().collect();
        let verbs =
            levels.iter().skip(1).map(|level| level.command.get_name().to_owned()).collect();
        let deepest = levels.len() - 1;
        for (depth, level) in levels.into_iter().enumerate() {
            // The first has all of `run`, which does not go together with another verb.
            if depth > 0 || deepest == 0 {
                out.extend(self.variables(&level, environment)?);
            }
            out.extend(level.words);
        }
        Ok((out, verbs))
    }

    fn variables(
        &mut self,
        level: &Level<'_>,
        environment: Environment<'_>,
    ) -> Result<Vec<OsString>, Error> {
        let mut words = Vec::new();
        for arg in level.command.get_arguments() {
            let named = arg.get_long().zip(arg.get_env().and_then(OsStr::to_str));
            let Some((long, variable)) = named.filter(|(long, _)| !level.given.contains(*long))
            else {
                continue;
            };
            let Some((variable, value)) = look_up(variable, environment) else { continue };
            let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
            if value.to_str().is_none() && !is_switch && !takes_octets(arg) {
                // Not shown: it may be a URL with a password.
                let text = format!("the value of '{variable}' is not UTF-8");
                return Err(level.command.clone().error(ErrorKind::InvalidUtf8, text));
            }
            for value in values(arg, &value) {
                if !is_switch {
                    words.push(joined(long, &value));
                } else if on(level.command, variable, &value)? {
                    words.push(format!("--{long}").into());
                }
                self.variables.insert(format!("--{long}"), variable.to_owned());
            }
        }
        Ok(words)
    }

    /// The error with the variable whose value it is about, without secrets and without characters that nobody sees.
    fn shown(&self, mut error: Error) -> Error {
        if let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg)
            && let Some(variable) = self.variables.get(arg.split(' ').next().unwrap_or_default())
        {
            error.insert(ContextKind::InvalidArg, ContextValue::String(variable.clone()));
        }
        for kind in
            [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue]
        {
            if let Some(ContextValue::String(word)) = error.get(kind) {
                let (word, shown) = (word.clone(), printable(word));
                // The tip says the word again.
                if shown != word {
                    error.remove(ContextKind::Suggested);
                }
                error.insert(kind, ContextValue::String(shown));
            }
        }
        error
    }
}

/// What was typed, without what may be secret in it.
fn printable(word: &str) -> String {
    without_secrets(word).escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// What is said to one command, until the name of the next.
struct Level<'a> {
    command: &'a Command,
    words: Vec<OsString>,
    /// Flags, without `--`.
    given: BTreeSet<&'a str>,
}

impl<'a> Level<'a> {
    fn new(command: &'a Command) -> Self {
        Self { command, words: Vec::new(), given: BTreeSet::new() }
    }

    /// A long flag of this command, and the value that is in the same word.
    fn flag<'w>(&self, word: &'w OsStr) -> Option<(&'a Arg, Option<&'w OsStr>)> {
        let mut parts = word.as_bytes().strip_prefix(b"--")?.splitn(2, |octet| *octet == b'=');
        let long = std::str::from_utf8(parts.next()?).ok()?;
        let has = |arg: &&Arg| {
            arg.get_long() == Some(long)
                || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        };
        let arg = self.command.get_arguments().find(has)?;
        let value = parts.next().map(OsStr::from_bytes);
        Some((arg, value))
    }

    /// A flag with its values apart, or nothing when none is said.
    fn take<'w>(
        &mut self,
        arg: &'a Arg,
        word: &OsStr,
        value: Option<&OsStr>,
        words: &mut (impl Iterator<Item = &'w OsString> + Clone),
    ) {
        let Some(long) = arg.get_long() else { return };
        let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let next = || {
            let next = words.clone().next()?;
            let may = arg.is_allow_hyphen_values_set() || !next.as_bytes().starts_with(b"-");
            (takes && !arg.is_require_equals_set() && may && value.is_none()).then_some(next)
        };
        let following = next();
        // Without what it needs: clap says so.
        let Some(value) = value.or(following.map(OsString::as_os_str)).filter(|_| takes) else {
            self.given.insert(long);
            self.words.push(word.to_owned());
            return;
        };
        if following.is_some() {
            words.next();
        }
        for value in values(arg, value) {
            self.given.insert(long);
            self.words.push(joined(long, &value));
        }
    }
}

/// The variable, or what it was called before, and its value.
fn look_up<'a>(variable: &'a str, environment: Environment<'_>) -> Option<(&'a str, OsString)> {
    [Some(variable), variables::former(variable)]
        .into_iter()
        .flatten()
        .find_map(|name| Some((name, environment(name).filter(|value| !value.is_empty())?)))
}

fn joined(long: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{long}="));
    word.push(value);
    word
}

fn on(command: &Command, variable: &str, value: &OsStr) -> Result<bool, Error> {
    value.to_str().and_then(switch).ok_or_else(|| {
        let (yes, no) = (YES.join(", "), NO.join(", "));
        let text =
            format!("invalid value {value:?} for '{variable}': {yes} to say it, {no} not to");
        command.clone().error(ErrorKind::InvalidValue, text)
    })
}

/// Paths are octets; all else is text.
fn takes_octets(arg: &Arg) -> bool {
    let takes = arg.get_value_parser().type_id();
    takes == TypeId::of::<PathBuf>() || takes == TypeId::of::<OsString>()
}

/// The values that a text is for this flag.
fn values(arg: &Arg, text: &OsStr) -> Vec<OsString> {
    let Some(known) = text.to_str() else { return vec![text.to_owned()] };
    if arg.get_env().is_some_and(|name| ANY_TEXT.iter().any(|any| name == *any)) {
        return [known].into_iter().filter(|text| !text.is_empty()).map(OsString::from).collect();
    }
    let apart: fn(char) -> bool = match (arg.get_action(), arg.get_value_delimiter()) {
        (ArgAction::Append, Some(',')) => |c| c == ',' || c.is_whitespace(),
        (ArgAction::Append, Some(' ')) => char::is_whitespace,
        (ArgAction::Append, Some('\n')) => |c| c == '\n',
        _ => |_| false,
    };
    known
        .split(apart)
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .map(OsString::from)
        .collect()
}

#[cfg(test)]
mod tests;

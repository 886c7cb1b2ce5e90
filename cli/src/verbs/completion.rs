//! `completion`: what a shell needs to finish a command line, made from the command line's own tables.

use std::fmt::Write;

use capsid_runtime::Result;
use clap::{Args, Command, CommandFactory, ValueEnum};

use crate::global::CommandLine;
use crate::output;

const NOTES: &str = "\
Prints a script for the shell, which completes verbs, options and the ids of containers.

Examples:
  capsid completion bash > /usr/share/bash-completion/completions/capsid
  capsid completion zsh > /usr/share/zsh/vendor-completions/_capsid
  capsid completion fish > ~/.config/fish/completions/capsid.fish";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Completion {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub fn run(self) -> Result<u8> {
        let mut whole = CommandLine::command();
        whole.build();
        let text = match self.shell {
            Shell::Bash => bash(&whole),
            Shell::Zsh => zsh(&whole),
            Shell::Fish => fish(&whole),
        };
        output::print(text)?;
        Ok(0)
    }
}

/// The verbs whose first argument is not the id of a container.
const WITHOUT_ID: [&str; 9] = [
    "create",
    "run",
    "spec",
    "explain",
    "features",
    "info",
    "completion",
    "list",
    "help",
];

fn verbs(whole: &Command) -> impl Iterator<Item = &Command> {
    whole.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// Every option with what it is for, as it is written.
fn options(command: &Command) -> Vec<(String, String)> {
    let mut list = Vec::new();
    for option in command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
    {
        let help = option
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let help = help.lines().next().unwrap_or_default().to_owned();
        if let Some(long) = option.get_long() {
            list.push((format!("--{long}"), help.clone()));
        }
        if let Some(short) = option.get_short() {
            list.push((format!("-{short}"), help));
        }
    }
    list
}

/// Those of a verb, and of the verbs that it has of its own.
fn options_of_verb(verb: &Command) -> Vec<(String, String)> {
    let mut list = options(verb);
    for (word, help) in below(verb).flat_map(options) {
        if !list.iter().any(|(known, _)| *known == word) {
            list.push((word, help));
        }
    }
    list
}

/// The verbs that a verb has of its own.
fn below(verb: &Command) -> impl Iterator<Item = &Command> {
    verb.get_subcommands()
        .filter(|verb| verb.get_name() != "help")
}

fn words(options: Vec<(String, String)>) -> String {
    let words: Vec<String> = options.into_iter().map(|(word, _)| word).collect();
    words.join(" ")
}

fn names(whole: &Command) -> Vec<&str> {
    verbs(whole).map(Command::get_name).collect()
}

/// The part that bash and zsh have in common: `words` for the verb, and whether ids belong there.
fn cases(whole: &Command) -> String {
    let mut text = format!(
        "    '') words='{} {}' ;;\n",
        names(whole).join(" "),
        words(options(whole))
    );
    for verb in verbs(whole) {
        let name = verb.get_name();
        let below: Vec<&str> = verb.get_subcommands().map(Command::get_name).collect();
        let words = words(options_of_verb(verb));
        let ids = if WITHOUT_ID.contains(&name) {
            ""
        } else {
            "; ids=1"
        };
        let _ = writeln!(
            text,
            "    {name}) words='{words} {}'{ids} ;;",
            below.join(" ")
        );
    }
    text
}

fn bash(whole: &Command) -> String {
    format!(
        r#"# capsid completion bash
_capsid() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} verb= words= ids= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in {names}) verb=${{COMP_WORDS[i]}}; break ;; esac
  done
  case $verb in
{cases}  esac
  [[ $ids && $current != -* ]] && words="$words $(capsid list --quiet 2>/dev/null)"
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _capsid capsid
"#,
        names = names(whole).join("|"),
        cases = cases(whole),
    )
}

fn zsh(whole: &Command) -> String {
    // `words` is zsh's own name for the line.
    format!(
        r#"#compdef capsid
_capsid() {{
  local verb= given= ids= word
  for word in ${{words[2,CURRENT-1]}}; do
    case $word in {names}) verb=$word; break ;; esac
  done
  case $verb in
{cases}  esac
  [[ -n $ids && $PREFIX != -* ]] && given="$given $(capsid list --quiet 2>/dev/null)"
  compadd -- ${{=given}}
  _files
}}
_capsid "$@"
"#,
        names = names(whole).join("|"),
        cases = cases(whole).replace("words=", "given="),
    )
}

fn fish(whole: &Command) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut text = String::from("# capsid completion fish\n");
    let mut add = |condition: &str, options: Vec<(String, String)>| {
        for (word, help) in options {
            let option = match word.strip_prefix("--") {
                Some(long) => format!("-l {long}"),
                None => format!("-s {}", word.trim_start_matches('-')),
            };
            let _ = writeln!(
                text,
                "complete -c capsid -n {condition} {option} -d {}",
                quote(&help)
            );
        }
    };
    add("__fish_use_subcommand", options(whole));
    for verb in verbs(whole) {
        add(
            &quote(&format!("__fish_seen_subcommand_from {}", verb.get_name())),
            options_of_verb(verb),
        );
    }
    for verb in verbs(whole) {
        let (name, about) = (verb.get_name(), verb.get_about().map(ToString::to_string));
        let about = quote(&about.unwrap_or_default());
        let _ = writeln!(
            text,
            "complete -c capsid -n __fish_use_subcommand -a {name} -d {about}"
        );
        let condition = quote(&format!("__fish_seen_subcommand_from {name}"));
        for below in below(verb) {
            let (word, about) = (below.get_name(), below.get_about().map(ToString::to_string));
            let about = quote(&about.unwrap_or_default());
            let _ = writeln!(
                text,
                "complete -c capsid -n {condition} -a {word} -d {about}"
            );
        }
        if !WITHOUT_ID.contains(&name) {
            let _ = writeln!(
                text,
                "complete -c capsid -n {condition} -a '(capsid list --quiet 2>/dev/null)'"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the line of a verb (or of no verb) offers.
    fn offers(script: &str, verb: &str, word: &str) -> bool {
        let begin = match verb {
            "" => "'') ".to_owned(),
            verb => format!("{verb}) "),
        };
        let lines = script.lines().map(str::trim_start);
        let mut lines = lines.filter(|line| line.starts_with(&begin));
        lines.any(|line| line.split(['\'', ' ']).any(|given| given == word))
    }

    fn fish_offers(script: &str, verb: &str, word: &str) -> bool {
        let condition = match verb {
            "" => "__fish_use_subcommand".to_owned(),
            verb => format!("'__fish_seen_subcommand_from {verb}'"),
        };
        let option = match word.strip_prefix("--") {
            Some(long) => format!("-l {long} "),
            None => format!("-s {} ", word.trim_start_matches('-')),
        };
        script.contains(&format!("complete -c capsid -n {condition} {option}"))
    }

    #[test]
    fn every_option_of_every_verb_is_offered_by_every_shell() {
        let mut whole = CommandLine::command();
        whole.build();
        let mut places = vec![("", &whole)];
        for verb in verbs(&whole) {
            places.push((verb.get_name(), verb));
            places.extend(below(verb).map(|below| (verb.get_name(), below)));
        }
        let (bash, zsh, fish) = (bash(&whole), zsh(&whole), fish(&whole));
        for (verb, command) in places {
            for (word, _) in options(command) {
                let name = command.get_name();
                assert!(offers(&bash, verb, &word), "bash: {verb} {name} {word}");
                assert!(offers(&zsh, verb, &word), "zsh: {verb} {name} {word}");
                assert!(
                    fish_offers(&fish, verb, &word),
                    "fish: {verb} {name} {word}"
                );
            }
        }
    }
}

//! The command line as a whole: what stands before the verb, and what it means for every verb.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use capsid_runtime::{CgroupDriver, Code, Error, Result, Runtime};
use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};
use nix::errno::Errno;

use crate::exit_code::{self, ExitCodeMap};
use crate::log::LogOptions;
use crate::output;
use crate::switches::is_on;
use crate::verbs::{self, Verb};

const EXAMPLES: &str = "\
Examples:
  Make a bundle, and run it:
    capsid spec --bundle /tmp/b        then put a root filesystem into /tmp/b/rootfs
    capsid run --bundle /tmp/b web
  Look before you leap: what would create do, and which settings would not act?
    capsid explain /tmp/b
  The life of a container in steps, as an engine drives it:
    capsid create --bundle /tmp/b web </dev/null >/tmp/log 2>&1
    capsid start web;  capsid exec web ps;  capsid kill web TERM;  capsid delete web

Options stand before the verb when they concern every verb, and after it when they are the
verb's own: capsid --root /tmp/state run --keep web. `capsid VERB --help` explains a verb.";

/// Runs containers from OCI bundles.
#[derive(Parser)]
#[command(
    name = "capsid",
    bin_name = "capsid",
    after_help = format!("{EXAMPLES}\n\n{}", exit_code::HELP),
    arg_required_else_help = true,
    disable_version_flag = true,
    subcommand_required = false,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    max_term_width = 100,
)]
pub struct CommandLine {
    #[command(flatten)]
    pub global: Global,

    /// Print the version, the commit, and the runtime-spec version
    #[arg(short = 'v', long)]
    version: bool,

    #[command(subcommand)]
    verb: Option<Verb>,
}

impl CommandLine {
    /// What the words say with one of the verbs that engines call, found by a parser that knows no
    /// other verb: their names and texts are a quarter of what reading a command line costs. None for
    /// every other command line, the wrong ones and those that ask for help among them: the whole
    /// parser knows what to answer.
    pub fn of_an_engine(verb: &str, words: &[OsString]) -> Option<CommandLine> {
        let verb = verbs::of_engines(verb)?;
        let mut matches = Global::augment_args(Command::new("capsid"))
            .disable_help_subcommand(true)
            .subcommand(verb)
            .try_get_matches_from(words)
            .ok()?;
        Some(CommandLine {
            global: Global::from_arg_matches_mut(&mut matches).ok()?,
            version: false,
            verb: Some(Verb::from_arg_matches_mut(&mut matches).ok()?),
        })
    }

    /// The same, refused where there is neither a verb nor the question for the version.
    pub fn asking(self) -> clap::error::Result<CommandLine> {
        match self.verb.is_none() && !self.version {
            true => {
                Err(CommandLine::command().error(ErrorKind::MissingSubcommand, "a verb is missing"))
            }
            false => Ok(self),
        }
    }

    /// Does what was asked, and says the exit code.
    pub fn run(self) -> Result<u8> {
        match self.verb {
            Some(verb) if !self.version => {
                if self.global.criu.is_some() {
                    tracing::warn!("--criu has no effect: this version makes no checkpoints");
                }
                verb.run(&self.global)
            }
            _ => output::print(version_text()).map(|()| 0),
        }
    }
}

/// The values of --cgroup-manager and of --rootless.
pub const MANAGERS: &str = "cgroupfs, systemd or disabled";
pub const ROOTLESS: &str = "true, false or auto";

/// What is in it, in crun's words for that; `features` has the whole.
const HAS: &str = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF";

fn version_text() -> String {
    format!(
        "capsid version {}\ncommit: {}\nspec: {}\n{HAS}\n",
        env!("CARGO_PKG_VERSION"),
        capsid_runtime::commit(),
        capsid_runtime::OCI_VERSION,
    )
}

// The options before the verb. (A doc comment here would become the help of capsid.)
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Global {
    /// Keep the containers' state in DIR, best on a tmpfs [default: /run/capsid as root, else
    /// $XDG_RUNTIME_DIR/capsid, /run/user/UID/capsid or /tmp/capsid-UID]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(flatten)]
    pub log: LogOptions,

    /// What places containers in cgroups: `cgroupfs`, capsid itself; `systemd`, a unit of the
    /// system's or the user's systemd; `disabled`, nothing, and limits are refused
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs", value_parser = cgroup_driver, overrides_with = "systemd_cgroup")]
    cgroup_manager: CgroupDriver,

    /// What a command that fails ends with: `runc` as below; `docker`, where 127 says that the
    /// program isn't there, 126 that it can't be executed, and 125 everything else
    #[arg(long, value_name = "MAP", default_value = "runc")]
    pub exit_code_map: ExitCodeMap,

    /// Without effect: engines name the checkpoint program in every call where they are told of one
    #[arg(long, value_name = "PATH", hide = true)]
    criu: Option<PathBuf>,

    /// Do without a cgroup that can't be made, when nothing is asked of it: `true`, `false`, or
    /// `auto`, when the caller is not root of the machine
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = lenient)]
    rootless: Lenient,

    /// The same as --cgroup-manager systemd; cgroupsPath is then SLICE:PREFIX:NAME
    #[arg(long, overrides_with = "cgroup_manager")]
    systemd_cgroup: bool,
}

/// A word for [`CreateOptions::rootless`](capsid_runtime::CreateOptions); its own type, because
/// clap gives an Option a meaning of its own.
#[derive(Clone, Copy)]
struct Lenient(Option<bool>);

impl Global {
    pub fn runtime(&self) -> Result<Runtime> {
        match &self.root {
            Some(root) => Ok(Runtime::new(state_root(root)?)),
            None => Ok(Runtime::new(Runtime::default_root()?)),
        }
    }

    /// The directory was named, so that its absence is the caller's mistake.
    pub fn root_is_explicit(&self) -> bool {
        self.root.is_some()
    }

    pub fn cgroup_driver(&self) -> CgroupDriver {
        match self.systemd_cgroup {
            true => CgroupDriver::Systemd,
            false => self.cgroup_manager,
        }
    }

    pub fn rootless(&self) -> Option<bool> {
        self.rootless.0
    }

    /// Why a container was not made, with the option that asked for what the caller can't have.
    pub fn blame(&self, error: Error) -> Error {
        let denied = matches!(error.os_error(), Some(Errno::EACCES | Errno::EPERM));
        match self.rootless() {
            Some(false) if denied && error.code() == Code::Cgroup => error.hint(
                "--rootless false insists on a cgroup, which the caller may not make here: without \
                 it, a container that has no limits does without one",
            ),
            _ => error,
        }
    }
}

/// An absolute form of --root; never the file system's own root, whose directories would all
/// be containers.
fn state_root(root: &Path) -> Result<PathBuf> {
    let wrong = |text| Err(Error::new(Code::InvalidArgument, text).doing("read --root"));
    let Ok(absolute) = std::path::absolute(root) else {
        return wrong("it must name a directory");
    };
    let mut below_root = 0_usize;
    for component in absolute.components() {
        match component {
            Component::Normal(_) => below_root += 1,
            Component::ParentDir => below_root = below_root.saturating_sub(1),
            _ => {}
        }
    }
    match below_root {
        0 => wrong("it must not be /"),
        _ => Ok(absolute),
    }
}

fn cgroup_driver(word: &str) -> std::result::Result<CgroupDriver, &'static str> {
    match word {
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        "disabled" => Ok(CgroupDriver::Disabled),
        "systemd" => Ok(CgroupDriver::Systemd),
        _ => Err(MANAGERS),
    }
}

fn lenient(word: &str) -> std::result::Result<Lenient, &'static str> {
    Ok(Lenient(match word {
        "" | "auto" => None,
        word => Some(is_on(word).ok_or(ROOTLESS)?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    fn refusal(line: &str) -> String {
        parse(line).err().expect(line).to_string()
    }

    #[test]
    fn the_flags_are_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_verb_and_option_has_help() {
        let mut command = CommandLine::command();
        let listed = command.render_help().to_string();
        command.build();
        for verb in command.get_subcommands() {
            let about = verb.get_about().unwrap_or_default().to_string();
            assert!(!about.is_empty(), "{}", verb.get_name());
            assert!(listed.contains(&about), "{about} is not in the list");
            for argument in verb.get_arguments() {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{}: {name}", verb.get_name());
            }
        }
    }

    #[test]
    fn the_name_it_is_called_by_changes_nothing() {
        for name in [
            "capsid",
            "runc",
            "/usr/local/sbin/crun",
            "memfd:x (deleted)",
        ] {
            let parsed = CommandLine::try_parse_from([name, "--root", "/r", "state", "web"]);
            assert!(parsed.is_ok(), "{name}");
        }
    }

    #[test]
    fn global_options_stand_before_the_verb_in_both_forms() {
        assert!(parse("capsid --root /r --log /l --log-format=json --debug start web").is_ok());
        assert!(parse("capsid --root=/r --log-format text --cgroup-manager disabled list").is_ok());
        let text = refusal("capsid start --root /r web");
        assert!(text.contains("--root"), "{text}");
    }

    #[test]
    fn a_mistyped_flag_is_named_and_a_near_one_suggested() {
        for (line, named, near) in [
            ("capsid create --bundel /b web", "--bundel", "--bundle"),
            ("capsid run --detatch web", "--detatch", "--detach"),
            ("capsid --rot /r list", "--rot", "--root"),
            ("capsid delete --forse web", "--forse", "--force"),
            ("capsid exec --usr 1 web id", "--usr", "--user"),
            ("capsid stat web", "stat", "state"),
        ] {
            let text = refusal(line);
            assert!(text.contains(&format!("'{named}'")), "{text}");
            assert!(text.contains(&format!("'{near}'")), "{text}");
            assert!(text.contains("--help"), "{text}");
        }
    }

    #[test]
    fn checkpoint_is_no_verb() {
        let error = parse("capsid checkpoint web").err().unwrap();
        assert!(matches!(
            error.kind(),
            ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
        ));
    }

    #[test]
    fn rootless_takes_the_words_that_runc_takes() {
        for (word, meant) in [("auto", None), ("true", Some(true)), ("0", Some(false))] {
            let parsed = parse(&format!("capsid --rootless {word} list"))
                .ok()
                .unwrap();
            assert_eq!(parsed.global.rootless(), meant, "{word}");
        }
        assert!(refusal("capsid --rootless maybe list").contains("true, false or auto"));
    }

    #[test]
    fn the_last_of_an_option_counts() {
        let twice =
            "capsid --log-format text --root /a --log-format json --root /b --debug --debug list";
        let global = parse(twice).map_err(|e| e.to_string()).ok().unwrap().global;
        assert_eq!(global.root.as_deref(), Some(Path::new("/b")));
        assert_eq!(global.log.format, crate::log::Format::Json);
        assert!(parse("capsid run --bundle /a --bundle /b --detach -d web").is_ok());
        assert!(parse("capsid exec --env A=1 --env B=2 --env C=3 web id").is_ok());
    }

    #[test]
    fn systemd_is_asked_for_by_either_option() {
        let driver = |line: &str| parse(line).expect(line).global.cgroup_driver();
        assert_eq!(driver("capsid list"), CgroupDriver::Cgroupfs);
        assert_eq!(
            driver("capsid --systemd-cgroup list"),
            CgroupDriver::Systemd
        );
        assert_eq!(
            driver("capsid --cgroup-manager=systemd list"),
            CgroupDriver::Systemd
        );
        // The last one counts.
        let disabled = driver("capsid --systemd-cgroup --cgroup-manager disabled list");
        assert_eq!(disabled, CgroupDriver::Disabled);
        let systemd = driver("capsid --cgroup-manager disabled --systemd-cgroup list");
        assert_eq!(systemd, CgroupDriver::Systemd);
    }

    #[test]
    fn the_root_of_the_file_system_is_no_state_directory() {
        for root in ["/", "//", "/.", "/run/..", "/run/../..", ""] {
            assert!(state_root(Path::new(root)).is_err(), "{root}");
        }
        assert_eq!(
            state_root(Path::new("/run/x")).unwrap(),
            Path::new("/run/x")
        );
        assert!(state_root(Path::new("x")).unwrap().is_absolute());
    }

    #[test]
    fn the_version_has_the_lines_that_engines_read() {
        let text = version_text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("capsid version 0."), "{text}");
        assert!(lines[1].starts_with("commit: "), "{text}");
        assert_eq!(lines[2], "spec: 1.3.0");
    }
}

//! `exec`: a further process in a running container.

use std::path::PathBuf;

use capsid_runtime::{
    Code, Container, ContainerId, Error, ExecOptions, Result, Seal, SubCgroup, spec,
};
use clap::Args;
use oci_spec::runtime::{BoxBuilder, Capability, LinuxCapabilities, Process};

use super::container_id;
use super::process_flags::{ProcessFlags, Stay, console, preserved, seccomp_receiver};
use super::user::{Ids, User, Who, user, who};
use crate::foreground::{self, Reap, Signals};
use crate::global::Global;
use crate::terminal;

const USAGE: &str = "\
capsid exec [OPTIONS] <ID> <COMMAND> [ARGUMENT]...
       capsid exec [OPTIONS] --process <FILE> <ID>";

const NOTES: &str = "\
Options stand before the id; everything after it is the command. The process starts from the
container's own: its user, environment, capabilities, limits and working directory hold unless
an option says otherwise. With --process it starts from the file, an OCI process object, and
the options apply on top of it.

Examples:
  capsid exec web ps -ef
  capsid exec --tty web sh
  capsid exec --user 1000:1000 --env LANG=C --cwd /srv web ./check
  capsid exec --detach --pid-file /tmp/pid --process /tmp/process.json web";

#[derive(Args)]
#[command(override_usage = USAGE, after_help = NOTES)]
pub struct Exec {
    /// The container's id, then the command and its arguments
    #[arg(value_name = "ID> <COMMAND", required = true, num_args = 1.., trailing_var_arg = true)]
    id_and_command: Vec<String>,

    /// Take the process from FILE, an OCI process object in JSON
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,

    /// Return as soon as the command runs
    #[arg(short, long)]
    detach: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Start the command in DIR, an absolute path of the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set an environment variable; may repeat
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Run the command as this user, and group, each by number or by its name in the container
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = user, allow_negative_numbers = true)]
    user: Option<User>,

    /// Put the command into a further group, by number or name; may repeat
    #[arg(short = 'g', long, value_name = "GROUP", value_parser = who, allow_negative_numbers = true)]
    additional_gids: Vec<Who>,

    /// Give the command a capability, such as CAP_NET_ADMIN; may repeat
    #[arg(short, long, value_name = "CAPABILITY", value_parser = capability)]
    cap: Vec<Capability>,

    /// Run the command under this AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,

    /// Run the command with this SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,

    /// The command and its descendants can't gain privileges by execve(2)
    #[arg(long)]
    no_new_privs: bool,

    /// Enter a paused container as well; the command then waits for `capsid resume ID`
    #[arg(long)]
    ignore_paused: bool,

    /// Put the command into a cgroup below the container's, which must exist; on cgroup v1 for
    /// certain controllers when they are named, and then it may repeat
    #[arg(long, value_name = "[CONTROLLER,…:]PATH", value_parser = sub_cgroup)]
    cgroup: Vec<SubCgroup>,

    #[command(flatten)]
    flags: ProcessFlags,
}

impl Exec {
    pub fn run(self, global: &Global) -> Result<u8> {
        let (id, command) = self.id_and_command()?;
        let container = container_id::open(global, &id, "exec in")?;
        let detach = self.detach;
        let has_cwd = self.cwd.is_some();
        let is_option = command.first().is_some_and(|word| word.starts_with('-'));
        let options = self.options(&container, command);
        let mut options = options.map_err(|error| error.during(format!("exec in {id}")))?;
        let execute = |options: &ExecOptions| {
            let begun = container.exec(options, &Seal::AlreadySealed);
            begun.map_err(|error| match error.code() {
                Code::ExecNotFound if is_option => error.hint("options stand before the id"),
                _ if has_cwd && error.pointer() == Some("/process/cwd") => {
                    error.hint("--cwd names a directory of the container")
                }
                _ => error,
            })
        };
        if detach {
            execute(&options)?;
            return Ok(0);
        }
        // Before there is a process, so that no signal falls between.
        let signals = Signals::catch()?;
        options.cancel = Some(signals.ask_for_the_end()?);
        let process = execute(&options)?;
        foreground::wait(process, &signals, Reap::ItsProcess, None)
    }

    fn id_and_command(&self) -> Result<(ContainerId, Vec<String>)> {
        let mut words = self.id_and_command.iter().cloned();
        let id = container_id::existing(&words.next().unwrap_or_default())?;
        let command: Vec<String> = words.collect();
        let wrong = |text| Err(Error::new(Code::InvalidArgument, text).during("exec"));
        match (&self.process, command.is_empty()) {
            (None, true) => wrong("a command, or --process FILE, must follow the id"),
            (Some(_), false) => wrong("--process FILE and a command exclude each other"),
            _ => Ok((id, command)),
        }
    }

    fn options(self, container: &Container, command: Vec<String>) -> Result<ExecOptions> {
        let (mut process, pointer) = match &self.process {
            Some(file) => (read_process(file)?, ""),
            None => (container.process()?, "/process"),
        };
        self.check()?;
        let user = self.user.as_ref().map(|user| user.ids(container));
        let groups = self
            .additional_gids
            .iter()
            .map(|group| group.gid(container));
        let groups = groups.collect::<Result<Vec<u32>>>()?;
        self.apply(&mut process, command, user.transpose()?, &groups);
        let stay = match self.detach {
            true => Stay::Detached,
            false => Stay::Foreground,
        };
        Ok(ExecOptions {
            process,
            pointer,
            console: console(self.flags.console_socket, stay)?,
            pid_file: self.flags.pid_file,
            pidfd_socket: self.flags.pidfd_socket,
            seccomp_receiver: seccomp_receiver(),
            preserve_fds: preserved(self.flags.preserve_fds)?,
            ignore_paused: self.ignore_paused,
            cgroups: self.cgroup,
            cancel: None,
        })
    }

    /// What would be wrong in a configuration that nobody has written.
    fn check(&self) -> Result<()> {
        let wrong = |tail: String, flag, hint| {
            let error = Error::new(Code::InvalidConfig, tail);
            Err(error.doing(format!("read {flag}")).hint(hint))
        };
        for env in &self.env {
            let tail = match env.split_once('=') {
                None => format!("invalid environment variable: {env:?}"),
                Some(("", _)) => "environment variable name can't be empty".to_owned(),
                Some(_) => continue,
            };
            return wrong(tail, "--env", "it takes NAME=VALUE");
        }
        match &self.cwd {
            Some(cwd) if !cwd.is_absolute() => wrong(
                "Cwd must be an absolute path".to_owned(),
                "--cwd",
                "it takes a path of the container that begins with /",
            ),
            _ => Ok(()),
        }
    }

    /// What the command line says about the process, on top of where it came from.
    fn apply(
        &self,
        process: &mut Process,
        command: Vec<String>,
        user: Option<Ids>,
        further: &[u32],
    ) {
        if self.process.is_none() {
            process.set_args(Some(command));
            process.set_terminal(Some(self.tty));
        } else if self.tty {
            process.set_terminal(Some(true));
        }
        if !self.detach
            && let Some((rows, columns)) = terminal::size()
        {
            let size = BoxBuilder::default().height(rows).width(columns);
            process.set_console_size(size.build().ok());
        }
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if !self.env.is_empty() {
            let env = process.env_mut().get_or_insert_default();
            env.extend(self.env.iter().cloned());
        }
        if let Some(user) = user {
            process.user_mut().set_uid(user.uid);
            if let Some(gid) = user.gid {
                process.user_mut().set_gid(gid);
            }
            if let Some(groups) = user.groups {
                process.user_mut().set_additional_gids(Some(groups));
            }
        }
        if !further.is_empty() {
            let mut groups = process.user().additional_gids().clone().unwrap_or_default();
            groups.extend(further);
            process.user_mut().set_additional_gids(Some(groups));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if !self.cap.is_empty() {
            process.set_capabilities(Some(self.more_capabilities(process)));
        }
    }

    /// Never the inheritable and ambient sets: a program without the capability would pass it
    /// on (CVE-2022-29162).
    fn more_capabilities(&self, process: &Process) -> LinuxCapabilities {
        let mut sets = process
            .capabilities()
            .clone()
            .unwrap_or_else(no_capabilities);
        let more = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.extend(&self.cap);
            Some(set)
        };
        sets.set_bounding(more(sets.bounding()));
        sets.set_effective(more(sets.effective()));
        sets.set_permitted(more(sets.permitted()));
        sets
    }
}

fn read_process(file: &std::path::Path) -> Result<Process> {
    let (process, notices) = spec::process::read(file)?;
    for notice in notices {
        notice.warn();
    }
    Ok(process)
}

/// `LinuxCapabilities::default()` would invent some.
fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(None)
        .set_effective(None)
        .set_inheritable(None)
        .set_permitted(None)
        .set_ambient(None);
    none
}

/// `path`, or `controller,…:path`.
fn sub_cgroup(text: &str) -> std::result::Result<SubCgroup, String> {
    let (controllers, path) = text.split_once(':').unwrap_or(("", text));
    if path.is_empty() {
        return Err("the path is missing".to_owned());
    }
    let names = controllers.split(',').filter(|name| !name.is_empty());
    Ok(SubCgroup {
        controllers: names.map(str::to_owned).collect(),
        path: path.into(),
    })
}

fn capability(text: &str) -> std::result::Result<Capability, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    serde_json::from_value(name.into()).map_err(|_| "there is no such capability".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        exec: Exec,
    }

    fn parse(words: &[&str]) -> std::result::Result<Exec, clap::Error> {
        let line = [&["exec"], words].concat();
        Line::try_parse_from(line).map(|line| line.exec)
    }

    fn base() -> Process {
        serde_json::from_value(serde_json::json!({
            "terminal": true, "cwd": "/", "args": ["init"], "env": ["A=1"],
            "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
            "noNewPrivileges": true,
            "capabilities": {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
        }))
        .unwrap()
    }

    fn applied(words: &[&str]) -> Process {
        let exec = parse(words).unwrap();
        let (_, command) = exec.id_and_command().unwrap();
        let mut process = base();
        let number = |who: &Who| match who {
            Who::Number(number) => *number,
            Who::Name(name) => panic!("{name} is looked up in a container"),
        };
        let user = exec.user.as_ref().map(|user| Ids {
            uid: number(&user.user),
            gid: user.group.as_ref().map(number),
            groups: None,
        });
        let groups: Vec<u32> = exec.additional_gids.iter().map(number).collect();
        exec.apply(&mut process, command, user, &groups);
        process
    }

    #[test]
    fn everything_after_the_id_is_the_command() {
        for (words, command) in [
            (&["web", "ls"][..], &["ls"][..]),
            (&["web", "ls", "-d", "--tty"], &["ls", "-d", "--tty"]),
            (&["-t", "web", "-u", "1"], &["-u", "1"]),
            (&["web", "--help"], &["--help"]),
            (&["web", "--", "ls"], &["--", "ls"]),
            (&["--", "web", "ls"], &["ls"]),
        ] {
            let exec = parse(words).unwrap();
            let (id, rest) = exec.id_and_command().unwrap();
            assert_eq!(
                (id.as_str(), &rest[..]),
                ("web", &command.map_to_strings()[..])
            );
        }
    }

    trait Strings {
        fn map_to_strings(&self) -> Vec<String>;
    }
    impl Strings for &[&str] {
        fn map_to_strings(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }

    #[test]
    fn a_number_below_zero_is_refused_as_an_id_and_not_as_an_option() {
        for option in ["-u", "--user", "-g", "--additional-gids"] {
            let refused = parse(&[option, "-1", "web", "id"]).err().unwrap();
            let said = refused.to_string();
            assert!(said.contains("neither a number from 0 to"), "{said}");
        }
    }

    #[test]
    fn a_command_or_a_process_file_is_needed_and_not_both() {
        for words in [&["web"][..], &["-p", "f", "web", "ls"]] {
            let error = parse(words).unwrap().id_and_command().err().unwrap();
            assert_eq!(error.code(), Code::InvalidArgument);
        }
        assert!(parse(&["-p", "f", "web"]).unwrap().id_and_command().is_ok());
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn the_containers_own_process_holds_where_no_flag_says_otherwise() {
        let process = applied(&["web", "id"]);
        let mut expected = base();
        expected.set_args(Some(vec!["id".to_owned()]));
        expected.set_terminal(Some(false));
        assert_eq!(process, expected);
    }

    #[test]
    fn flags_change_what_they_name() {
        let process = applied(&[
            "-t",
            "--cwd",
            "/srv",
            "-e",
            "B=2",
            "--env=A=3",
            "-u",
            "1000",
            "-g",
            "8",
            "-g",
            "9",
            "web",
            "id",
        ]);
        assert_eq!(process.terminal(), Some(true));
        assert_eq!(process.cwd(), &PathBuf::from("/srv"));
        assert_eq!(process.env().as_deref().unwrap(), ["A=1", "B=2", "A=3"]);
        assert_eq!((process.user().uid(), process.user().gid()), (1000, 6));
        assert_eq!(
            process.user().additional_gids().as_deref().unwrap(),
            [7, 8, 9]
        );
        assert_eq!(applied(&["-u", "1:2", "web", "id"]).user().gid(), 2);
    }

    #[test]
    fn an_added_capability_is_never_inheritable_or_ambient() {
        let process = applied(&["-c", "CAP_SYS_PTRACE", "--cap", "net_admin", "web", "id"]);
        let sets = process.capabilities().clone().unwrap();
        for set in [sets.effective(), sets.permitted()] {
            assert_eq!(set.as_ref().unwrap().len(), 2);
        }
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 3);
        assert_eq!(sets.ambient().as_ref().unwrap().len(), 1);
        assert_eq!(*sets.inheritable(), None);
        assert!(parse(&["-c", "CAP_NONSENSE", "web", "id"]).is_err());
    }

    #[test]
    fn labels_are_those_of_the_flags() {
        let process = applied(&[
            "--apparmor",
            "p",
            "--process-label",
            "u:r:t:s0",
            "web",
            "id",
        ]);
        assert_eq!(process.apparmor_profile().as_deref(), Some("p"));
        assert_eq!(process.selinux_label().as_deref(), Some("u:r:t:s0"));
    }

    #[test]
    fn a_sub_cgroup_may_name_its_controllers() {
        let parsed = |text: &str| sub_cgroup(text).map(|it| (it.controllers.join("+"), it.path));
        assert_eq!(parsed("a/b"), Ok((String::new(), "a/b".into())));
        assert_eq!(
            parsed("cpu,memory:a"),
            Ok(("cpu+memory".to_owned(), "a".into()))
        );
        assert!(parsed("cpu:").is_err() && parsed("").is_err());
    }
}

//! systemd's own interface (org.freedesktop.systemd1(5)): start, change and stop a unit, and put a
//! process into one. Nothing here knows of containers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Property;
use super::address::of_path;
use super::bus::{Bus, LIMIT, Refusal, Reply};
use super::message::Call;
use super::value::Value;
use crate::error::{Code, Error, Result};

/// Which systemd, and how to reach it; kept in the state, so that delete finds the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// That of a user, which manages what below its own cgroup is delegated to it.
    pub user: bool,
    /// A D-Bus address.
    pub bus: String,
}

/// What there is to know of a systemd before a unit can be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub address: Address,
    /// Such as 252; 0 where it says none.
    pub version: u32,
    /// Its own cgroup, with a leading slash: its units' lie below.
    pub cgroup: PathBuf,
}

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SCOPE: &str = "org.freedesktop.systemd1.Scope";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const PLACE: &str = "/org/freedesktop/systemd1";
const NAME: &str = "org.freedesktop.systemd1";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";

/// A connection to systemd.
pub struct Manager {
    bus: Bus,
    /// Through a bus that has others on it, or straight to systemd's own socket.
    name: Option<&'static str>,
}

impl Address {
    /// The system's, or that of the calling user.
    ///
    /// # Errors
    /// A user without a session: nobody says where its systemd is.
    pub fn find(user: bool) -> Result<Address> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let bus = match user {
            false => variable("DBUS_SYSTEM_BUS_ADDRESS")
                .unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned()),
            true => match variable("DBUS_SESSION_BUS_ADDRESS") {
                Some(address) => address,
                None => {
                    let directory =
                        variable("XDG_RUNTIME_DIR").ok_or_else(|| no_session(booted()))?;
                    of_path(Path::new(&directory).join("bus").as_os_str())
                }
            },
        };
        Ok(Address { user, bus })
    }

    /// systemd's own socket beside the bus, which works before and without a bus.
    fn direct(&self) -> Option<String> {
        let directory = match self.user {
            false => "/run".into(),
            true => std::env::var_os("XDG_RUNTIME_DIR")?,
        };
        let socket = Path::new(&directory).join("systemd/private");
        Some(of_path(socket.as_os_str()))
    }
}

/// Nobody listens: what has to run, and what starts it.
fn nobody(user: bool, booted: bool) -> &'static str {
    match (user, booted) {
        (true, true) => "the user's systemd doesn't run: loginctl enable-linger USER starts it",
        (true, false) | (false, _) => {
            "systemd doesn't run here: leave out --systemd-cgroup, or say --cgroup-manager cgroupfs"
        }
    }
}

/// Whether the machine is run by systemd: sd_booted(3).
fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn no_session(booted: bool) -> Error {
    let tail = "could not connect to systemd's user manager: XDG_RUNTIME_DIR is not set";
    Error::new(Code::Cgroup, tail).hint(match booted {
        true => "log in, or have the user's systemd started by loginctl enable-linger USER",
        false => nobody(true, false),
    })
}

impl Manager {
    /// Connects to it.
    ///
    /// # Errors
    /// Nobody is there (ENOENT, ECONNREFUSED), or it doesn't answer.
    pub fn connect(address: &Address) -> Result<Manager> {
        Manager::connect_within(address, LIMIT)
    }

    pub fn connect_within(address: &Address, limit: Duration) -> Result<Manager> {
        let refused = match Bus::connect(&address.bus, limit) {
            Ok(bus) => {
                let name = Some(NAME);
                let mut manager = Manager { bus, name };
                manager.introduce()?;
                return Ok(manager);
            }
            Err(error) => error,
        };
        match (refused.os_error(), address.direct()) {
            (Some(Errno::ENOENT | Errno::ECONNREFUSED), Some(direct)) => {
                let bus = Bus::connect(&direct, limit);
                let bus = bus.map_err(|_| refused.hint(nobody(address.user, booted())))?;
                Ok(Manager { bus, name: None })
            }
            (Some(Errno::ENOENT | Errno::ECONNREFUSED), None) => {
                Err(refused.hint(nobody(address.user, booted())))
            }
            _ => Err(refused),
        }
    }

    /// A bus wants to be greeted, and to be told which signals are of interest.
    fn introduce(&mut self) -> Result<()> {
        let rule = format!(
            "type='signal',sender='{NAME}',interface='{MANAGER}',path='{PLACE}',member='JobRemoved'"
        );
        for (member, arguments) in [("Hello", Vec::new()), ("AddMatch", vec![Value::text(rule)])] {
            self.bus.call(&Call {
                destination: Some("org.freedesktop.DBus"),
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                member,
                arguments: &arguments,
            })?;
        }
        Ok(())
    }

    fn call(
        &mut self,
        member: &'static str,
        arguments: &[Value],
    ) -> std::result::Result<Reply, Refusal> {
        self.bus.call(&Call {
            destination: self.name,
            path: PLACE,
            interface: MANAGER,
            member,
            arguments,
        })
    }

    /// What a plan needs to know.
    ///
    /// # Errors
    /// It doesn't answer.
    pub fn facts(&mut self, address: Address) -> Result<Facts> {
        let doing = |error: Error| error.doing("ask systemd for its version and cgroup");
        let mut own = |name| {
            self.property(PLACE, MANAGER, name)
                .map_err(|refusal| doing(refusal.into()))
        };
        let (version, cgroup) = (own("Version")?, own("ControlGroup")?);
        Ok(Facts {
            address,
            version: version_number(&version),
            cgroup: Path::new("/").join(cgroup),
        })
    }

    /// A property that is text; empty where it has none.
    fn property(
        &mut self,
        of: &str,
        interface: &str,
        name: &str,
    ) -> std::result::Result<String, Refusal> {
        let arguments = [Value::text(interface), Value::text(name)];
        let reply = self.bus.call(&Call {
            destination: self.name,
            path: of,
            interface: PROPERTIES,
            member: "Get",
            arguments: &arguments,
        })?;
        match reply.values.as_slice() {
            [Value::Variant(value)] => Ok(value.as_text().unwrap_or_default().to_owned()),
            _ => Ok(String::new()),
        }
    }

    /// The slice that a scope is in. None: there is no such scope.
    ///
    /// # Errors
    /// systemd's own words.
    pub fn slice_of(&mut self, scope: &str) -> Result<Option<String>> {
        let found = match self.call("GetUnit", &[Value::text(scope)]) {
            Ok(reply) => match reply.values.as_slice() {
                [Value::Path(path)] => self.property(path, SCOPE, "Slice"),
                _ => Ok(String::new()),
            },
            Err(refusal) => Err(refusal),
        };
        match found {
            Ok(slice) => Ok(Some(slice)),
            Err(refusal) if refusal.is(NO_SUCH_UNIT) => Ok(None),
            // It went between the two questions.
            Err(refusal) if refusal.is(UNKNOWN_OBJECT) => Ok(None),
            Err(refusal) => Err(Error::from(refusal).doing(format!("ask for unit {scope}"))),
        }
    }

    /// A pid is a name that means another process in another pid namespace: it would be moved, and
    /// killed with the container.
    fn counts_alike(&self) -> Result<()> {
        match self.bus.counts_otherwise() {
            false => Ok(()),
            true => {
                let tail =
                    "systemd is in another pid namespace, where the process has another number";
                let hint =
                    "call capsid where systemd is, or say --cgroup-manager cgroupfs or disabled";
                Err(Error::new(Code::Unsupported, tail).hint(hint))
            }
        }
    }

    /// Starts a transient unit and waits until it runs. One that has failed under this name, and
    /// was kept for somebody to look at, is cleared away.
    ///
    /// # Errors
    /// systemd's own words; the result of the job, when that is not `done`.
    pub fn start(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        self.counts_alike()
            .map_err(|error| error.doing(format!("start unit {unit}")))?;
        let arguments = [
            Value::text(unit),
            // Whatever else is queued for this name: there is nothing to queue behind.
            Value::text("replace"),
            structs(properties),
            Value::array("(sa(sv))", Vec::new()),
        ];
        let reply = match self.call("StartTransientUnit", &arguments) {
            Err(refusal) if refusal.is(UNIT_EXISTS) => {
                self.reset_failed(unit)?;
                self.call("StartTransientUnit", &arguments)
            }
            result => result,
        };
        let started = reply
            .map_err(|refusal| match refusal.is(UNIT_EXISTS) {
                true => Error::from(refusal).errno(Errno::EEXIST),
                false => refusal.into(),
            })
            .and_then(|reply| self.finished(&reply));
        let result = started.map_err(|error| error.doing(format!("start unit {unit}")))?;
        match result.as_str() {
            "done" => Ok(()),
            result => {
                let tail = format!("error creating systemd unit `{unit}`: got `{result}`");
                let error = Error::new(Code::Cgroup, tail);
                Err(error.hint(format!("systemctl status {unit} says why")))
            }
        }
    }

    /// Waits for the end of the job that a reply names, and says its result.
    fn finished(&mut self, reply: &Reply) -> Result<String> {
        let [Value::Path(job)] = reply.values.as_slice() else {
            return Err(Error::new(Code::Cgroup, "systemd has named no job"));
        };
        loop {
            let signal = self.bus.signal().map_err(|error| match error.code() {
                Code::Deadline => error.hint("its job does not end (systemctl list-jobs)"),
                _ => error,
            })?;
            // Somebody else on the bus may send what looks like it.
            if signal.member != "JobRemoved" || signal.sender != reply.sender {
                continue;
            }
            if let [_, Value::Path(path), _, Value::Text(result)] = signal.values.as_slice()
                && path == job
            {
                return Ok(result.clone());
            }
        }
    }

    /// Changes a unit until it is stopped.
    ///
    /// # Errors
    /// systemd's own words.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let runtime = Value::Bool(true);
        let arguments = [Value::text(unit), runtime, structs(properties)];
        let done = self.call("SetUnitProperties", &arguments);
        done.map(drop)
            .map_err(|refusal| Error::from(refusal).doing(format!("set properties of unit {unit}")))
    }

    /// Puts a process into a running unit that is delegated, or into a cgroup below its own.
    ///
    /// # Errors
    /// systemd's own words.
    pub fn attach(&mut self, unit: &str, below: &Path, pid: u32) -> Result<()> {
        self.counts_alike()
            .map_err(|error| error.doing(format!("attach process {pid} to unit {unit}")))?;
        let below = match below.as_os_str().is_empty() {
            true => String::new(),
            false => format!("/{}", below.display()),
        };
        let arguments = [
            Value::text(unit),
            Value::text(below),
            Value::array("u", vec![Value::Uint32(pid)]),
        ];
        let done = self.call("AttachProcessesToUnit", &arguments);
        done.map(drop).map_err(|refusal| {
            Error::from(refusal).doing(format!("attach process {pid} to unit {unit}"))
        })
    }

    /// Stops a unit, waits for that, and has systemd forget that it may have failed. One that is
    /// not there any more is as good.
    ///
    /// # Errors
    /// systemd's own words; that it didn't happen in time.
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        let arguments = [Value::text(unit), Value::text("replace")];
        let stopped = match self.call("StopUnit", &arguments) {
            Err(refusal) if refusal.is(NO_SUCH_UNIT) => return Ok(()),
            Err(refusal) => Err(refusal.into()),
            // Whatever the result is: it has stopped, or another job has come in between.
            Ok(reply) => self.finished(&reply).map(drop),
        };
        stopped.map_err(|error| error.doing(format!("stop unit {unit}")))?;
        self.reset_failed(unit)
    }

    fn reset_failed(&mut self, unit: &str) -> Result<()> {
        match self.call("ResetFailedUnit", &[Value::text(unit)]) {
            Err(refusal) if refusal.is(NO_SUCH_UNIT) => Ok(()),
            Err(refusal) => Err(Error::from(refusal).doing(format!("reset unit {unit}"))),
            Ok(_) => Ok(()),
        }
    }
}

fn structs(properties: &[Property]) -> Value {
    let property = |(name, value): &Property| {
        Value::Struct(vec![Value::text(name.as_str()), value.clone().variant()])
    };
    Value::array("(sv)", properties.iter().map(property).collect())
}

/// The number that distributions write first: `252.38-1~deb12u1`, `v245`, `"256~rc3"`.
fn version_number(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits
        .get(..end)
        .and_then(|it| it.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_systemd_does_not_run_nobody_is_told_to_log_in() {
        for hint in [nobody(true, false), nobody(false, false)] {
            assert!(hint.starts_with("systemd doesn't run here"), "{hint}");
        }
        assert!(nobody(true, true).contains("enable-linger"));
        let hint = |booted| no_session(booted).advice().map(str::to_owned);
        assert_eq!(hint(false).as_deref(), Some(nobody(true, false)));
        assert!(hint(true).is_some_and(|hint| hint.starts_with("log in")));
    }

    #[test]
    fn versions_are_the_first_number() {
        for (text, number) in [
            ("252.38-1~deb12u1", 252),
            ("v245.4-4ubuntu3", 245),
            ("systemd 239 (239-1)", 239),
            ("256~rc3", 256),
            ("", 0),
            ("99999999999", 0),
        ] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }
}

//! The rules of a profile in one form: a verdict and the conditions under which it holds, and
//! which rules speak of which call. It must not know how any of it is compiled.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator as Operator,
};

use super::syscalls::{self, Syscall};

/// How an argument is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// `(argument & mask) test value`, or its contrary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u32,
    pub mask: u64,
    pub test: Test,
    pub value: u64,
    pub negated: bool,
}

impl Condition {
    /// Whether nothing is asked, as far as arguments of this width go.
    pub fn always(&self, wide: bool) -> bool {
        let seen = if wide { u64::MAX } else { u32::MAX.into() };
        let equal = self.test == Test::Equal && !self.negated;
        equal && self.mask & seen == 0 && self.value & seen == 0
    }
}

impl Rule {
    /// Whether it holds whatever the arguments of this width are.
    pub fn is_unconditional(&self, wide: bool) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.always(wide))
    }
}

/// What the kernel is told (SECCOMP_RET_*) when every condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub verdict: u32,
    pub conditions: Vec<Condition>,
}

/// The rules of a profile.
#[derive(Debug)]
pub struct Rules {
    /// For what no rule speaks of.
    pub default: u32,
    /// In the profile's order.
    pub rules: Vec<Rule>,
    /// Every call that the profile names, and the indices of the rules for it.
    pub calls: Vec<(Syscall, std::ops::Range<usize>)>,
    /// The rules for the calls that socketcall(2) and ipc(2) make on some architectures.
    pub socketcall: Vec<usize>,
    pub ipc: Vec<usize>,
    /// Names that no architecture knows, with their pointers.
    pub unknown: Vec<(String, String)>,
}

/// Calls by their numbers in socketcall(2) (linux/net.h), from 1.
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Calls and their numbers in ipc(2) (linux/ipc.h).
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// ipc(2) keeps a version in the upper half of its first argument.
const IPC_CALL: u64 = 0xffff;

/// Whether a call is made by way of another on some architectures.
#[cfg(test)]
pub fn is_multiplexed(name: &str) -> bool {
    SOCKETCALLS.contains(&name) || IPC_CALLS.iter().any(|(known, _)| *known == name)
}

/// The kernel's word for an action.
pub fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    action.as_u32(errno)
}

impl Rules {
    /// Reads a profile that [`crate::plan::validate`] has found right.
    pub fn read(profile: &LinuxSeccomp) -> Rules {
        let default = verdict(profile.default_action(), profile.default_errno_ret());
        let mut all = Rules {
            default,
            rules: Vec::new(),
            calls: Vec::new(),
            socketcall: Vec::new(),
            ipc: Vec::new(),
            unknown: Vec::new(),
        };
        for (n, entry) in profile.syscalls().iter().flatten().enumerate() {
            let verdict = verdict(entry.action(), entry.errno_ret());
            // What the default says already is no rule, as libseccomp has it: it must not
            // come before a later rule either.
            let range = match verdict == default {
                true => 0..0,
                false => all.add(verdict, entry.args().as_deref().unwrap_or_default()),
            };
            for (m, name) in entry.names().iter().enumerate() {
                match syscalls::find(name) {
                    Some(call) => {
                        all.calls.push((call, range.clone()));
                        all.multiplexed(name, range.clone());
                    }
                    None => {
                        let pointer = format!("/linux/seccomp/syscalls/{n}/names/{m}");
                        all.unknown.push((pointer, name.clone()));
                    }
                }
            }
        }
        all
    }

    /// Conditions hold together, unless an argument has several: then each stands alone, which
    /// is how the engines' profiles say "or".
    fn add(&mut self, verdict: u32, args: &[LinuxSeccompArg]) -> std::ops::Range<usize> {
        let begin = self.rules.len();
        let twice = args.iter().enumerate().any(|(n, arg)| {
            args.iter()
                .take(n)
                .any(|other| other.index() == arg.index())
        });
        let conditions = args.iter().map(condition);
        match twice {
            true => self.rules.extend(conditions.map(|condition| Rule {
                verdict,
                conditions: vec![condition],
            })),
            false => self.rules.push(Rule {
                verdict,
                conditions: conditions.collect(),
            }),
        }
        begin..self.rules.len()
    }

    /// A call that is also made by way of another is judged there as well. Its own arguments
    /// are behind a pointer there: rules that ask for them have nothing to say.
    fn multiplexed(&mut self, name: &str, range: std::ops::Range<usize>) {
        let socket = SOCKETCALLS.iter().position(|known| *known == name);
        let ipc = IPC_CALLS.iter().find(|(known, _)| *known == name);
        let (value, mask) = match (socket, ipc) {
            (Some(index), _) => (index as u64 + 1, u64::MAX),
            (None, Some((_, number))) => (*number, IPC_CALL),
            (None, None) => return,
        };
        let unconditional = |rule: &&Rule| rule.conditions.is_empty();
        let found = self.rules.get(range).unwrap_or_default();
        let Some(verdict) = found.iter().find(unconditional).map(|rule| rule.verdict) else {
            return;
        };
        let index = self.rules.len();
        self.rules.push(Rule {
            verdict,
            conditions: vec![Condition {
                argument: 0,
                mask,
                test: Test::Equal,
                value,
                negated: false,
            }],
        });
        match socket {
            Some(_) => self.socketcall.push(index),
            None => self.ipc.push(index),
        }
    }
}

fn condition(arg: &LinuxSeccompArg) -> Condition {
    let (test, negated) = match arg.op() {
        Operator::ScmpCmpNe => (Test::Equal, true),
        Operator::ScmpCmpLt => (Test::GreaterOrEqual, true),
        Operator::ScmpCmpLe => (Test::Greater, true),
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => (Test::Equal, false),
        Operator::ScmpCmpGe => (Test::GreaterOrEqual, false),
        Operator::ScmpCmpGt => (Test::Greater, false),
    };
    let (mask, value) = match arg.op() {
        Operator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0)),
        _ => (u64::MAX, arg.value()),
    };
    Condition {
        argument: arg.index() as u32,
        mask,
        test,
        value,
        negated,
    }
}

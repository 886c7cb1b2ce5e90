//! What the probe does besides looking: wait, end in a chosen way, or try one
//! forbidden thing and print the name of the errno that it got.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd;
use serde_json::{Value, json};

use crate::errno::Name;
use crate::line;

type Words<'a> = &'a [OsString];
type Action = fn(Words<'_>) -> Result<ExitCode, String>;

/// Every action by its name.
const ACTIONS: &[(&str, Action)] = &[
    ("exit", exit),
    ("signal", signal),
    ("sleep-until-term", sleep_until_term),
    ("hold", hold),
    ("write", write),
    ("open", open),
    ("mkdir", mkdir),
    ("mknod", make_node),
    ("sethostname", set_hostname),
    ("alloc", alloc),
    ("threads", threads),
    ("say", say),
];

/// How `open` opens, by the word for it.
const MODES: &[(&str, OFlag)] = &[
    ("r", OFlag::O_RDONLY),
    ("w", OFlag::O_WRONLY),
    ("rw", OFlag::O_RDWR),
];

const NODES: &[(&str, SFlag)] = &[
    ("c", SFlag::S_IFCHR),
    ("b", SFlag::S_IFBLK),
    ("p", SFlag::S_IFIFO),
];

pub(crate) fn named(name: &str) -> Option<Action> {
    let found = ACTIONS.iter().find(|(known, _)| *known == name);
    found.map(|(_, action)| *action)
}

/// `say PATH TEXT`: sends one datagram to a Unix socket.
fn say(words: Words<'_>) -> Result<ExitCode, String> {
    let [path, text] = words else {
        return Err("say takes a path and a text".to_owned());
    };
    std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(text.as_encoded_bytes(), path))
        .map_err(|error| format!("say: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// `exit N`: ends with that status.
fn exit(words: Words<'_>) -> Result<ExitCode, String> {
    Ok(ExitCode::from(number::<u8>(words, 0)?))
}

/// `signal N`: sends itself the signal. The init of a pid namespace survives
/// those that it does not handle; then a line says so.
fn signal(words: Words<'_>) -> Result<ExitCode, String> {
    let number = number::<i32>(words, 0)?;
    let signal = Signal::try_from(number).map_err(|_| format!("{number}: no such signal"))?;
    // Rust ignores SIGPIPE at start, which no other signal shares.
    raise(signal).map_err(|errno| format!("raise: {errno}"))?;
    line(&json!({ "survived": number }))?;
    Ok(ExitCode::SUCCESS)
}

/// `sleep-until-term`: prints `{"ready":true}`, waits for SIGTERM, SIGINT or
/// SIGHUP, prints `{"signal":N}` and ends with 0. Works as init too.
fn sleep_until_term(_: Words<'_>) -> Result<ExitCode, String> {
    let mut awaited = SigSet::empty();
    awaited.extend([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    awaited
        .thread_block()
        .map_err(|errno| format!("sigprocmask: {errno}"))?;
    line(&json!({ "ready": true }))?;
    let signal = awaited
        .wait()
        .map_err(|errno| format!("sigwait: {errno}"))?;
    line(&json!({ "signal": signal as i32 }))?;
    Ok(ExitCode::SUCCESS)
}

/// `hold`: prints `{"ready":true}`, reads stdin to its end, ends with 0.
fn hold(_: Words<'_>) -> Result<ExitCode, String> {
    line(&json!({ "ready": true }))?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())
        .map_err(|error| format!("stdin: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// `write PATH TEXT`: makes or replaces the file.
fn write(words: Words<'_>) -> Result<ExitCode, String> {
    let text = word(words, 1)?.to_string_lossy();
    report("write", fs::write(path(words)?, text.as_bytes()))
}

/// `open PATH r|w|rw`: opens it without making it, and reads one byte of it if
/// it was opened for reading.
fn open(words: Words<'_>) -> Result<ExitCode, String> {
    let flags = choose(MODES, words, 1)?;
    let mut options = OpenOptions::new();
    options
        .read(flags != OFlag::O_WRONLY)
        .write(flags != OFlag::O_RDONLY)
        .custom_flags(OFlag::O_NONBLOCK.bits());
    let opened = options.open(path(words)?).and_then(|mut file| {
        if flags == OFlag::O_WRONLY {
            return Ok(());
        }
        file.read(&mut [0]).map(drop)
    });
    report("open", opened)
}

/// `mkdir PATH`, with mode 0777 less the umask.
fn mkdir(words: Words<'_>) -> Result<ExitCode, String> {
    report("mkdir", fs::create_dir(path(words)?))
}

/// `mknod PATH c|b|p MAJOR MINOR`, with mode 0666 less the umask.
fn make_node(words: Words<'_>) -> Result<ExitCode, String> {
    let kind = choose(NODES, words, 1)?;
    let device = if kind == SFlag::S_IFIFO {
        0
    } else {
        makedev(number(words, 2)?, number(words, 3)?)
    };
    report(
        "mknod",
        mknod(path(words)?, kind, Mode::from_bits_truncate(0o666), device),
    )
}

/// `sethostname NAME`
fn set_hostname(words: Words<'_>) -> Result<ExitCode, String> {
    report("sethostname", unistd::sethostname(word(words, 0)?))
}

/// `alloc BYTES`: takes the memory and touches each page of it.
fn alloc(words: Words<'_>) -> Result<ExitCode, String> {
    let bytes = number::<usize>(words, 0)?;
    let mut block: Vec<u8> = Vec::new();
    if block.try_reserve_exact(bytes).is_err() {
        return outcome("alloc", json!("ENOMEM"));
    }
    block.resize(bytes, 1);
    let touched = std::hint::black_box(&block).len();
    line(&json!({ "alloc": "ok", "bytes": touched }))?;
    Ok(ExitCode::SUCCESS)
}

/// `threads N`: starts N threads that wait, and says how many there were and
/// which errno ended it (`null` for none).
fn threads(words: Words<'_>) -> Result<ExitCode, String> {
    let asked = number::<usize>(words, 0)?;
    let mut started = 0_usize;
    let mut refusal = None;
    while started < asked {
        match thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(thread::park)
        {
            Ok(_) => started += 1,
            Err(error) => {
                refusal = Some(Name::from(error).to_string());
                break;
            }
        }
    }
    line(&json!({ "threads": started, "error": refusal }))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints `{"ACTION": "ok"}` or `{"ACTION": "EPERM"}`: a refusal is an answer,
/// not a failure of the probe.
fn report<E: Into<Name>>(action: &str, result: Result<(), E>) -> Result<ExitCode, String> {
    let word = match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.into().to_string(),
    };
    outcome(action, json!(word))
}

fn outcome(action: &str, word: Value) -> Result<ExitCode, String> {
    line(&json!({ action: word }))?;
    Ok(ExitCode::SUCCESS)
}

fn word<'a>(words: Words<'a>, index: usize) -> Result<&'a OsString, String> {
    words
        .get(index)
        .ok_or_else(|| "a word is missing".to_owned())
}

fn path<'a>(words: Words<'a>) -> Result<&'a Path, String> {
    word(words, 0).map(Path::new)
}

fn number<N: FromStr>(words: Words<'_>, index: usize) -> Result<N, String> {
    let text = word(words, index)?.to_string_lossy();
    text.parse()
        .map_err(|_| format!("{text}: not a number in range"))
}

fn choose<T: Copy>(table: &[(&str, T)], words: Words<'_>, index: usize) -> Result<T, String> {
    let text = word(words, index)?.to_string_lossy();
    let found = table.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("{text}: unknown"))
}

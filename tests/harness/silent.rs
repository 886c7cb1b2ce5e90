//! A FUSE file system that says what its root directory is, and never anything else.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

/// The opcodes and structures of linux/fuse.h that are answered.
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const HEADER: usize = 40;

pub struct Silent {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Silent {
    /// Mounts it on a folder, in a new mount namespace of the calling thread.
    pub fn mounted(folder: &Path) -> std::io::Result<Silent> {
        let device = File::options()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open("/dev/fuse")?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&str>;
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )?;
        let fd = device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other");
        mount(
            Some("silent"),
            folder,
            Some("fuse"),
            MsFlags::empty(),
            Some(data.as_str()),
        )?;
        let (stop, asked) = (Arc::default(), Arc::default());
        let told = (Arc::clone(&stop), Arc::clone(&asked));
        Ok(Silent {
            stop,
            asked,
            server: Some(std::thread::spawn(move || serve(device, &told.0, &told.1))),
        })
    }

    /// Whether anybody waits for an answer.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // With its device the connection ends, and so does all that waits.
        self.stop.store(true, Ordering::Relaxed);
        self.server.take().map(JoinHandle::join);
    }
}

fn serve(mut device: File, stop: &AtomicBool, asked: &AtomicBool) {
    let mut request = vec![0; 1 << 17];
    while !stop.load(Ordering::Relaxed) {
        let mut watched = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, PollTimeout::from(20_u8)) != Ok(1) {
            continue;
        }
        let Ok(length) = device.read(&mut request) else {
            continue;
        };
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let root = request[16..24] == 1_u64.to_ne_bytes();
        assert!(length >= HEADER);
        let body = match number(4) {
            INIT => init(),
            GETATTR if root => attributes(),
            _ => {
                asked.store(true, Ordering::Relaxed);
                continue;
            }
        };
        let mut reply = Vec::new();
        reply.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        reply.extend(0_i32.to_ne_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        // Who asked may be gone.
        let _ = device.write(&reply);
    }
}

/// struct fuse_init_out
fn init() -> Vec<u8> {
    let mut body = vec![0; 64];
    body[0..4].copy_from_slice(&7_u32.to_ne_bytes());
    body[4..8].copy_from_slice(&31_u32.to_ne_bytes());
    body[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
    body
}

/// struct fuse_attr_out of a directory that anybody may walk.
fn attributes() -> Vec<u8> {
    let mut body = vec![0; 104];
    body[0..8].copy_from_slice(&3600_u64.to_ne_bytes());
    body[16..24].copy_from_slice(&1_u64.to_ne_bytes());
    body[76..80].copy_from_slice(&0o40777_u32.to_ne_bytes());
    body[80..84].copy_from_slice(&2_u32.to_ne_bytes());
    body
}

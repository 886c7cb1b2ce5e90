//! The socket on which a container's first process says how it is (sd_notify(3)): a directory of
//! the state directory that is bound read-only into the container. Who listens, and whom they
//! tell, is the caller's business.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::sys::stat::Mode;
use oci_spec::runtime::{Mount, Spec};

use super::Container;
use super::store::StateDir;
use crate::error::{Code, Error, Result};

/// The directory's name in the state directory, and the socket's in it.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Where the container sees the directory: as runc has it.
const INSIDE: &str = "/run/notify";

/// The mount, as config.json would ask for it.
pub(super) fn add_mount(config: &mut Spec, state_dir: &Path) {
    let mut mount = Mount::default();
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
    mount
        .set_destination(INSIDE.into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(state_dir.join(DIRECTORY)))
        .set_options(Some(options.map(str::to_owned).to_vec()));
    config.mounts_mut().get_or_insert_default().push(mount);
}

/// Where the process finds the socket.
pub(super) fn variable() -> String {
    format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}")
}

/// Makes the directory.
pub(super) fn make_directory(state_dir: &StateDir) -> Result<()> {
    let path = state_dir.path().join(DIRECTORY);
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(&path)
        // The caller's umask may be strict, and the container's ids others.
        .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)))
        .map_err(|error| Error::io(Code::Io, "mkdir", &error).path(&path))
}

impl Container {
    /// The first process: its pid, and a pidfd that becomes readable when it has ended. None:
    /// it has ended.
    ///
    /// # Errors
    /// pidfd_open(2) was refused.
    pub fn init(&self) -> Result<Option<(i32, OwnedFd)>> {
        let Some(record) = &self.record else {
            return Ok(None);
        };
        Ok(record.init.open()?.map(|pidfd| (record.init.pid, pidfd)))
    }

    /// Listens on the container's sd_notify(3) socket; None when it was made without one. To be
    /// called before start, whose program may speak at once.
    ///
    /// # Errors
    /// The socket can't be made, or somebody listens on it.
    pub fn notify_socket(&self) -> Result<Option<OwnedFd>> {
        listen(self.state_dir.path())
    }
}

/// Binds the socket; None where there is no directory for it.
pub(super) fn listen(state_dir: &Path) -> Result<Option<OwnedFd>> {
    let path = state_dir.join(DIRECTORY);
    let refused = |call| {
        let path = path.join(SOCKET);
        move |errno| Error::call(Code::Io, call, errno).path(path)
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let directory = match open(&path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(refused("open")(errno)),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listening =
        socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(refused("socket"))?;
    // By the descriptor: sun_path holds 107 bytes, and an id may have more.
    let place = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    // Of a start that was killed.
    let _ = std::fs::remove_file(&place);
    let address = UnixAddr::new(place.as_str()).map_err(refused("bind"))?;
    bind(listening.as_raw_fd(), &address).map_err(refused("bind"))?;
    // The process may be of any user.
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o777))
        .map_err(|error| Error::io(Code::Io, "chmod", &error).path(path.join(SOCKET)))?;
    Ok(Some(listening))
}

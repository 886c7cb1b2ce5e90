//! What execve(2) is given, laid out before the clone so that the child only has to call.

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;

/// The longest HOME that is looked up, "HOME=" and the NUL included.
const HOME_BYTES: usize = 4096;

/// A program with its arguments and environment, as arrays of pointers.
pub struct Image {
    candidates: Vec<CString>,
    // What the pointers below point into; never changed after `new`.
    _strings: [Vec<CString>; 2],
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    home: Box<UnsafeCell<[u8; HOME_BYTES]>>,
}

impl Image {
    /// `home`: the environment ends with a place that [`Image::set_home`] fills.
    pub fn new(
        candidates: Vec<CString>,
        argv: Vec<CString>,
        envp: Vec<CString>,
        home: bool,
    ) -> Image {
        let slot = Box::new(UnsafeCell::new([0; HOME_BYTES]));
        let mut environment: Vec<_> = envp.iter().map(|s| s.as_ptr()).collect();
        if home {
            environment.push(slot.get().cast::<libc::c_char>().cast_const());
        }
        environment.push(ptr::null());
        let arguments = argv.iter().map(|s| s.as_ptr());
        let image = Image {
            candidates,
            argv: arguments.chain([ptr::null()]).collect(),
            envp: environment,
            _strings: [argv, envp],
            home: slot,
        };
        image.set_home(b"/");
        image
    }

    /// The paths to try, in order.
    pub fn candidates(&self) -> impl Iterator<Item = &CStr> {
        self.candidates.iter().map(CString::as_c_str)
    }

    /// Stores HOME; one that is too long is cut, which no path of the kernel's reaches.
    pub fn set_home(&self, home: &[u8]) {
        // SAFETY: the image is used by one process at a time: the parent while it builds it,
        // then the child, which has memory and a single thread of its own.
        let slot = unsafe { &mut *self.home.get() };
        let text = b"HOME=".iter().chain(home).take(HOME_BYTES - 1);
        slot.fill(0);
        slot.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    }

    /// execve(2) of one path; it only returns when it was refused.
    pub fn execute(&self, path: &CStr) -> Errno {
        // SAFETY: all three are NUL-terminated, and the arrays end with a null pointer.
        unsafe { libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        Errno::last()
    }
}

/// execveat(2) of an open file, with these arguments and this environment; it only returns
/// when it was refused. For a process that is not a child of a plan.
pub fn execute_file(file: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(argv), pointers(envp));
    // SAFETY: the strings are NUL-terminated and the arrays end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

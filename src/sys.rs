//! How the process begins: the executable is sealed before libc is even set up, and `main` does
//! only what a command needs of what std would do before it.
//!
//! Starting a static glibc program takes 0.18 ms (half of it CPUID instructions, which trap in a
//! virtual machine) and std another 0.05 ms. create, run and exec start twice, because they go on
//! in a copy of the executable that a container can't write; so the first time is cut short here.

use std::ffi::{c_char, c_int};

/// The C library's entry into the program.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _words: *const *const c_char) -> c_int {
    open_streams();
    // A closed pipe is an error to report, not the end of the process.
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // It also writes what is left in the buffer of standard output.
    std::process::exit(c_int::from(capsid_cli::main()))
}

/// Opens /dev/null as each standard stream that is closed, so that no file of ours gets its number.
fn open_streams() {
    let stream = |fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    let mut streams = [stream(0), stream(1), stream(2)];
    // SAFETY: the pointer and the count are those of the array.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    let closed = streams.iter().filter(|it| it.revents & libc::POLLNVAL != 0);
    for _ in closed {
        // SAFETY: the path ends with a NUL. The lowest free number is the stream's.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}

#[cfg(target_arch = "x86_64")]
mod first {
    //! Runs without libc: no thread-local storage, and no memcpy, memcmp or strlen, which are
    //! not linked to the processor's variant yet. Hence the volatile reads, which the compiler
    //! doesn't turn into one of those. Whatever is not plain here is left to `main`, which looks
    //! whether it is sealed, does it itself where it isn't, and has the words for a refusal.

    use std::arch::{asm, global_asm};
    use std::ffi::c_char;

    // The stack is as execve(2) left it: argc, argv, envp, auxv; %rdx is libc's business.
    global_asm!(
        ".globl capsid_start",
        ".type capsid_start, @function",
        "capsid_start:",
        "endbr64",
        "mov rbx, rdx",
        "mov rbp, rsp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {seal}",
        "mov rsp, rbp",
        "mov rdx, rbx",
        "xor ebp, ebp",
        "jmp _start",
        ".size capsid_start, . - capsid_start",
        seal = sym seal,
    );

    /// What open_tree(2) clones: this program's own file, whatever its name leads to by now.
    const SELF: &[u8] = b"/proc/self/exe\0";

    /// The first page of the process's stack: what execve(2) was given.
    struct Start {
        argv: *const *const c_char,
        envp: *const *const c_char,
        euid: usize,
        /// The name by which the kernel executed this file.
        name: *const c_char,
    }

    /// Executes a read-only clone of this program's file in its place, for root's create, run
    /// and exec; returns where that isn't called for or isn't possible.
    unsafe extern "C" fn seal(stack: *const usize) {
        // SAFETY: the pointer is the stack's as the kernel made it.
        let start = unsafe { Start::read(stack) };
        // SAFETY: the strings are the kernel's copies, which end with a NUL.
        if start.euid != 0 || unsafe { begins(start.name, b"/dev/fd/") } || !start.may_create() {
            return;
        }
        let clone_flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        // SAFETY: the path ends with a NUL.
        let fd = unsafe {
            call(
                libc::SYS_open_tree,
                [
                    libc::AT_FDCWD as usize,
                    SELF.as_ptr() as usize,
                    clone_flags as usize,
                    0,
                    0,
                ],
            )
        };
        if fd < 0 {
            return;
        }
        let empty = [0_u8; 1];
        let empty_path = libc::AT_EMPTY_PATH as usize;
        // struct mount_attr (mount_setattr(2)): set, clear, propagation, userns_fd.
        let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0_u64];
        // SAFETY: the attributes outlive the call and have the size that is said.
        let read_only = unsafe {
            call(
                libc::SYS_mount_setattr,
                [
                    fd as usize,
                    empty.as_ptr() as usize,
                    empty_path,
                    attributes.as_ptr() as usize,
                    size_of_val(&attributes),
                ],
            )
        };
        if read_only == 0 {
            // SAFETY: both arrays are as the kernel made them, and end with a null pointer.
            unsafe {
                call(
                    libc::SYS_execveat,
                    [
                        fd as usize,
                        empty.as_ptr() as usize,
                        start.argv as usize,
                        start.envp as usize,
                        empty_path,
                    ],
                )
            };
        }
        // SAFETY: nobody else knows of this descriptor.
        unsafe { call(libc::SYS_close, [fd as usize, 0, 0, 0, 0]) };
    }

    impl Start {
        /// # Safety
        /// `stack` points to argc, and the rest follows as execve(2) lays it out.
        unsafe fn read(stack: *const usize) -> Start {
            // SAFETY: argc words follow argc, then a null pointer, then the environment.
            let (argv, envp) = unsafe {
                let argv = stack.add(1);
                (argv, argv.add(stack.read_volatile()).add(1))
            };
            let mut word = envp;
            // SAFETY: the environment ends with a null pointer.
            unsafe {
                while word.read_volatile() != 0 {
                    word = word.add(1);
                }
                word = word.add(1);
            }
            let mut start = Start {
                argv: argv.cast(),
                envp: envp.cast(),
                euid: usize::MAX,
                name: std::ptr::null(),
            };
            loop {
                // SAFETY: pairs of a key and a value follow, of which AT_NULL is the last.
                let (key, value) = unsafe { (word.read_volatile(), word.add(1).read_volatile()) };
                match key as u64 {
                    libc::AT_NULL => return start,
                    libc::AT_EUID => start.euid = value,
                    libc::AT_EXECFN => start.name = value as *const c_char,
                    _ => {}
                }
                // SAFETY: this pair wasn't the last.
                word = unsafe { word.add(2) };
            }
        }

        /// Whether some word could be a verb that starts a process. Where it is another verb's
        /// argument, the seal is for nothing, and no harm.
        fn may_create(&self) -> bool {
            let mut at = self.argv;
            loop {
                // SAFETY: the array ends with a null pointer, and so does the loop.
                let word = unsafe { at.read_volatile() };
                if word.is_null() {
                    return false;
                }
                for verb in capsid_cli::SEALED {
                    // SAFETY: the strings are the kernel's copies, which end with a NUL.
                    if unsafe { begins(word, verb.to_bytes_with_nul()) } {
                        return true;
                    }
                }
                // SAFETY: a word that isn't the null pointer is followed by another.
                at = unsafe { at.add(1) };
            }
        }
    }

    /// # Safety
    /// `text` is null or ends with a NUL.
    unsafe fn begins(text: *const c_char, with: &[u8]) -> bool {
        let mut n = 0;
        while n < with.len() {
            // SAFETY: every byte before this one was equal to one of `with`, of which only the
            // last can be the NUL.
            if text.is_null() || unsafe { text.add(n).read_volatile() } as u8 != with[n] {
                return false;
            }
            n += 1;
        }
        true
    }

    /// A system call by its number, without errno, which is thread-local.
    ///
    /// # Safety
    /// As the call itself.
    unsafe fn call(number: libc::c_long, words: [usize; 5]) -> isize {
        let result: isize;
        // SAFETY: the registers are those of syscall(2); rcx and r11 are overwritten.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number as isize => result,
                in("rdi") words[0],
                in("rsi") words[1],
                in("rdx") words[2],
                in("r10") words[3],
                in("r8") words[4],
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result
    }
}

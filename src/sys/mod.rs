//! How the process begins: the executable is sealed before libc is even set up, and `main` does
//! only what a command needs of what std would do before it.
//!
//! The verbs of `SEALED` (capsid_cli) go on in a view of their executable that a container can't
//! write. That takes no second execve(2) (some 0.1 ms) where the program has only begun: its own
//! segments are mapped again, from the same file seen through a read-only mount.

mod arena;

use std::ffi::{c_char, c_int};
#[cfg(target_arch = "x86_64")]
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

pub use arena::Arena;

/// The C library's entry into the program.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _words: *const *const c_char) -> c_int {
    let has_output = open_streams();
    hold_signals();
    // Where the caller ignores it, so would this process, and learn of no child how it ended.
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let sealed = is_sealed();
    // Other verbs than those of `SEALED` need less.
    let has_stack = match sealed {
        true => populate_stack() || may_grow(),
        false => may_grow(),
    };
    if !has_stack {
        return refuse_stack();
    }
    if sealed {
        crate::ARENA.populate();
    }
    let code = capsid_cli::main(sealed, clone(), has_output);
    // Not exit(3): nothing is buffered, and what libc would take down goes with the process.
    // SAFETY: nothing of the process is used afterwards.
    unsafe { libc::_exit(c_int::from(code)) }
}

/// A closed pipe, and a file beyond the caller's limit (RLIMIT_FSIZE), are errors to report, and not
/// the end of the process. Held back, not ignored: one call does it for both, and the container's
/// process begins with an empty mask anyway.
fn hold_signals() {
    // SAFETY: sigset_t is plain data; an all-zero one is the empty set on Linux.
    let mut held: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: the set is this function's own.
        unsafe { libc::sigaddset(&raw mut held, signal) };
    }
    // SAFETY: `held` outlives the call and the old mask isn't asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const held, std::ptr::null_mut()) };
}

/// Asks for the pages of the stack that a command touches, with one call instead of a page fault
/// for each (20 faults of some 2 us). A kernel before 5.14 knows no such advice, and needs none.
/// Whether they are there.
fn populate_stack() -> bool {
    const PAGE: usize = 4096;
    const BELOW: usize = 20 * PAGE;
    let here = 0_u8;
    let end = (&raw const here as usize) & !(PAGE - 1);
    // SAFETY: the advice changes nothing that is there, and is refused where nothing is: the
    // kernel gives every program a stack that is larger (128 KiB), as far as its limit goes.
    let advised = unsafe {
        libc::madvise(
            (end - BELOW) as *mut libc::c_void,
            BELOW,
            libc::MADV_POPULATE_WRITE,
        )
    };
    advised == 0
}

/// Whether the stack may grow as far as any command needs it (and as one does that is not optimised).
fn may_grow() -> bool {
    const NEEDED: u64 = 256 * 1024;
    // SAFETY: rlimit is plain data for which all zeroes is valid.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` outlives the call.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) };
    asked != 0 || limit.rlim_cur >= NEEDED
}

/// Without a stack to read the command line on, and so whatever --log says.
fn refuse_stack() -> c_int {
    let line = b"level=error msg=\"the limit of the stack is too low: raise it to 256 KiB or more (ulimit -s)\"\n";
    // SAFETY: the pointer and the length are those of `line`.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
    1
}

/// Whether the program was mapped again from a file that nobody can write.
fn is_sealed() -> bool {
    #[cfg(target_arch = "x86_64")]
    return first::SEALED.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The descriptor of the file that the program was mapped again from.
fn clone() -> Option<OwnedFd> {
    #[cfg(target_arch = "x86_64")]
    {
        let number = first::CLONE.load(std::sync::atomic::Ordering::Relaxed);
        // SAFETY: the kernel gave this number to `first`, which has told nobody else.
        (number > 2).then(|| unsafe { OwnedFd::from_raw_fd(number) })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// Opens /dev/null as each standard stream that is closed, so that no file of ours gets its number.
/// Whether standard output was open.
fn open_streams() -> bool {
    let stream = |fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    let mut streams = [stream(0), stream(1), stream(2)];
    // SAFETY: the pointer and the count are those of the array.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    let closed = streams.map(|it| it.revents & libc::POLLNVAL != 0);
    for _ in closed.iter().filter(|closed| **closed) {
        // SAFETY: the path ends with a NUL. The lowest free number is the stream's.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
    !closed[1]
}

#[cfg(target_arch = "x86_64")]
mod first {
    //! Runs without libc: no thread-local storage, and no memcpy, memcmp or strlen, which are
    //! not linked to the processor's variant yet. Hence the volatile reads, which the compiler
    //! doesn't turn into one of those. Whatever is not plain here is left to `main`, which looks
    //! whether it is sealed, does it itself where it isn't, and has the words for a refusal.

    use std::arch::{asm, global_asm};
    use std::ffi::c_char;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    /// Said to `main`, which otherwise looks at /proc/self/exe.
    pub static SEALED: AtomicBool = AtomicBool::new(false);

    /// What `main` is to close when nobody waits for it; 0: closed.
    pub static CLONE: AtomicI32 = AtomicI32::new(0);

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

    /// open_tree_attr(2), since Linux 6.15.
    const OPEN_TREE_ATTR: libc::c_long = 467;

    /// What open_tree(2) clones: this program's own file, whatever its name leads to by now.
    const SELF: &[u8] = b"/proc/self/exe\0";

    /// The first page of the process's stack: what execve(2) was given.
    struct Start {
        argv: *const *const c_char,
        envp: *const *const c_char,
        euid: usize,
        /// The headers of the program's segments.
        segments: *const libc::Elf64_Phdr,
        segment_count: usize,
        /// Where the kernel let the stack begin.
        stack: *const usize,
        /// The name by which the kernel executed this file.
        name: *const c_char,
    }

    /// Puts a read-only clone of this program's file in its place, for root's verbs
    /// of `SEALED`; returns where that isn't called for or isn't possible.
    unsafe extern "C" fn seal(stack: *const usize) {
        // SAFETY: the pointer is the stack's as the kernel made it.
        let start = unsafe { Start::read(stack) };
        // SAFETY: the strings are the kernel's copies, which end with a NUL.
        if start.euid != 0 || unsafe { begins(start.name, b"/dev/fd/") } || !start.may_enter() {
            return;
        }
        let Some(clone) = Descriptor::clone_read_only() else {
            return;
        };
        if start.map_again(&clone).is_some() {
            // Only now: to map a segment again takes back what was written to it.
            SEALED.store(true, Ordering::Relaxed);
            // The numbers of the standard streams are theirs.
            if clone.0 > 2 {
                CLONE.store(clone.0 as i32, Ordering::Relaxed);
                std::mem::forget(clone);
            }
            return;
        }
        let empty = [0_u8; 1];
        // SAFETY: both arrays are as the kernel made them, and end with a null pointer.
        unsafe {
            call(
                libc::SYS_execveat,
                [
                    clone.0,
                    empty.as_ptr() as usize,
                    start.argv as usize,
                    start.envp as usize,
                    libc::AT_EMPTY_PATH as usize,
                    0,
                ],
            )
        };
    }

    /// A descriptor that nobody else knows of.
    struct Descriptor(usize);

    impl Descriptor {
        fn clone_read_only() -> Option<Descriptor> {
            let here = libc::AT_FDCWD as usize;
            let clone_flags = (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize;
            let path = SELF.as_ptr() as usize;
            // struct mount_attr (mount_setattr(2)): set, clear, propagation, userns_fd.
            let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0_u64];
            let (start, size) = (attributes.as_ptr() as usize, size_of_val(&attributes));
            let words = [here, path, clone_flags, start, size, 0];
            // SAFETY: the path ends with a NUL; the attributes outlive the call and have the size
            // that is said.
            let fd = unsafe { call(OPEN_TREE_ATTR, words) };
            if let Ok(fd) = usize::try_from(fd) {
                return Some(Descriptor(fd));
            }
            // SAFETY: the path ends with a NUL.
            let fd = unsafe { call(libc::SYS_open_tree, [here, path, clone_flags, 0, 0, 0]) };
            let clone = Descriptor(usize::try_from(fd).ok()?);
            let empty = [0_u8; 1];
            // SAFETY: the attributes outlive the call and have the size that is said.
            let read_only = unsafe {
                call(
                    libc::SYS_mount_setattr,
                    [
                        clone.0,
                        empty.as_ptr() as usize,
                        libc::AT_EMPTY_PATH as usize,
                        start,
                        size,
                        0,
                    ],
                )
            };
            (read_only == 0).then_some(clone)
        }

        /// Opens the file for reading, which open_tree(2) did not.
        fn open(&self) -> Option<Descriptor> {
            let mut path = *b"/proc/self/fd/0\0\0\0";
            let digits = path.len() - 1 - 14;
            let mut number = self.0;
            let mut at = 14 + [10, 100].iter().filter(|least| number >= **least).count();
            if number >= 10_usize.pow(digits as u32) {
                return None;
            }
            loop {
                path[at] = b'0' + (number % 10) as u8;
                number /= 10;
                if number == 0 {
                    break;
                }
                at -= 1;
            }
            let (here, flags) = (libc::AT_FDCWD as usize, libc::O_CLOEXEC as usize);
            let path = path.as_ptr() as usize;
            // SAFETY: the path ends with a NUL.
            let fd = unsafe { call(libc::SYS_openat, [here, path, flags, 0, 0, 0]) };
            usize::try_from(fd).ok().map(Descriptor)
        }
    }

    impl Drop for Descriptor {
        fn drop(&mut self) {
            // SAFETY: nobody else knows of this descriptor.
            unsafe { call(libc::SYS_close, [self.0, 0, 0, 0, 0, 0]) };
        }
    }

    const PAGE: usize = 4096;

    /// struct prctl_mm_map of linux/prctl.h.
    #[repr(C)]
    #[derive(Default)]
    struct Layout {
        start_code: u64,
        end_code: u64,
        start_data: u64,
        end_data: u64,
        start_brk: u64,
        brk: u64,
        start_stack: u64,
        arg_start: u64,
        arg_end: u64,
        env_start: u64,
        env_end: u64,
        auxv: u64,
        auxv_size: u32,
        exe_fd: u32,
    }

    impl Start {
        /// Maps every segment of the program from the clone, and makes that the process's
        /// executable: what execve(2) of it would come to, before anything was written to a
        /// segment. None: refused, and the process is as good as it was.
        fn map_again(&self, clone: &Descriptor) -> Option<()> {
            let file = clone.open()?;
            let mut layout = Layout::default();
            // Where a loader was at work first, segments lie elsewhere and have been written to.
            if self.headers().any(|it| it.p_type == libc::PT_DYNAMIC) {
                return None;
            }
            for header in self.headers() {
                if header.p_type == libc::PT_LOAD {
                    // SAFETY: nothing has been written to a segment yet.
                    unsafe { map_segment(&header, &file) }?;
                    let (from, to) = (header.p_vaddr, header.p_vaddr + header.p_filesz);
                    // As load_elf_binary() of the kernel has it.
                    if layout.start_code == 0 {
                        layout.start_code = from;
                    }
                    if header.p_flags & libc::PF_X != 0 {
                        layout.end_code = layout.end_code.max(to);
                    }
                    layout.start_data = layout.start_data.max(from);
                    layout.end_data = layout.end_data.max(to);
                }
            }
            // SAFETY: asks where the heap ends, which has not begun.
            layout.brk = unsafe { call(libc::SYS_brk, [0; 6]) } as u64;
            layout.start_brk = layout.brk;
            layout.start_stack = self.stack as u64;
            // SAFETY: the arrays are as the kernel made them.
            (layout.arg_start, layout.arg_end) = unsafe { strings(self.argv)? };
            // SAFETY: as above.
            let environment = unsafe { strings(self.envp) };
            let none = (layout.arg_end, layout.arg_end);
            (layout.env_start, layout.env_end) = environment.unwrap_or(none);
            layout.exe_fd = file.0 as u32;
            // SAFETY: the struct outlives the call and has the size that is said.
            let set = unsafe {
                call(
                    libc::SYS_prctl,
                    [
                        libc::PR_SET_MM as usize,
                        libc::PR_SET_MM_MAP as usize,
                        &raw const layout as usize,
                        size_of::<Layout>(),
                        0,
                        0,
                    ],
                )
            };
            (set == 0).then_some(())
        }
    }

    impl Start {
        fn headers(&self) -> impl Iterator<Item = libc::Elf64_Phdr> + '_ {
            // SAFETY: the kernel says how many headers there are, and where.
            (0..self.segment_count).map(|n| unsafe { self.segments.add(n).read_volatile() })
        }
    }

    /// Maps a segment anew, its file's part alone: what is only memory has none of the file.
    ///
    /// # Safety
    /// Nothing may have been written to it.
    unsafe fn map_segment(header: &libc::Elf64_Phdr, file: &Descriptor) -> Option<()> {
        let flag = |from: u32, to: i32| if header.p_flags & from != 0 { to } else { 0 };
        let protection = flag(libc::PF_R, libc::PROT_READ)
            | flag(libc::PF_W, libc::PROT_WRITE)
            | flag(libc::PF_X, libc::PROT_EXEC);
        let before = header.p_vaddr as usize % PAGE;
        let end = (header.p_vaddr + header.p_filesz) as usize;
        let to = [
            header.p_vaddr as usize - before,
            header.p_filesz as usize + before,
            protection as usize,
            (libc::MAP_PRIVATE | libc::MAP_FIXED) as usize,
            file.0,
            header.p_offset as usize - before,
        ];
        // SAFETY: the same bytes take the place of those that are there.
        let mapped = unsafe { call(libc::SYS_mmap, to) };
        if mapped != to[0] as isize {
            return None;
        }
        if header.p_memsz > header.p_filesz {
            // The rest of its last page is memory, of which the file has other bytes.
            let rest = end.next_multiple_of(PAGE) - end;
            // SAFETY: these bytes were just mapped, writable, and belong to nobody yet.
            unsafe {
                asm!(
                    "rep stosb",
                    inout("rcx") rest => _,
                    inout("rdi") end => _,
                    in("al") 0_u8,
                    options(nostack, preserves_flags),
                );
            }
        }
        Some(())
    }

    /// From the first byte of the first string to behind the last one's NUL; None where there
    /// are none.
    ///
    /// # Safety
    /// The array ends with a null pointer, and its strings with a NUL.
    unsafe fn strings(array: *const *const c_char) -> Option<(u64, u64)> {
        // SAFETY: the caller's promise.
        unsafe {
            let first = array.read_volatile();
            let mut last = first;
            let mut at = array;
            while !at.read_volatile().is_null() {
                last = at.read_volatile();
                at = at.add(1);
            }
            if last.is_null() {
                return None;
            }
            while last.read_volatile() != 0 {
                last = last.add(1);
            }
            Some((first as u64, last as u64 + 1))
        }
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
                segments: std::ptr::null(),
                segment_count: 0,
                stack,
                name: std::ptr::null(),
            };
            loop {
                // SAFETY: pairs of a key and a value follow, of which AT_NULL is the last.
                let (key, value) = unsafe { (word.read_volatile(), word.add(1).read_volatile()) };
                match key as u64 {
                    libc::AT_NULL => return start,
                    libc::AT_EUID => start.euid = value,
                    libc::AT_PHDR => start.segments = value as *const libc::Elf64_Phdr,
                    libc::AT_PHNUM => start.segment_count = value,
                    libc::AT_EXECFN => start.name = value as *const c_char,
                    _ => {}
                }
                // SAFETY: this pair wasn't the last.
                word = unsafe { word.add(2) };
            }
        }

        /// Whether some word could be a verb of `SEALED`. Where it is another verb's
        /// argument, the seal is for nothing, and no harm.
        fn may_enter(&self) -> bool {
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
    unsafe fn call(number: libc::c_long, words: [usize; 6]) -> isize {
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
                in("r9") words[5],
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result
    }
}

//! The programs that are compared, and their command lines. All but the floor
//! have runc's. It must not run them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::args::Args;
use crate::results::{REFERENCE, SUBJECT};
use crate::site::Site;

pub const FLOOR: &str = "floor";
pub const RUNC: &str = "runc";

#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub path: PathBuf,
}

impl Contender {
    /// Who takes part, capsid first. The second part names who should, but is not
    /// installed.
    pub fn all(args: &Args, floor: &Path) -> (Vec<Contender>, Vec<String>) {
        let beside = std::env::current_exe()
            .unwrap_or_default()
            .with_file_name(SUBJECT);
        let mut wanted = vec![(
            SUBJECT.to_owned(),
            Some(args.capsid.clone().unwrap_or(beside)),
        )];
        wanted.extend(
            args.vs
                .iter()
                .map(|(name, path)| (name.clone(), Some(path.clone()))),
        );
        wanted.extend([REFERENCE, RUNC].map(|name| (name.to_owned(), on_path(name))));
        wanted.push((FLOOR.to_owned(), Some(floor.to_owned())));
        wanted.retain(|(name, _)| args.wants_runtime(name));

        let (mut present, mut missing) = (Vec::new(), Vec::new());
        for (name, path) in wanted {
            match path.as_deref().map(fs::canonicalize) {
                Some(Ok(path)) => present.push(Contender { name, path }),
                _ => missing.push(match path {
                    Some(path) => format!("{name} ({} does not exist)", path.display()),
                    None => format!("{name} (not on PATH)"),
                }),
            }
        }
        (present, missing)
    }

    pub fn is_floor(&self) -> bool {
        self.name == FLOOR
    }

    /// `NAME --root ROOT VERB ARG…`
    pub fn verb(&self, site: &Site, words: &[&str]) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![
            self.path.clone().into(),
            "--root".into(),
            site.root(self).into(),
        ];
        command.extend(words.iter().map(OsString::from));
        command
    }

    /// Runs the bundle's program to its end, in the foreground.
    pub fn run(&self, site: &Site, kind: &str, memory_limit: Option<u64>) -> Vec<OsString> {
        if !self.is_floor() {
            let bundle = site.bundle(self, kind);
            return self.verb(site, &["run", "--bundle", &bundle.to_string_lossy(), kind]);
        }
        let mut command: Vec<OsString> = vec![self.path.clone().into()];
        if let Some(bytes) = memory_limit {
            command.extend(["-m".into(), bytes.to_string().into()]);
        }
        command.extend([
            site.view().name().into(),
            site.rootfs().into(),
            site.cgroups_path(self, kind).into(),
            site.hierarchies().into(),
            "/bin/true".into(),
        ]);
        command
    }
}

/// The first executable of that name in a directory of `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps runc in /usr/sbin, which an ordinary PATH leaves out.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

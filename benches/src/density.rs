//! Density: a crowd of containers at once under containerd, with each runtime in turn: how long a client waits for
//! one, from the first to the last, and what is left when all are gone. containerd is Debian's, on folders of the
//! benchmark's own. It must not outlive its containers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::contender::{Contender, on_path};
use crate::crowd::{self, Course, Traces};
use crate::site::Site;
use crate::table::number;

/// For the daemon to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Neither images nor pods: its shims, tasks and events.
const CONFIG: &str = r#"version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"#;

/// The steps that each of a crowd goes through.
const STEPS: [&str; 3] = ["start", "exec", "removal"];

/// What one runtime's crowd showed.
pub struct Density {
    pub contender: String,
    courses: Vec<Course>,
    /// What went wrong, or was left.
    pub failure: Option<String>,
}

/// A containerd of the benchmark's own, and how to reach it.
struct Engine<'a> {
    site: &'a Site,
    daemon: Child,
    address: PathBuf,
    temporary: PathBuf,
}

/// Each contender's crowd.
pub fn measure(site: &Site, contenders: &[Contender], size: usize) -> Result<Vec<Density>> {
    let daemon =
        on_path("containerd").context("containerd is not on PATH (apt-get install containerd)")?;
    // Shims have their sockets there, whatever the daemon is told; it is this view's alone.
    mount(
        Some("run"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .context("mount a tmpfs on /run")?;
    // containerd mounts one over it in every container.
    fs::create_dir_all(site.rootfs().join("run"))?;
    let mut found = Vec::new();
    for contender in contenders.iter().filter(|contender| !contender.is_floor()) {
        eprintln!("{size} containers at once with {}", contender.name);
        let mut density = Density {
            contender: contender.name.clone(),
            courses: Vec::new(),
            failure: None,
        };
        let engine = Engine::start(site, &daemon, &contender.name)?;
        if let Err(error) = engine.crowds(contender, size, &mut density.courses) {
            eprintln!("  FAILED: {}: {error:#}", contender.name);
            density.failure = Some(format!("{error:#}"));
        }
        found.push(density);
    }
    Ok(found)
}

impl Engine<'_> {
    fn start<'a>(site: &'a Site, program: &Path, name: &str) -> Result<Engine<'a>> {
        let folder = site.file("containerd").join(name);
        let temporary = folder.join("tmp");
        fs::create_dir_all(&temporary).with_context(|| format!("mkdir {}", temporary.display()))?;
        let config = folder.join("config.toml");
        fs::write(&config, CONFIG).context("write config.toml")?;
        let address = folder.join("containerd.sock");
        let log = File::create(folder.join("log")).context("create containerd's log")?;
        let daemon = Command::new(program)
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(folder.join("root"))
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--address")
            .arg(&address)
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start containerd")?;
        let engine = Engine {
            site,
            daemon,
            address,
            temporary,
        };
        let begun = Instant::now();
        while let Err(error) = engine.ctr(&["version"]) {
            if begun.elapsed() > PATIENCE {
                return Err(error.context("containerd does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(engine)
    }

    fn ctr(&self, words: &[&str]) -> Result<String> {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(&self.address)
            .args(words)
            .env("TMPDIR", &self.temporary)
            .stdin(Stdio::null())
            .output()
            .context("start ctr")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            let errors = text(&output.stderr);
            bail!("ctr {}: {}", words.join(" "), errors.trim());
        }
        Ok(text(&output.stdout))
    }

    fn starts(&self, contender: &Contender, id: &str) -> Result<()> {
        let words = [
            "run",
            "--detach",
            "--null-io",
            "--read-only",
            "--rootfs",
            "--cgroup",
        ];
        let cgroup = self.site.cgroups_path(contender, id);
        let (program, rootfs) = (contender.path.to_string_lossy(), self.site.rootfs());
        let rest = [
            &*cgroup,
            "--runc-binary",
            &program,
            &rootfs.to_string_lossy(),
            id,
            "/bin/pause",
        ];
        self.ctr(&[&words[..], &rest].concat()).map(drop)
    }

    fn enters(&self, id: &str) -> Result<()> {
        self.ctr(&["task", "exec", "--exec-id", "e", id, "/bin/true"])
            .map(drop)
    }

    fn removes(&self, id: &str) -> Result<()> {
        self.ctr(&["task", "delete", "--force", id])?;
        self.ctr(&["container", "delete", id]).map(drop)
    }

    fn crowds(&self, contender: &Contender, size: usize, courses: &mut Vec<Course>) -> Result<()> {
        // What an engine makes once is there already.
        self.starts(contender, "first")?;
        self.enters("first")?;
        self.removes("first")?;
        let (cgroups, folders) = (self.site.cgroups(), ["/run".into(), self.temporary.clone()]);
        let before = Traces::now(self.daemon.id(), &cgroups, &folders);
        let ids: Vec<String> = (0..size).map(|number| format!("crowd{number}")).collect();
        let step = |run: &(dyn Fn(&str) -> Result<()> + Sync)| {
            crowd::all(size, |number| {
                run(&ids[number]).map_err(|error| format!("{error:#}"))
            })
            .map_err(anyhow::Error::msg)
        };
        let outcome = (|| {
            courses.push(step(&|id| self.starts(contender, id))?);
            let list = self.ctr(&["task", "ls"])?;
            let running = list.lines().filter(|line| line.contains("RUNNING")).count();
            anyhow::ensure!(running == size, "{running} of {size} run");
            courses.push(step(&|id| self.enters(id))?);
            courses.push(step(&|id| self.removes(id))?);
            Ok(())
        })();
        if outcome.is_err() {
            // They would be in the next one's way.
            let _ = step(&|id| self.removes(id));
            return outcome;
        }
        let left = before.left(size / 4);
        anyhow::ensure!(
            left.is_empty(),
            "{} left: {:?}",
            left.len(),
            &left[..left.len().min(9)]
        );
        Ok(())
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // Its shims have gone with their containers; the supervisor ends whatever is left.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

pub fn json(found: &[Density], size: usize) -> Value {
    let of = |density: &Density| {
        let steps = STEPS.iter().zip(&density.courses);
        let samples = steps.map(|(step, course)| ((*step).to_owned(), json!(course.milliseconds)));
        let samples: serde_json::Map<_, _> = samples.collect();
        json!({ "contender": density.contender, "milliseconds": samples, "failure": density.failure })
    };
    json!({ "containers": size, "clients": crowd::CLIENTS, "contenders": found.iter().map(of).collect::<Vec<_>>() })
}

/// One line for each runtime and step.
pub fn render(found: &[Density], size: usize) -> String {
    let mut text = format!(
        "{size} containers at once under containerd, {} clients side by side; ms for one: median of the first quarter → of the last\n",
        crowd::CLIENTS
    );
    for density in found {
        text.push_str(&format!("\n{:8}", density.contender));
        for (step, course) in STEPS.iter().zip(&density.courses) {
            let (first, last) = course.quarters();
            text.push_str(&format!(
                " {step} {} → {} (all: {:.1} s);",
                number(first),
                number(last),
                course.whole.as_secs_f64()
            ));
        }
        text.push_str(match &density.failure {
            None => " nothing left",
            Some(_) => "",
        });
        if let Some(failure) = &density.failure {
            text.push_str(&format!(" FAILED: {failure}"));
        }
    }
    text + "\n"
}

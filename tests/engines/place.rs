//! Where a session runs: network, mount, pid, ipc, uts and cgroup namespaces of its own. Whatever an engine puts
//! at its usual places (/run, /var/lib, /etc, the root of the cgroups, iptables) is the session's alone and ends
//! with it. All runtimes get the same view of cgroup v1, as Debian's crun refuses a hybrid one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::crowd;
use crate::goods::Goods;
use crate::harness::{machine, until};
use crate::session::{self, Engine, Report};

/// The peers, and then the one that is judged.
pub const RUNTIMES: [&str; 3] = ["runc", "crun", "capsid"];

/// Who runs this time. runc runs with all of `make test` only what fails with capsid, as in a guest: time is dear
/// there, and a failure of the machine's shows all the same. crun decides nothing: it is seen for the page, in a
/// soak, and whenever somebody chooses.
pub fn runtimes(words: &[String]) -> Vec<&'static str> {
    // A guest has empty what is not set outside.
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let all = is_set("CAPSID_BLESS") || is_set("CAPSID_SOAK");
    let chosen = !words.is_empty() && !is_systemds();
    let runs = |name: &&str| match *name {
        _ if all => true,
        "crun" => chosen,
        "runc" => chosen || is_set("CAPSID_BESIDE_RUNC"),
        _ => true,
    };
    RUNTIMES.into_iter().filter(runs).collect()
}

/// How many sessions run side by side. A guest has one processor, which is slow.
pub fn width() -> usize {
    if is_systemds() { 1 } else { 4 }
}

/// No session takes half of this, on a loaded machine either.
const LIMIT: Duration = Duration::from_secs(400);

/// Enters the cgroups that are named before `--`, and goes on in new namespaces.
const OUTSIDE: &str = r#"set -e
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done
shift
exec unshare --cgroup --net --mount --pid --fork --kill-child --ipc --uts --mount-proc --propagation private -- /bin/sh -c "$INSIDE" "$@""#;

/// $1: what becomes /usr/local.
const INSIDE: &str = r#"set -e
mount --rbind "$1" /usr/local; shift
for folder in /run /tmp /var/lib /var/log /var/tmp /opt /dev/shm; do mount -t tmpfs -o mode=1777 session "$folder"; done
chmod 755 /run
# Nodes of its own: a runtime may give those of a container's standard streams to the container's user.
mkdir /run/dev
mount -t tmpfs -o mode=755 dev /run/dev
cp -ax /dev/. /run/dev/
for folder in pts shm; do mkdir -p "/run/dev/$folder"; mount --rbind "/dev/$folder" "/run/dev/$folder"; done
mount --move /run/dev /dev
rmdir /run/dev
# As udev has it: what makes an ordinary user's network goes through it.
[ ! -e /dev/net/tun ] || chmod 666 /dev/net/tun
held=/run/view; mkdir $held
mount -t tmpfs -o mode=755 cgroups "$held"
for h in /sys/fs/cgroup/*; do
  [ -e "$h/cgroup.clone_children" ] && [ ! -L "$h" ] || continue
  name=${h##*/} option=${h##*/}
  [ "$name" != systemd ] || option=none,name=systemd
  mkdir "$held/$name"
  mount -t cgroup -o "$option" cgroup "$held/$name"
done
umount -l -R /sys/fs/cgroup
mount --move "$held" /sys/fs/cgroup
rmdir "$held"
# Not below /run, which Podman covers where it makes a network for an ordinary user.
mkdir -p /opt/home /run/etc
cp -a /etc/. /run/etc
mount --bind /run/etc /etc
# As systemd has it: what is mounted on the machine shows up in who was given it so.
mount --make-rshared /
cd /run
ip link set lo up
exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/opt/home "$@""#;

/// Where systemd numbers the processes and makes the cgroups, only mounts are the session's own, and who begins
/// a program is in the cgroup of a login. $1: what becomes /usr/local.
const MANAGED: &str = r#"set -e
mount --rbind "$1" /usr/local; shift
for folder in /var/lib /var/log /var/tmp /opt; do mount -t tmpfs -o mode=1777 session "$folder"; done
mkdir -p /opt/home /opt/etc
cp -a /etc/. /opt/etc
mount --bind /opt/etc /etc
user=/run/user/54321
for folder in /run/containers /run/libpod $user/containers $user/libpod; do
  mkdir -p "$folder"
  mount -t tmpfs -o mode=755 session "$folder"
done
chown 54321:54321 $user/containers $user/libpod
mount --make-rshared /
cd /run
exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/opt/home "$@""#;

/// systemd is process 1, in a guest that has it so (tests/vm/systemd.sh).
pub fn is_systemds() -> bool {
    std::env::var_os("CAPSID_SYSTEMD").is_some()
}

/// The cgroups of one session; they go with it.
pub struct Place {
    cgroups: Vec<PathBuf>,
}

impl Place {
    pub fn new(name: &str) -> Place {
        let own = machine::enclosure().unwrap_or_default();
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups");
        let mut cgroups = Vec::new();
        for hierarchy in hierarchies.flatten().filter(|h| !h.path().is_symlink()) {
            let parent = PathBuf::from(format!("{}{own}", hierarchy.path().display()));
            if !parent.join("cgroup.clone_children").exists() {
                continue;
            }
            let cgroup = parent.join(name);
            std::fs::create_dir(&cgroup).expect("a cgroup");
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = std::fs::read(parent.join(file)) {
                    std::fs::write(cgroup.join(file), value).expect(file);
                }
            }
            cgroups.push(cgroup);
        }
        Place { cgroups }
    }

    /// Runs all of an engine's behaviours on one runtime.
    pub fn session(
        &self,
        engine: &Engine,
        runtime: &str,
        goods: &Goods,
        words: &[String],
    ) -> Report {
        let log = machine::shared().join(format!("{}-{runtime}.log", engine.name));
        let errors = std::fs::File::create(&log).expect("a log");
        let mut command = if engine.in_systemd {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "--"]);
            command.args(["/bin/sh", "-c", MANAGED]);
            command
        } else {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", OUTSIDE, "place"]).args(&self.cgroups);
            command.arg("--");
            command
        };
        command
            .arg("place")
            .arg(&goods.local)
            .arg(format!("{}={} {runtime}", session::VARIABLE, engine.name))
            .arg(format!(
                "{}={}",
                crowd::VARIABLE,
                machine::count(crowd::VARIABLE, crowd::USUAL, crowd::SOAK)
            ))
            .arg("/usr/local/bin/engines")
            .args(words)
            .env("INSIDE", INSIDE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        let begun = Instant::now();
        let mut child = command.spawn().expect("sh");
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut output = child.stdout.take().expect("stdout");
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut output, &mut text);
            let _ = sender.send(text);
        });
        // The verdicts end when the session has, with everything in its pid namespace; --kill-child sees to that.
        let mut text = receiver.recv_timeout(LIMIT).ok();
        let in_time = text.is_some();
        if !in_time {
            let _ = child.kill();
            text = receiver.recv_timeout(LIMIT).ok();
        }
        let status = child.wait().expect("wait");
        let mut said = std::fs::read_to_string(&log).unwrap_or_default();
        if !in_time {
            said.push_str(&format!("\nnot finished after {LIMIT:?}"));
        }
        let _ = std::fs::remove_file(&log);
        Report::read(
            engine.name,
            runtime,
            &text.unwrap_or_default(),
            status.success(),
            &said,
            begun.elapsed(),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for cgroup in &self.cgroups {
            until("a session's cgroups are empty", || remove(cgroup));
        }
    }
}

/// Removes a cgroup with what is below it; false while somebody is still on the way out of it.
pub fn remove(cgroup: &std::path::Path) -> bool {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !remove(&entry.path()) {
            return false;
        }
    }
    std::fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}

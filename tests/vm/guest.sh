#!/bin/bash
# Runs a command in a guest of its own kernel: user-mode-linux, without KVM or an image.
#
#   guest.sh FOLDER COMMAND [ARG...]
#
# The guest's root is this machine's, read-only below an overlay; /tmp, /run and /dev are its own. FOLDER is
# where the command runs; it is seen read-only too, wherever it lies. What the command writes to
# /guest lands in $GUEST_OUT on this side (default: thrown away). Its output comes on stdout, its exit
# status is this script's. 77: no guest can be had here; 124: the time limit; 125: the guest gave no status.
# $GUEST_LSM is the security module that is on: apparmor (the default) or selinux, without a policy.
# $GUEST_INIT=systemd: systemd is process 1, with its system bus, and the command is guest.service; else the
# command is process 1. $GUEST_CGROUPS=v1: systemd mounts cgroup v1; else there is nothing but cgroup v2.
# It must not write anywhere but to its control folder, and kills only the guest that it started.
set -u
folder=$(readlink -f "$1") && shift || exit 2
limit=${GUEST_LIMIT:-900} memory=${GUEST_MEMORY:-1G} lsm=${GUEST_LSM:-apparmor} init=${GUEST_INIT:-command} cgroups=${GUEST_CGROUPS:-v2}
say() { echo "guest: $*" >&2; }

for program in linux.uml busybox cpio; do
  command -v $program >/dev/null || { say "no $program here"; exit 77; }
done
if [ "$init" = systemd ]; then
  for file in /lib/systemd/systemd /lib/systemd/system/dbus.service /usr/lib/systemd/user/dbus.socket; do
    [ -e $file ] || { say "no $file here"; exit 77; }
  done
fi
[ "$(id -u)" = 0 ] || { say "not root: the guest could not read the machine's files"; exit 77; }
release=$(ls /usr/lib/uml/modules 2>/dev/null | tail -n 1)
[ -n "$release" ] || { say "no modules for user-mode-linux"; exit 77; }
modules=/usr/lib/uml/modules/$release

control=$(mktemp -d "${TMPDIR:-/tmp}/capsid-guest.XXXXXX") || exit 125
guest=
cleanup() {
  # user-mode-linux leaves the session of what waits for it: it leads one of its own, which it names in this file.
  [ -z "$guest" ] || kill -KILL -- "-$guest" 2>/dev/null
  kernel=$(cat "$control/capsid$$/pid" 2>/dev/null)
  [ -z "$kernel" ] || kill -KILL -- "-$kernel" 2>/dev/null
  rm -rf "$control"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
out=${GUEST_OUT:-$control/out}
mkdir -p "$out" "$control/initrd/bin" "$control/initrd/modules"

# --- the initramfs: busybox, the modules of overlays and of a disk to limit with what they need, and an init ----------------------------
cp "$(command -v busybox)" "$control/initrd/bin/busybox"
number=10
for module in $(for wanted in overlay brd; do
    line=$(grep -E "(^|/)$wanted\.ko[^:]*:" "$modules/modules.dep")
    echo "${line#*:}" | tr ' ' '\n' | tac; echo "${line%%:*}"
  done); do
  name=$(basename "${module%.xz}")
  case $module in *.xz) xz -dc "$modules/$module" ;; *) cat "$modules/$module" ;; esac > "$control/initrd/modules/$number-$name"
  number=$((number + 1))
done
cat > "$control/initrd/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin; export PATH=/bin
mkdir -p /proc /sys /dev /control /lower /upper /new
mount -t proc proc /proc; mount -t devtmpfs dev /dev
for argument in $(cat /proc/cmdline); do case $argument in guest.*=*) eval "${argument#guest.}";; esac; done
die() { echo "guest: $*"; poweroff -f; }
for module in /modules/*; do insmod "$module" || die "insmod $module"; done
# Read-only, or the guest would change the machine.
mount -t hostfs -o "ro,/" none /lower || die "the machine's root"
mount -t hostfs -o "rw,$control" none /control || die "the control folder"
mount -t tmpfs -o size=75% upper /upper; mkdir /upper/upper /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work root /new || die "the overlay"
mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp
mount -t tmpfs -o mode=755 run /new/run; mount -t tmpfs -o mode=1777 tmp /new/tmp
mkdir -p "/new$folder" /new/guest
mount -t hostfs -o "ro,$folder" none "/new$folder" || die "$folder"
mount -t hostfs -o "rw,$out" none /new/guest || die "$out"
mount -t proc -o nosuid,nodev,noexec proc /new/proc
mount -t sysfs -o nosuid,nodev,noexec sys /new/sys
mount -t securityfs -o nosuid,nodev,noexec securityfs /new/sys/kernel/security
[ ! -d /new/sys/fs/selinux ] || mount -t selinuxfs selinuxfs /new/sys/fs/selinux
mount -t devtmpfs dev /new/dev
ln -s /proc/self/fd /new/dev/fd; ln -s fd/0 /new/dev/stdin; ln -s fd/1 /new/dev/stdout; ln -s fd/2 /new/dev/stderr
cp /control/command /new/run/command; mkdir /new/run/control; mount --bind /control /new/run/control
if [ "$init" = systemd ]; then
  # Only what the tests need of it; whatever the machine has enabled besides stays out.
  units=/new/run/systemd/system; mkdir -p $units
  cp /control/guest.service /control/guest.target $units
  for unit in systemd-udevd.service systemd-udev-trigger.service systemd-journal-flush.service systemd-update-utmp.service \
      systemd-random-seed.service systemd-timesyncd.service systemd-logind.service systemd-binfmt.service \
      systemd-modules-load.service systemd-sysusers.service systemd-sysctl.service kmod-static-nodes.service; do
    ln -s /dev/null $units/$unit
  done
  rm -f /new/.dockerenv # or it takes the guest for a container
  echo 0123456789abcdef0123456789abcdef > /new/etc/machine-id; : > /new/etc/fstab
  exec switch_root /new /lib/systemd/systemd --unit=guest.target --show-status=no --log-target=kmsg --log-level=warning
fi
mkdir -p /new/dev/pts /new/dev/shm /new/dev/mqueue
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t mqueue mqueue /new/dev/mqueue
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup /new/sys/fs/cgroup
ifconfig lo 127.0.0.1 up
exec switch_root /new /bin/bash /run/command
INIT
chmod +x "$control/initrd/init"
(cd "$control/initrd" && find . | cpio -o -H newc --quiet | gzip -1) > "$control/initrd.gz" || exit 125

# --- what runs in the guest ----------------------------------------------------------------------------------
{
  echo "exec </dev/null >/dev/ttyS0 2>&1; stty -F /dev/ttyS0 raw -echo"
  printf 'export PATH=%q HOME=/root LANG=C.UTF-8 RUST_BACKTRACE=0\n' "$PATH"
  for name in ${GUEST_ENV-}; do printf 'export %s=%q\n' "$name" "${!name-}"; done
  printf 'cd %q &&' "$folder"
  printf ' %q' "$@"
  printf '\necho $? > /run/control/status\nsync\nexec busybox poweroff -f\n'
} > "$control/command"
printf '%s\n' '[Unit]' 'DefaultDependencies=no' 'Requires=dbus.service' 'After=dbus.service systemd-journald.service' \
  '[Service]' 'Type=oneshot' 'ExecStart=/bin/bash /run/command' 'TimeoutStartSec=infinity' > "$control/guest.service"
printf '%s\n' '[Unit]' 'DefaultDependencies=no' 'Requires=guest.service' > "$control/guest.target"
arguments=
if [ "$cgroups" = v1 ]; then arguments="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"; fi

# --- boot ----------------------------------------------------------------------------------------------------
room() { df --output=avail -k "$1" 2>/dev/null | tail -n 1; }
ram=/dev/shm; [ "$(room $ram)" -gt 1200000 ] 2>/dev/null || ram=$control
TMPDIR=$ram setsid timeout -k 5 "$limit" linux.uml "mem=$memory" "initrd=$control/initrd.gz" con=null con0=null,fd:3 ssl0=null,fd:4 \
  console=tty0 loglevel=4 audit=0 selinux=0 "security=$lsm" apparmor=1 rdinit=/init "umid=capsid$$" "uml_dir=$control/" \
  "guest.control=$control" "guest.folder=$folder" "guest.out=$out" "guest.init=$init" $arguments 3>"$control/console" 4>&1 </dev/null >"$control/kernel" 2>&1 &
guest=$!
wait "$guest"
ended=$?
if [ -s "$control/status" ]; then exit "$(cat "$control/status")"; fi
if [ $ended = 124 ] || [ $ended = 137 ]; then say "not finished after $limit s"; exit 124; fi
say "no status from the guest (user-mode-linux ended with $ended)"
tail -n 5 "$control/console" "$control/kernel" >&2
exit 125

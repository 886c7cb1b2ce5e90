#!/bin/sh
# Builds a busybox bundle, runs it, and shows that it is a container. `make demo` calls it, as
# root and as an ordinary user. It leaves nothing behind.
#
# Wants CAPSID_BINARIES: the folder with capsid and rootfs-builder.
set -eu

capsid=${CAPSID_BINARIES:?run it by: make demo}/capsid
builder=$CAPSID_BINARIES/rootfs-builder
work=$(mktemp -d "${TMPDIR:-/tmp}/capsid-demo.XXXXXX")
run="$capsid --root $work/state"
trap '$run delete --force demo 2>/dev/null || :; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Shell that runs inside. $(…) is for the container's shell, not for this one.
# shellcheck disable=SC2016
inside='
echo "  hostname   $(hostname)"
echo "  pid        $$ of $(ls -d /proc/[0-9]* | wc -l) processes that it can see"
echo "  user       $(id)"
echo "  root       $(awk "\$5 == \"/\" { print \$6; exit }" /proc/self/mountinfo), with $(wc -l < /proc/self/mountinfo) mounts of its own"
echo "  network    $(ls /sys/class/net | tr "\n" " ")"
for f in memory/memory.limit_in_bytes memory.max; do
  # cgroup v1 says "no limit" by the largest number that it knows.
  [ -r "/sys/fs/cgroup/$f" ] && m=$(cat "/sys/fs/cgroup/$f") && [ "${#m}" -lt 19 ] && echo "  memory     $m bytes at most"
done
for f in pids/pids.max pids.max; do
  [ -r "/sys/fs/cgroup/$f" ] && echo "  processes  $(cat "/sys/fs/cgroup/$f") at most"
done
echo "  open files $(ulimit -n) at most, no_new_privs $(awk "/^NoNewPrivs/ { print \$2 }" /proc/self/status)"
'

if [ "$(id -u)" = 0 ]; then
  "$builder" bundle "$work/bundle" --busybox --args sh -c "$inside"
  # Limits, and a cgroup of the demo's own: without a path it would lie below the caller's.
  sed -i 's|"resources": {|"cgroupsPath": "/capsid-demo-'$$'", "resources": { "memory": { "limit": 67108864 }, "pids": { "limit": 32 },|' \
    "$work/bundle/config.json"
else
  "$builder" bundle "$work/bundle" --busybox --rootless --args sh -c "$inside"
fi

echo "A container, run by $($capsid --version | head -n 1), as $(id -un):"
$run run --bundle "$work/bundle" demo

# What it costs: the same bundle with a program that does nothing.
"$builder" bundle "$work/quick" --busybox $([ "$(id -u)" = 0 ] || echo --rootless) --args true
[ "$(id -u)" != 0 ] || sed -i 's|"resources": {|"cgroupsPath": "/capsid-demo-'$$'", "resources": {|' "$work/quick/config.json"
now() { date +%s%N; }
count=20 best=999999999
for _ in $(seq $count); do
  began=$(now)
  $run --log-level error run --bundle "$work/quick" demo
  spent=$(($(now) - began))
  [ "$spent" -ge "$best" ] || best=$spent
done
empty=999999999
for _ in $(seq $count); do
  began=$(now)
  "$work/quick/rootfs/bin/busybox" true
  spent=$(($(now) - began))
  [ "$spent" -ge "$empty" ] || empty=$spent
done
ms() { echo "$1" | awk '{ printf "%.1f ms", $1 / 1e6 }'; }
echo
echo "It cost $(ms "$best") from start to end, of which $(ms "$empty") is what starting any program takes here (best of $count)."
echo
echo "Next, with PATH=$CAPSID_BINARIES:\$PATH"
echo "  rootfs-builder bundle /tmp/web --busybox --terminal    makes a bundle to play with"
echo "  capsid run --bundle /tmp/web --overlay web             enters it; its files never change"
echo "  capsid explain /tmp/web                                says what that does, step by step"
echo "  make test; make bench                                  checks it; measures it against its peers"

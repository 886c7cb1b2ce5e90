#!/bin/bash
# The driver of `make test` and `make soak`: installs what the tests need, builds, runs every test of the
# workspace inside the enclosure, the promises once more in a guest, and the engines' tests, and ends with one
# line of counts. `run.sh STAGE...` runs these stages alone.
# The log of it all stays in target/test; only what failed or was skipped is printed.
set -u
stages=${*:-host guest systemd engines}
cd "$(dirname "$0")/.." || exit 1
cargo=${CARGO:-cargo} triple=${CAPSID_TRIPLE:-$(rustc -vV | sed -n 's/^host: //p')}
logs=$PWD/target/test
rm -rf "$logs" && mkdir -p "$logs" || exit 1
export RUST_BACKTRACE=0 CAPSID_SKIPS=$logs/skips
# Test binaries with whole debug information take longer to link than to run.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
: > "$CAPSID_SKIPS"
# An ordinary user's has none of these, where some of what is asked for lies.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
say() { echo "test: $*"; }

# --- packages: a program that shows that it is there, and Debian's name for it ---------------------------
missing=
for pair in cc:gcc runc:runc crun:crun busybox:busybox-static newuidmap:uidmap ps:procps \
    systemd-run:systemd dbus-daemon:dbus setpriv:util-linux unshare:util-linux nsenter:util-linux tmux:tmux cpio:cpio linux.uml:user-mode-linux apparmor_parser:apparmor secilc:secilc lxcfs:lxcfs java:openjdk-17-jre-headless \
    containerd:containerd dockerd:docker.io /usr/bin/docker:docker.io podman:podman conmon:conmon buildah:buildah umoci:umoci slirp4netns:slirp4netns \
    /usr/lib/cni/bridge:containernetworking-plugins ip:iproute2 iptables:iptables curl:curl; do
  command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ -e /usr/lib/systemd/user/dbus.socket ] || missing="$missing dbus-user-session"
[ -e /usr/include/seccomp.h ] || missing="$missing libseccomp-dev" # what our filters are compared with
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install -y --no-install-recommends $missing; } </dev/null >"$logs/apt" 2>&1 ||
    { say "apt-get could not install all of$missing:"; tail -n 5 "$logs/apt"; }
elif [ -n "$missing" ]; then
  say "not installed, and tests that need them are skipped:$missing"
fi

# --- build -------------------------------------------------------------------------------------------------
built=$SECONDS
say "building the static release binary and the tests"
RUSTFLAGS="${CAPSID_STATIC?is what the Makefile says: make test}" "$cargo" build --locked --release --target "$triple" -p capsid -p capsid-rootfs-builder --bins </dev/null >"$logs/build" 2>&1 &&
  "$cargo" test --locked --workspace --no-run </dev/null >>"$logs/build" 2>&1 &&
  "$cargo" test --locked --test engines --no-run </dev/null >>"$logs/build" 2>&1 &&
  "target/$triple/release/rootfs-builder" probe "$logs/probe" >>"$logs/build" 2>&1 ||
  { grep -E -A 20 '^(error|warning: unused)' "$logs/build" | head -n 100; say "the build failed: $logs/build"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
export CAPSID=$PWD/target/$triple/release/capsid CAPSID_BINARIES=$PWD/target/$triple/release CAPSID_PROBE=$logs/probe
say "built in $((SECONDS - built)) s"

# --- run ---------------------------------------------------------------------------------------------------
passed=0 failed=0 limit=900 # seconds for each part
[ -z "${CAPSID_SOAK-}" ] || limit=10800
export GUEST_LIMIT=$((limit - 60))
count() { # adds up the result lines of a log
  local p f
  read -r p f < <(awk '/^test result:/ { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } } END { print p + 0, f + 0 }' "$1")
  passed=$((passed + p)) failed=$((failed + f))
}
declare -A parts begun
trap 'exit 130' INT TERM HUP
trap 'kill ${parts[@]+"${parts[@]}"} 2>/dev/null' EXIT
begin() { # begin NAME COMMAND...: runs one part in the background
  local name=$1; shift
  case " $stages " in *" $name "*) ;; *) return ;; esac
  # A test that hangs must not hang whoever waits for the verdict.
  timeout -k 60 "$limit" "$@" </dev/null >"$logs/$name" 2>&1 &
  parts[$name]=$! begun[$name]=$SECONDS
}
finish() { # finish NAME: waits for the part, prints what failed in it
  local name=$1 status
  [ -n "${parts[$name]-}" ] || return
  wait "${parts[$name]}"
  status=$?
  unset "parts[$name]"
  local before=$failed
  count "$logs/$name"
  if [ $status != 0 ]; then
    [ $failed = "$before" ] && failed=$((failed + 1))
    sed -n '/^failures:$/,/^test result:/p; /^error/p; /^enclosure: /,/^[^ ]/p; /^guest: /p' "$logs/$name" | grep -v '^$' | cut -c1-400 | head -n 250
    [ $status != 124 ] || { say "$name was not finished after $limit s; it ended with:"; tail -n 3 "$logs/$name" | cut -c1-400; }
    say "$name failed (status $status): $logs/$name"
  fi
  say "$name: $((SECONDS - begun[$name])) s"
}
begin host tests/enclosure.sh "$cargo" test --locked --quiet --workspace --no-fail-fast
finish host
# A guest has one processor, so that two can run at once, or one beside the engines, which wait most of the time.
begin guest tests/vm/promises.sh
begin systemd tests/vm/promises.sh --systemd
finish systemd
# Alone, every behaviour is seen with runc too; else only what fails without.
[ "$stages" != engines ] || export CAPSID_BESIDE_RUNC=1
begin engines tests/enclosure.sh "$cargo" test --locked --quiet --test engines
finish guest
finish engines

# --- summary -----------------------------------------------------------------------------------------------
skipped=$(sort -u "$CAPSID_SKIPS" | wc -l)
if [ "$skipped" -gt 0 ]; then
  say "skipped, by reason:"
  sort -u "$CAPSID_SKIPS" | cut -f2 | sort | uniq -c | sort -rn | cut -c1-200
fi
if [ "${CI-}" = true ]; then # every skip must be a known limit
  unknown=0
  while IFS=$'\t' read -r name reason; do
    known=0
    while IFS=$'\t' read -r pattern _; do
      case $pattern in '' | \#*) continue ;; esac
      # shellcheck disable=SC2254 — the file holds patterns
      case $name in $pattern) known=1 ;; esac
    done < tests/known-limits.txt
    [ $known = 1 ] || { echo "skipped in CI without being a known limit: $name: $reason"; unknown=$((unknown + 1)); }
  done < <(sort -u "$CAPSID_SKIPS")
  failed=$((failed + unknown))
fi
passed=$((passed - skipped)) && [ $passed -ge 0 ] || passed=0
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]

#!/bin/bash
# Runs a command where it can leave nothing behind on the machine, and says what it would have left.
#
#   enclosure.sh COMMAND [ARG...]
#
# The command gets a cgroup of its own in every hierarchy, a pid namespace, and a mount namespace with an
# empty /tmp, /run and /dev/shm and a scratch copy of /etc (with an ordinary user who has subordinate ids).
# Its exit status is this script's, or 66 when something was left behind. It must not touch a cgroup, a
# mount or a process that it did not make. An ordinary user gets no enclosure: the command just runs.
#
# The command finds: CAPSID_ENCLOSURE (the cgroup path below each hierarchy), CAPSID_WORK (a folder that
# may keep files until the end), CAPSID_USER (the ordinary user's name; absent where /etc can't be overlaid).
set -u

hierarchies() { # mount points of every cgroup file system below /sys/fs/cgroup
  awk '$5 ~ "^/sys/fs/cgroup(/|$)" { for (i = 6; i <= NF; i++) if ($i == "-") { if ($(i+1) ~ /^cgroup2?$/) print $5; break } }' /proc/self/mountinfo | sort -u
}

below() { # every cgroup of this enclosure, the deepest first
  local h
  for h in $(hierarchies); do [ -d "$h$1" ] && find "$h$1" -depth -type d 2>/dev/null; done
}

# --- inside: the first process of the new pid namespace ------------------------------------------------
if [ "${1-}" = --inside ]; then
  name=$2; shift 2
  say() { echo "enclosure: $*" >&2; }
  mount -t proc proc /proc || exit 125
  # Folders that the command needs may lie below the ones that become empty: hold them and bind them back.
  held=() fds=() fd=20
  for d in "$PWD" "${HOME-}" "${CARGO_HOME-}" "${RUSTUP_HOME-}" "${CARGO_TARGET_DIR-}" "${CAPSID_BINARIES-}"; do
    case $d in /tmp/*|/run/*|/dev/shm/*) [ -d "$d" ] && { eval "exec $fd<\"\$d\""; held+=("$d"); fds+=($fd); fd=$((fd+1)); };; esac
  done
  mount -t tmpfs -o mode=1777 capsid-tmp /tmp && mount -t tmpfs -o mode=755 capsid-run /run &&
    mount -t tmpfs -o mode=1777 capsid-shm /dev/shm || exit 125
  for i in "${!held[@]}"; do
    mkdir -p "${held[$i]}" && mount -c --bind "/proc/self/fd/${fds[$i]}" "${held[$i]}" || exit 125
    eval "exec ${fds[$i]}<&-"
  done
  # A shell keeps the working directory that it had: enter the one that was bound back.
  cd "$PWD" || exit 125
  export CAPSID_ENCLOSURE=$name CAPSID_WORK=/run/enclosure
  mkdir -p -m 755 $CAPSID_WORK/etc $CAPSID_WORK/upper $CAPSID_WORK/overlay-work
  if mount -t overlay overlay -o lowerdir=/etc,upperdir=$CAPSID_WORK/upper,workdir=$CAPSID_WORK/overlay-work /etc 2>/dev/null; then
    export CAPSID_USER=capsid-tester
    echo "$CAPSID_USER:x:54321:54321::/:/bin/sh" >> /etc/passwd
    echo "$CAPSID_USER:x:54321:" >> /etc/group
    echo "$CAPSID_USER:500000:65536" >> /etc/subuid
    echo "$CAPSID_USER:600000:65536" >> /etc/subgid
    mkdir -m 755 /run/user && mkdir -m 700 /run/user/54321 && chown 54321:54321 /run/user/54321
  fi
  unset TMPDIR XDG_RUNTIME_DIR
  mounts() { cut -d' ' -f4- /proc/self/mountinfo | sort; }
  files() { find /tmp /run /dev/shm -mindepth 1 -not -path "$CAPSID_WORK*" | grep -v -E '^/run/(user(/54321)?|capsid|crun)$' | { [ ${#held[@]} = 0 ] && cat || grep -v -F "$(printf '%s\n' "${held[@]}")"; } | sort; }
  # The folders of the machine's own that everybody can name: a path that is followed out of a root ends there.
  own() { local d; for d in / /mnt /srv /home /opt /usr /var; do find "$d" -mindepth 1 -maxdepth 1 -printf '%p(%y)\n' 2>/dev/null; done | sort; }
  # Whose they are, their modes and numbers: what a container binds of the host's is the host's own.
  nodes() { { find /dev -xdev \( -type c -o -type b \) -print0; find / -mindepth 1 -maxdepth 1 -print0; printf '/\0'; } | xargs -0 stat -c '%n %F %u:%g %a %t:%T' 2>/dev/null | sort; }
  before_mounts=$(mounts) before_files=$(files) before_own=$(own) before_nodes=$(nodes)
  "$@"
  status=$?
  # Children that were killed may still be on their way out: they get five seconds.
  for _ in $(seq 50); do
    processes=
    for p in /proc/[0-9]*; do
      pid=${p#/proc/}
      [ "$pid" = 1 ] || [ "$pid" = "$BASHPID" ] && continue
      grep -q '^State:[[:space:]]*[ZX]' "$p/status" 2>/dev/null && continue
      [ -e "$p" ] && processes="$processes $pid($(tr '\0' ' ' < "$p/cmdline" 2>/dev/null | cut -c1-120))"
    done
    [ -z "$processes" ] && break
    sleep 0.1
  done
  left=
  [ -n "$processes" ] && left="$left
  processes:$processes"
  new=$(comm -13 <(echo "$before_mounts") <(mounts)); [ -n "$new" ] && left="$left
  mounts: $new"
  new=$(comm -13 <(echo "$before_files") <(files) | head -20); [ -n "$new" ] && left="$left
  files: $(echo $new)"
  new=$(comm -3 <(echo "$before_own") <(own) | head -20); [ -n "$new" ] && left="$left
  the machine's own folders, before and after: $(echo $new)"
  new=$(comm -3 <(echo "$before_nodes") <(nodes) | head -20); [ -n "$new" ] && left="$left
  devices and folders of the machine, before and after: $(echo $new)"
  new=$(below "$name" | grep -v -E "$name(/self)?\$" | head -20); [ -n "$new" ] && left="$left
  cgroups: $(echo $new)"
  if [ -n "$left" ]; then say "left behind:$left"; [ "$status" = 0 ] && status=66; fi
  exit "$status"
fi

# --- outside ---------------------------------------------------------------------------------------------
[ $# -gt 0 ] || { sed -n '2,/^set -u/p' "$0" | sed '$d;s/^# \{0,1\}//' >&2; exit 2; }
if [ "$(id -u)" != 0 ]; then
  echo "enclosure: not root: '$1' runs without one" >&2
  exec "$@"
fi

destroy() { # kill what is left in the cgroups below $1, and remove them
  local _ d pid
  for _ in $(seq 100); do
    [ -z "$(below "$1")" ] && return 0
    for d in $(below "$1"); do
      [ -e "$d/freezer.state" ] && echo THAWED > "$d/freezer.state" 2>/dev/null
      for pid in $(cat "$d/cgroup.procs" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
      rmdir "$d" 2>/dev/null
    done
    [ -z "$(below "$1")" ] && return 0
    sleep 0.1
  done
  echo "enclosure: cgroups that can't be removed: $(below "$1" | tr '\n' ' ')" >&2
  return 1
}

take_back() { # the controllers that the machine's own cgroup had not given to its children
  local entry
  for entry in ${given[@]+"${given[@]}"}; do
    # Refused while somebody else's cgroup uses it: then it is not ours to take.
    echo "-${entry#* }" > "${entry% *}/cgroup.subtree_control"
  done 2>/dev/null
}

# What a run that was killed outright has left: its name holds the pid of its enclosure.
for h in $(hierarchies); do
  for d in "$h"/capsid-test-*; do
    [ -d "$d" ] && [ ! -d "/proc/${d##*-}" ] && destroy "/${d##*/}"
  done
done

name=/capsid-test-$$
trap 'exit 130' INT TERM HUP
trap 'destroy "$name" || exit 66; take_back' EXIT
entries=() given=()
for h in $(hierarchies); do
  mkdir "$h$name" || { echo "enclosure: no cgroup in $h" >&2; continue; }
  if [ -e "$h$name/cgroup.controllers" ]; then
    # A cgroup with children that have controllers holds no processes: this one's live in a leaf.
    for c in $(cat "$h/cgroup.controllers"); do
      grep -qw "$c" "$h/cgroup.subtree_control" && continue
      echo "+$c" > "$h/cgroup.subtree_control" && given+=("$h $c")
    done 2>/dev/null
    for c in $(cat "$h$name/cgroup.controllers"); do echo "+$c" > "$h$name/cgroup.subtree_control"; done 2>/dev/null
    mkdir "$h$name/self" && entries+=("$h$name/self/cgroup.procs")
  else
    for f in cpuset.cpus cpuset.mems; do [ -e "$h/$f" ] && cat "$h/$f" > "$h$name/$f"; done
    entries+=("$h$name/cgroup.procs")
  fi
done
(
  for e in ${entries[@]+"${entries[@]}"}; do echo "$BASHPID" > "$e"; done
  exec unshare --mount --propagation private --pid --fork --kill-child -- "$BASH" "$0" --inside "$name" "$@"
) &
wait $!
exit $?

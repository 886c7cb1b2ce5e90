#!/bin/bash
# Runs a command in the guest of systemd (guest.sh with GUEST_INIT=systemd), and says what it has left behind.
#
#   systemd.sh COMMAND [ARG...]
#
# The guest itself is the enclosure: processes must be numbered as systemd numbers them, and its sockets lie
# in /run. The command finds what tests/enclosure.sh would give it, CAPSID_SYSTEMD, and an ordinary user with
# subordinate ids and a systemd of their own (below /run/user/54321).
# Its exit status is this script's, or 66 when a unit, a cgroup or a program was left behind.
set -u
say() { echo "guest: $*" >&2; }

export CAPSID_ENCLOSURE=/system.slice CAPSID_WORK=/run/enclosure CAPSID_USER=capsid-tester CAPSID_SYSTEMD=1
runtime=/run/user/54321
mkdir -p -m 755 $CAPSID_WORK
echo "$CAPSID_USER:x:54321:54321::/:/bin/sh" >> /etc/passwd
echo "$CAPSID_USER:x:54321:" >> /etc/group
echo "$CAPSID_USER:500000:65536" >> /etc/subuid
echo "$CAPSID_USER:600000:65536" >> /etc/subgid
mkdir -p -m 755 /run/user && mkdir -m 700 $runtime && chown 54321:54321 $runtime || exit 125
# What a login has done by user@.service, without a login.
systemd-run --quiet --unit=tester --slice=user.slice -p User=54321 -p Type=notify -p Delegate=yes -p KillMode=mixed \
  -p "Environment=XDG_RUNTIME_DIR=$runtime" /lib/systemd/systemd --user || { say "no systemd of the user"; exit 125; }
setpriv --reuid=54321 --regid=54321 --clear-groups env "XDG_RUNTIME_DIR=$runtime" systemctl --user start dbus.socket || exit 125

left() { # units of containers, cgroups, programs
  systemctl list-units --all --plain --no-legend '*.scope' | awk '{ print $1 }'
  setpriv --reuid=54321 --regid=54321 --clear-groups env "XDG_RUNTIME_DIR=$runtime" \
    systemctl --user list-units --all --plain --no-legend '*.scope' | awk '{ print "user: " $1 }'
  find /sys/fs/cgroup -type d -name '*.scope'
  ls /sys/fs/bpf
}
before=$(left | sort)
"$@"
status=$?
# systemd forgets a unit a moment after it has stopped.
for _ in $(seq 50); do
  new=$(comm -13 <(echo "$before") <(left | sort))
  [ -z "$new" ] && break
  sleep 0.1
done
if [ -n "$new" ]; then
  say "left behind: $(echo $new)"
  [ "$status" = 0 ] && status=66
fi
exit "$status"

#!/bin/bash
# Runs the promises and the tests of the library's cgroups in the guest with pure cgroup v2 (guest.sh), with
# the binary that was tested outside. Arguments go to the promises alone.
# With --systemd alone: what systemd has a part in, in guests in which it is process 1 and makes every cgroup.
# Only what cgroups have a part in, unless names are given or the counts are those of `make soak`: a container
# costs ten times as much in there. Their skips come back under the prefix "guest:"; without a guest, that is one loud skip.
set -u
cd "$(dirname "$0")/../.." || exit 1
built() { # the test binary that cargo names
  "${CARGO:-cargo}" test --locked --no-run "$@" 2>&1 | sed -n 's/^ *Executable.*(\(.*\))$/\1/p'
}
binary=$(built --test promises) cgroups=$binary engines=$binary
[ "${1-}" != --systemd ] || engines=$(built --test engines)
[ "${1-}" = --systemd ] || cgroups=$(built --workspace --test cgroups)
[ -x "$binary" ] && [ -x "$cgroups" ] && [ -x "$engines" ] || { echo "guest: no test binary"; exit 1; }
named=$#
if [ "${1-}" != --systemd ] && [ $# = 0 ] && [ -z "${CAPSID_SOAK-}" ]; then
  # Nor what the machine shows on its own cgroup2, which has a device program, a freezer and a kill, but no controller.
  set -- cgroups:: controllers:: devices::rules_ devices::s17_ devices::a_rule_ devices::a_default_ devices::devices_work \
    jvm:: update:: events:: memory:: differential::stats differential::updates differential::limits:: \
    rootless::every_ rootless::limits_ rootless::the_ lifecycle::delete_force lifecycle::pause_ lifecycle::kill_ends_ lifecycle::a_created_ \
    user_namespaces:: exec::exec_is_ exec::exec_joins overlays::every labels:: \
    --skip labels::selinux --skip cgroups::taken::a_delete_kills --skip controllers::what_the_version_ --skip controllers::the_state_keeps
fi
out=$(mktemp -d "${TMPDIR:-/tmp}/capsid-guest-out.XXXXXX") || exit 1
trap 'rm -rf "$out"' EXIT
export CAPSID=${CAPSID:-$PWD/target/debug/capsid} CAPSID_SKIP_PREFIX=guest: CAPSID_GUEST=1
in_systemd() { # in_systemd v1|v2 TEST...: in a guest in which systemd is process 1
  local cgroups=$1; shift
  CAPSID_SKIP_PREFIX="systemd-$cgroups:" CAPSID_SKIPS=/guest/skips GUEST_OUT=$out GUEST_INIT=systemd GUEST_CGROUPS=$cgroups \
    GUEST_ENV="CAPSID CAPSID_SKIPS CAPSID_SKIP_PREFIX CAPSID_GUEST CAPSID_PROBE CAPSID_SOAK" \
    tests/vm/guest.sh "$PWD" tests/vm/systemd.sh "./${binary#"$PWD"/}" --quiet --color=never --test-threads=1 "$@"
}
if [ "${1-}" = --systemd ]; then
  # Of the cgroups' own, what is about paths of directories is not asked of systemd.
  in_systemd v2 systemd:: lifecycle::delete lifecycle::pause faults::killed::f01_a_create_that_was faults::killed::an_update \
    cgroups:: controllers:: --skip cgroups::a_cgroup_of_several --skip cgroups::below_a_ --skip cgroups::without_ \
    --skip cgroups::taken:: --skip cgroups::explain_has --skip cgroups::the_state_says --skip cgroups::rules_for \
    --skip controllers::what_the_version_ --skip controllers::the_state_keeps &&
    in_systemd v1 systemd:: controllers::memory_limit controllers::cpu_shares controllers::the_network cgroups::every_verb cgroups::f18_ &&
    binary=$engines in_systemd v2 systemd::
  status=$?
else
  CAPSID_SKIPS=/guest/skips GUEST_OUT=$out GUEST_ENV="CAPSID CAPSID_SKIPS CAPSID_SKIP_PREFIX CAPSID_GUEST CAPSID_PROBE CAPSID_SOAK" \
    tests/vm/guest.sh "$PWD" tests/enclosure.sh sh -c '"$0" --quiet; status=$?; "$@" && exit $status' \
    "./${cgroups#"$PWD"/}" "./${binary#"$PWD"/}" --quiet --color=never --test-threads=1 "$@"
  status=$?
  # The tests of the other security module, in a guest of its own; its policy is loaded before the enclosure
  # looks at the mounts, whose options it changes.
  if [ $status = 0 ] && [ "$named" = 0 ] && ! secilc -c 31 -f /dev/null -o "$out/policy" tests/vm/policy.cil; then
    printf 'guest:labels::selinux\tno secilc here\n' | tee -a "$out/skips"
  elif [ $status = 0 ] && [ "$named" = 0 ]; then
    CAPSID_SKIPS=/guest/skips GUEST_OUT=$out GUEST_LSM=selinux GUEST_ENV="CAPSID CAPSID_SKIPS CAPSID_SKIP_PREFIX CAPSID_GUEST CAPSID_PROBE" \
      tests/vm/guest.sh "$PWD" sh -c 'cat /guest/policy > /sys/fs/selinux/load && exec "$@"' sh \
      tests/enclosure.sh "./${binary#"$PWD"/}" --quiet --color=never --test-threads=1 labels::selinux
    status=$?
  fi
fi
[ -n "${CAPSID_SKIPS-}" ] && cat "$out/skips" >> "$CAPSID_SKIPS" 2>/dev/null
if [ $status = 77 ]; then
  echo "SKIP guest: no guest can be had here"
  [ -n "${CAPSID_SKIPS-}" ] && printf 'guest\tno guest can be had here\n' >> "$CAPSID_SKIPS"
  status=0
fi
exit $status

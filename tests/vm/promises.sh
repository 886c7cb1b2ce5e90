#!/bin/bash
# Runs the promises and the tests of the library's cgroups in the guest with pure cgroup v2 (guest.sh), with
# the binary that was tested outside. Arguments go to the promises alone.
# Only what cgroups have a part in, unless names are given or the counts are those of `make soak`: a container
# costs ten times as much in there. Their skips come back under the prefix "guest:"; without a guest, that is one loud skip.
set -u
cd "$(dirname "$0")/../.." || exit 1
built() { # the test binary that cargo names
  "${CARGO:-cargo}" test --locked --no-run "$@" 2>&1 | sed -n 's/^ *Executable.*(\(.*\))$/\1/p'
}
binary=$(built --test promises) cgroups=$(built --workspace --test cgroups)
[ -x "$binary" ] && [ -x "$cgroups" ] || { echo "guest: no test binary"; exit 1; }
named=$#
if [ $# = 0 ] && [ -z "${CAPSID_SOAK-}" ]; then
  set -- cgroups:: controllers:: devices:: jvm:: update:: events:: memory:: differential::limits:: rootless:: lifecycle:: user_namespaces:: exec::exec_is_ exec::exec_joins overlays::every labels:: --skip labels::selinux
fi
out=$(mktemp -d "${TMPDIR:-/tmp}/capsid-guest-out.XXXXXX") || exit 1
trap 'rm -rf "$out"' EXIT
export CAPSID=${CAPSID:-$PWD/target/debug/capsid} CAPSID_SKIP_PREFIX=guest: CAPSID_GUEST=1
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
[ -n "${CAPSID_SKIPS-}" ] && cat "$out/skips" >> "$CAPSID_SKIPS" 2>/dev/null
if [ $status = 77 ]; then
  echo "SKIP guest: no guest can be had here"
  [ -n "${CAPSID_SKIPS-}" ] && printf 'guest\tno guest can be had here\n' >> "$CAPSID_SKIPS"
  status=0
fi
exit $status

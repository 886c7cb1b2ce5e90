#!/bin/bash
# Runs the promises in the guest with pure cgroup v2 (guest.sh), with the binary that was tested outside.
# Their skips come back under the prefix "guest:"; without a guest, that is one loud skip.
set -u
cd "$(dirname "$0")/../.." || exit 1
binary=$("${CARGO:-cargo}" test --locked --no-run --test promises 2>&1 | sed -n 's/^ *Executable.*(\(.*\))$/\1/p')
[ -x "$binary" ] || { echo "guest: no test binary"; exit 1; }
out=$(mktemp -d "${TMPDIR:-/tmp}/capsid-guest-out.XXXXXX") || exit 1
trap 'rm -rf "$out"' EXIT
export CAPSID=${CAPSID:-$PWD/target/debug/capsid} CAPSID_SKIP_PREFIX=guest: CAPSID_GUEST=1
CAPSID_SKIPS=/run/guest/skips GUEST_OUT=$out GUEST_ENV="CAPSID CAPSID_SKIPS CAPSID_SKIP_PREFIX CAPSID_GUEST CAPSID_PROBE CAPSID_SOAK" \
  tests/vm/guest.sh "$PWD" tests/enclosure.sh "./${binary#"$PWD"/}" --quiet --test-threads=1 "$@"
status=$?
[ -n "${CAPSID_SKIPS-}" ] && cat "$out/skips" >> "$CAPSID_SKIPS" 2>/dev/null
if [ $status = 77 ]; then
  echo "SKIP guest: no guest can be had here"
  [ -n "${CAPSID_SKIPS-}" ] && printf 'guest\tno guest can be had here\n' >> "$CAPSID_SKIPS"
  status=0
fi
exit $status

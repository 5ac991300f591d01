#!/bin/bash
# Checks the models of the hand-over protocol (handover.pml) and of hints and bells
# (doorbell.pml) with Spin.
#
#   run.sh             searches that complete, in small worlds   (CI)
#   run.sh --mutants   protocols broken on purpose: an error must be found in each   (CI)
#   run.sh --long      larger worlds: up to 4 GiB of memory and some minutes each
#
# Fails if a search finds an error or does not complete, or a mutant is not caught.
# Exit 77: spin or gcc is not installed.
# To read an error's trail, with the DEFINES of its line below:
#   spin -a DEFINES M.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan; spin -t -p -g DEFINES M.pml
set -u
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
    echo "skipped: spin or gcc is not installed"
    exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

# check MODEL PAN_FLAGS GCC_FLAGS DEFINES: leaves pan's report in $work/report
# shellcheck disable=SC2086  # flags are words
check() {
    rm -f pan* ./*.trail report
    cp "$here/$1.pml" . &&
    spin -a $4 "$1.pml" >report 2>&1 &&
    gcc $3 -w -DMEMLIM=4096 -DCOLLAPSE -o pan pan.c >report 2>&1 &&
    ./pan -m10000 $2 >report 2>&1
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' report)
    seconds=$(sed -n 's/^pan: elapsed time \([0-9.]*\) .*/\1/p' report)
}
errors() { sed -n 's/.*errors: \([0-9]*\)$/\1/p' report; }
say() { printf '%-9s %12s states %7s s  %-8s %s\n' "$1" "${states:-?}" "${seconds:-?}" "$2" "$3"; }
fail() { failures=$((failures + 1)); say FAILED "$1" "$2"; grep -E '^pan:|rror:|not completed|too small|memory limit' report | head -5; }
completed() { [ "$(errors)" = 0 ] && ! grep -qE 'not completed|too small|out of memory|memory limit' report; }

search() { check "$1" "" "-O2 -DSAFETY" "$2"; if completed; then say complete "$1" "$2"; else fail "$1" "$2"; fi; }
cycles() { check "$1" -l "-O2 -DNP" "$2"; if completed; then say acyclic "$1" "$2"; else fail "$1" "$2"; fi; }
mutant() { check "$1" "" "-O0 -DSAFETY" "$2"; if [ "$(errors)" = 1 ]; then say caught "$1" "$2"; else fail "$1" "$2"; fi; }

# Deaths of instances, of clients, of supervisors (ANY: any number); requests of each client.
# The comments say how many states a search had, all of them complete; about 0.3 M take a
# second.
may_die() { echo "-DINSTANCE_DEATHS=$1 -DCLIENT_DEATHS=$2 -DSUPERVISOR_DEATHS=$3 -DREQUESTS=$4"; }

searches() {
    search handover "$(may_die 2 2 ANY 2)"                                           # 2.3 M: poisoned requests too
    search handover "$(may_die 2 2 ANY 2) -DPATIENT"                                 # 0.8 M
    search handover "$(may_die 1 1 1 2)"                                             # 0.5 M
    search handover "$(may_die 2 0 0 1) -DCHAIN"                                     # 0.02 M
    search handover "$(may_die 1 1 0 2) -DCHAIN -DOPERATORS"                         # 0.05 M
    search handover "$(may_die 1 1 1 1) -DFINE"                                      # 0.8 M
    search handover "$(may_die 1 0 0 1) -DSUPERVISORS=2"                             # 0.1 M
    search handover "$(may_die 1 0 0 1) -DSUPERVISORS=2 -DCHAIN -DOPERATORS"         # 0.02 M
    search handover "$(may_die 0 0 0 2) -DFINE"                                      # 0.03 M
    search handover "$(may_die 0 0 0 1) -DSLOTS=2 -DCHAIN"                           # 0.04 M
    search handover "$(may_die 0 1 1 1) -DSLOTS=2"                                   # 1.0 M
    search handover "$(may_die 1 0 0 1) -DSLOTS=2 -DINSTANCES=1"                     # 0.2 M
    cycles handover "$(may_die 1 0 1 1)"                                             # 0.04 M
    search doorbell "-DDEATHS=0 -DSUPERVISOR_DEATHS=0"                               # 0.2 M
    search doorbell "-DDEATHS=1 -DSUPERVISOR_DEATHS=0 -DTASKS=2"                     # 3.8 M
    search doorbell "-DDEATHS=0 -DSUPERVISOR_DEATHS=0 -DHINT_IF_READY"               # 0.1 M
    search doorbell "-DDEATHS=1 -DSUPERVISOR_DEATHS=0 -DTASKS=2 -DHINT_IF_READY"     # 4.7 M
    cycles doorbell "-DDEATHS=0 -DSUPERVISOR_DEATHS=0"                               # 0.3 M
}

mutants() {
    mutant handover "$(may_die 0 0 0 2) -DM_FREE_EARLY"             # frees a slot while a task is claimed
    mutant handover "$(may_die 0 0 0 2) -DM_NO_BUMP"                # closing keeps the generation
    mutant handover "$(may_die 0 0 0 2) -DM_ANY_GENERATION"         # takes an input's done of any request
    mutant handover "$(may_die 0 0 0 2) -DM_NO_LOOK_AFTER_COMMIT"   # holder does not look whether the slot closes
    mutant handover "$(may_die 0 0 0 2) -DM_STORE_AT_SWEEP -DFINE"  # a store, not a swap
    mutant handover "$(may_die 1 0 0 1) -DM_STORE_AT_GIVE_BACK -DSUPERVISORS=2"
    mutant handover "$(may_die 1 0 0 2) -DM_UNCONFIRMED"            # gives back what a live instance claimed
    mutant handover "$(may_die 2 0 0 1) -DM_NO_LIMIT"               # no limit to the attempts
    local calm="-DDEATHS=0 -DSUPERVISOR_DEATHS=0" deadly="-DDEATHS=1 -DSUPERVISOR_DEATHS=0 -DTASKS=2"
    mutant doorbell "$calm -DM_LOOK_THEN_CLEAR"                     # looks at the words, then clears the hint
    mutant doorbell "$calm -DM_NO_SECOND_LOOK"                      # announces sleep and sleeps
    mutant doorbell "$calm -DM_NO_FENCE"                            # reads the sleepers before the hint is out
    mutant doorbell "$calm -DM_NO_CHAIN"                            # claims, leaves hints, wakes nobody
    mutant doorbell "$calm -DM_STALE_SLEEPER"                       # stays in the mask when awake
    mutant doorbell "$deadly -DM_NO_REPAIR"                         # a dead seat stays in the mask
    mutant doorbell "$deadly -DM_RING_BY_MASK"                      # after a death only one of the mask is woken
    mutant doorbell "$deadly -DM_BELLS_BEFORE_HINTS"                # after a death, bells first
    mutant doorbell "$deadly -DM_CLIENT_NOT_RUNG"                   # after a death, only operators are rung
}

long() {
    search handover "$(may_die 1 1 1 1) -DSLOTS=2"                                   # 27 M, 1.4 GiB
    search handover "$(may_die 1 1 ANY 1) -DSLOTS=2"                                 # 15 M
    search handover "$(may_die 1 0 0 2) -DFINE"                                      # 2.3 M
    search doorbell "-DDEATHS=1 -DSUPERVISOR_DEATHS=1"                               # 25 M
    search doorbell "-DDEATHS=2 -DSUPERVISOR_DEATHS=0 -DTASKS=2"                     # 36 M
}

case "${1:-}" in
    "") searches ;;
    --mutants) mutants ;;
    --long) long ;;
    *) sed -n '2,/^set/{s/^# \{0,1\}//p}' "$here/run.sh"; exit 2 ;;
esac
if [ "$failures" != 0 ]; then echo "model: $failures failed"; exit 1; fi
echo "model: all as expected"

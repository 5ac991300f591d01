#!/usr/bin/env bash
# Fuzzes what reads untrusted bytes, on a fresh Debian 12 or 13: installs what it needs (clang), builds the targets of
# tests/fuzz with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, and runs them one after the other, on all
# CPUs. What it finds lies in build/fuzz/findings: put it into tests/fuzz/corpus/TARGET before you mend what it shows.
#
# usage: scripts/fuzz.sh [TARGET...] [--seconds N]     board, message, model, deployment, npy (default: all); 600
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

seconds=600
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    board | message | model | deployment | npy) targets+=("$1") ;;
    --seconds)
      seconds=${2:-}
      [[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--seconds needs a number"
      shift
      ;;
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
    *) die "no target '$1': scripts/fuzz.sh --help names them" ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || targets=(board message model deployment npy)

cd "$root"
debian_version >/dev/null
install_packages "${build_packages[@]}" clang-19 libclang-rt-19-dev libomp-19-dev

say "Building into build/fuzz"
cmake --preset fuzz --log-level=WARNING
NINJA_STATUS='[%f/%t, %es] ' cmake --build --preset fuzz --parallel "$(parallel_jobs 1200)" --target "${targets[@]/#/fuzz_}"

found=0
for target in "${targets[@]}"; do
  say "Fuzzing: $target, $seconds s"
  corpus=build/fuzz/corpus/$target findings=build/fuzz/findings/$target
  mkdir -p "$corpus" "$findings"
  build/fuzz/bin/fuzz_"$target" -max_total_time="$seconds" -fork="$(nproc)" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$findings/" "$corpus" "tests/fuzz/corpus/$target" 2>&1 | tail -n 5 || found=1
done
[ "$found" -eq 0 ] || die "see build/fuzz/findings"

#!/usr/bin/env bash
# Builds everything and runs the tests, on a fresh Debian 12 or 13: installs what it needs, then
#   1. preset release: all tests,
#   2. preset asan: the base, ipc, graph and daemon tests under AddressSanitizer and UndefinedBehaviorSanitizer; with
#      --long the operators', too,
#   3. preset tsan: the ipc and daemon tests under ThreadSanitizer.
# Goes on to the end whatever fails. The last line is `N passed, N failed` (`, N skipped`); the exit code says the same.
#
# usage: scripts/test.sh [--long]     --long: the tests labelled `long` too
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

without_long=(-LE '^long$')
asan=(base ipc graph daemon)
while [ $# -gt 0 ]; do
  case "$1" in
    --long) without_long=() asan+=(operators) ;;
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
    *) die "unknown option $1 (there is --long)" ;;
  esac
  shift
done

results=$root/build/test-results
rm -rf "$results"
mkdir -p "$results"
junit=()  # one file for each ctest run
ctest=(ctest)
failed=() # what failed before a test could run
reached_end=no

# The last thing that happens, on whatever way: the line of the counts.
finish() {
  local code=$? arguments=() what
  trap - EXIT
  [ $reached_end = yes ] || failed+=("scripts/test.sh ended early, by a signal or with exit code $code")
  for what in "${failed[@]}"; do arguments+=("--failed=$what"); done
  if command -v python3 >/dev/null; then
    say "Results"
    python3 "$root/scripts/count_tests.py" "${arguments[@]}" "${junit[@]}" || exit 1
    exit 0
  fi
  echo "0 passed, ${#failed[@]} failed"
  exit 1
}
trap finish EXIT

# build PRESET MEGABYTES [TARGET...]
build() {
  local preset=$1 jobs
  jobs=$(parallel_jobs "$2")
  shift 2
  say "Building preset $preset, $jobs at once"
  if ! (cmake --preset "$preset" --log-level=WARNING &&
    cmake --build --preset "$preset" --parallel "$jobs" ${1:+--target "$@"}); then
    failed+=("the build of preset $preset")
    return 1
  fi
}

# run_tests PRESET [CTEST OPTION...]
run_tests() {
  local preset=$1
  shift
  say "Tests of preset $preset"
  junit+=("$results/$preset.xml")
  # A failure is found in the file; without a file there is one.
  "${ctest[@]}" --test-dir "build/$preset" --parallel "$(nproc)" --output-on-failure --no-tests=error \
    "$@" --output-junit "$results/$preset.xml" || true
}

cd "$root"
version=$(debian_version)
packages=("${build_packages[@]}" "${test_packages[@]}")
[ "$version" != 12 ] || packages+=(clang-format-14) # the pinned version; tests/check_tidy.py skips where it is not
install_packages "${packages[@]}"
python_env || failed+=("the Python environment build/venv")
tensorflow_env || failed+=("the Python environment build/venv-tensorflow")
onnx_env || say "onnx 1.16.2 does not install here: ONNX's backend tests are skipped"

if build release 1200; then
  run_tests release "${without_long[@]}"
fi
if build asan 1600 "${asan[@]/%/_tests}"; then
  run_tests asan -R "^($(IFS='|' && echo "${asan[*]}"))[.]" "${without_long[@]}"
fi
if build tsan 1600 ipc_tests daemon_tests; then
  # GCC 12's does not find its way about where too much of an address is random.
  if setarch -R true 2>/dev/null; then ctest=(setarch -R ctest); fi
  export TSAN_OPTIONS=suppressions=$root/tests/thread_sanitizer.txt
  run_tests tsan -R '^(ipc|daemon)[.]' "${without_long[@]}"
fi
reached_end=yes

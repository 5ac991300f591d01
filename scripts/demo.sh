#!/usr/bin/env bash
# The demo, on a fresh Debian 12 or 13: installs what it needs, builds, then has handwritten digits classified by a
# network whose convolutions, activations, pools and dense layers are separate processes, and compares such splits with
# the network in one process. Leaves nothing running.
#
# usage: scripts/demo.sh
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case "${1:-}" in
  '') ;;
  -h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
  *) die "unknown option $1 (there is none)" ;;
esac

cd "$root"
digits=examples/digits
bin=build/release/bin

debian_version >/dev/null
install_packages "${build_packages[@]}"

jobs=$(parallel_jobs 1200)
say "Building into build/release, $jobs at once (some minutes the first time)"
cmake --preset release --log-level=WARNING
NINJA_STATUS='[%f/%t, %es] ' cmake --build --preset release --parallel "$jobs" --target demo

started=''
finish() {
  local code=$?
  trap - EXIT
  [ -z "$started" ] || "$bin/opsplit" down digits >/dev/null 2>&1 || true
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Starting the network, split into processes: opsplit up $digits/digits.yaml"
started=yes
"$bin/opsplit" up "$digits/digits.yaml"

say "Its operators: opsplit ps"
"$bin/opsplit" ps

say "360 handwritten digits that it was never trained on"
"$bin/digits-classify"

say "Stopping it: opsplit down digits"
"$bin/opsplit" down digits
started=''

splits=fused,by-type,stages:2
say "Split against fused: opsplit bench $digits/digits.onnx --splits $splits"
"$bin/opsplit" bench "$digits/digits.onnx" --splits "$splits"

# Beside it ONNX Runtime, the whole network in one process, where it is installed.
for python in build/venv/bin/python /usr/bin/python3 python3; do
  "$python" -c 'import numpy, onnxruntime' 2>/dev/null || continue
  for threads in 1 $(($(nproc) > 1 ? $(nproc) : 0)); do
    [ "$threads" -eq 0 ] || "$python" -B tests/tools/ort_time.py "$digits/digits.onnx" --threads "$threads" --seconds 1
  done
  break
done

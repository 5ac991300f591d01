#!/usr/bin/env bash
# Runs one benchmark, on a fresh Debian 12 or 13: installs what it needs, builds, makes the models, measures, writes
# bench/results/NAME.json, and makes the tables and plots of docs/benchmarks.md, which says what each measures, and how.
#
# usage: scripts/bench.sh NAME [OPTION...]
#   models      opsplit's `fused` against ONNX Runtime and PyTorch [--models A,B] [--threads 1,2] [--rounds N]
#   split       stages:4 against fused; by-type and per-node against the same in one process [--models M] [--rounds N]
#   pipeline    throughput of stages on divided cores against ONNX Runtime's best [--models A,B] [--rounds N]
#   start       from nothing to ready against loading in ONNX Runtime; an operator's restart [--rounds N]
#   chaos       what deaths and hangs cost: recovery, latency of requests under way [--seconds N]
#   swap        what swaps of an operator cost the requests that are under way [--swaps N] [--rounds N]
#   python_hop  a hop into an operator in Python beside one in C++ [--rounds N] [--requests N]
#   hop         a hop against its floors and raw iceoryx [options of the program]
#   overhead    what a hop adds to the digits model [options of the program]
#   transports  a hop against REST, gRPC, queues, sockets, files [options of the program]
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

name=${1:-}
packages=(python3-venv python3-matplotlib)
targets=(contender opsplitd)
case "$name" in
  models) packages+=(python3-torch python3-torchvision python3-onnx libopenblas0-pthread) ;;
  split | pipeline) ;;
  start | chaos) packages+=(util-linux) targets=(opsplit opsplitd) ;;
  swap) packages+=(util-linux) targets=(opsplit opsplitd custom-operator) ;;
  python_hop) packages+=(util-linux) targets=(opsplit opsplitd empty-operator python-package) ;;
  hop | overhead) targets=("$name" opsplitd) ;;
  transports) packages+=("${bench_packages[@]}") targets=(transports opsplitd) ;;
  -h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
  *) die "no benchmark '$name'; scripts/bench.sh --help names them" ;;
esac
shift

cd "$root"
debian_version >/dev/null
install_packages "${build_packages[@]}" "${packages[@]}"
python_env

jobs=$(parallel_jobs 1200)
say "Building into build/release, $jobs at once"
cmake --preset release --log-level=WARNING
NINJA_STATUS='[%f/%t, %es] ' cmake --build --preset release --parallel "$jobs" --target "${targets[@]}"

python=build/venv/bin/python
case "$name" in
  models | split | pipeline | start | chaos)
    say "Making the models"
    "$python" -B tests/tools/light_models.py --out build/release/light
    ;;
esac

# A text detector, out of the package that brings it.
detector=build/bench/ch_PP-OCRv4_det_infer.onnx
if [ "$name" = models ] && [ ! -f "$detector" ]; then
  "$python" -B tests/tools/detector.py --out build/bench detector
  mv build/bench/detector/model.onnx "$detector"
  rm -r build/bench/detector build/bench/lock
fi

# PyTorch is Debian's, its converter is not.
if [ "$name" = models ] && ! build/torch-venv/bin/python -c 'import onnx2torch' 2>/dev/null; then
  say "Making the Python environment build/torch-venv: Debian's torch and onnx2torch"
  rm -rf build/torch-venv
  /usr/bin/python3 -m venv --system-site-packages build/torch-venv
  build/torch-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps onnx2torch
fi

# With processes, /tmp and /dev/shm of its own, that end with it, and a cache that is not the user's.
private=()
case "$name" in
  start | chaos | swap | python_hop)
    private=(unshare --pid --fork --kill-child --mount-proc --mount --ipc)
    [ "$(id -u)" -eq 0 ] || private+=(--map-current-user --keep-caps)
    cache=$(getent passwd "$(id -u)" | cut -d: -f6)/.cache/opsplit
    mkdir -p -m 700 build/bench/cache "$cache"
    private+=(sh -c 'mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm &&
      mount --bind build/bench/cache "$0" && "$@"; exit $?' "$cache")
    ;;
esac
export PYTHONPATH=$root/build/release/python  # for python_hop

say "Measuring: $name"
case "$name" in
  hop | overhead | transports) "$python" -B bench/program.py "$name" "$@" ;;
  *) "${private[@]}" "$python" -B "bench/$name.py" "$@" ;;
esac
/usr/bin/python3 -B bench/report.py

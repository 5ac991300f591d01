#!/usr/bin/env bash
# Everything that needs a GPU, in one run of ten minutes at the most, on a machine that has a driver and need not have a
# network or a compiler. Packed here, after a build with CUDA; run there.
#
# usage: scripts/gpu-check.sh pack [--libraries] [FOLDER]   into FOLDER (build/gpu-check) and FOLDER.tar.xz, 50 MiB at most
#        FOLDER/gpu-check.sh run [OUT]                      logs and figures go to OUT (FOLDER/out)
#
# cuDNN and cuBLAS (1 GB) stay outside, and are looked for where it runs: by the linker, in /usr/local/cuda, in Python's
# nvidia packages; --libraries packs them, too. The last lines of a run are one for each step, `ok`, `FAILED` or `MISSING`.
# Exit code: 0, all is well; 1, a step has failed, was not run, or has skipped a test; 77, there is no GPU.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# opsplit, four stages of a network on the GPU against one, takes the daemon's programs.
programs=(gpu_tests gpu-victim gpu-hop operators_cuda_tests custom_cuda_kernel_tests opsplit-device-broker opsplit-operator-cuda
  opsplit opsplitd opsplit-broker opsplit-operator opsplit-onnx-rules)
loaded=(libcudnn.so.9 libcublas.so.13)
most_bytes=$((50 << 20))
most_seconds=600

die() {
  printf 'gpu-check.sh: %s\n' "$*" >&2
  exit 1
}

# -- pack ------------------------------------------------------------------------------------------

# What the programs are linked with, but for what comes with the system or the driver: NAME PATH lines.
linked_libraries() {
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u |
    grep -vE '^(ld-linux[^ ]*|lib(c|m|dl|rt|pthread|resolv|util|cuda)\.so[^ ]*) '
}

# Ends the script where the linker does not find all that these programs are linked with.
check_linked() { # PROGRAM...
  local missing
  missing=$(ldd "$@" | awk '/^\// { program = $1 } / not found/ { print program, $1 }')
  [ -z "$missing" ] || die "the linker does not find, for this program, this library: ${missing//$'\n'/; }"
}

pack() {
  local root build out libraries=0 name path bytes
  root=$(cd "$here/.." && pwd)
  build=$root/build/release
  if [ "${1:-}" = --libraries ]; then
    libraries=1
    shift
  fi
  case "${1:-}" in -*) die "pack: there is no option $1; --help says which there are" ;; esac
  [ $# -le 1 ] || die "pack: one folder, not $#"
  out=${1:-$root/build/gpu-check}
  out=${out%/}
  if [ -e "$out" ] && ! { [ -f "$out/gpu-check.sh" ] && [ -d "$out/bin/models" ]; }; then
    die "$out is there, and was not packed by this script: name a folder that is not there yet"
  fi
  command -v xz >/dev/null || die "xz is missing: apt-get install xz-utils"
  for name in "${programs[@]}"; do
    [ -x "$build/bin/$name" ] || die "$build/bin/$name is missing: build preset release with CUDA, cuDNN and cuBLAS first"
  done
  check_linked "${programs[@]/#/$build/bin/}"
  rm -rf "$out" "$out.tar.xz"
  mkdir -p "$out/bin/models" "$out/lib"
  cp "$here/gpu-check.sh" "$out/"
  for name in "${programs[@]}"; do strip -o "$out/bin/$name" "$build/bin/$name"; done
  linked_libraries "${programs[@]/#/$build/bin/}" | while read -r name path; do
    case "$name" in
      libcudnn* | libcublas*) [ "$libraries" -eq 0 ] || cp -L "$(dirname "$path")"/"${name%%.so*}"*.so.* "$out/lib/" ;;
      *) cp -L "$path" "$out/lib/$name" && strip "$out/lib/$name" ;;
    esac
  done
  cp "$root/examples/digits/digits.onnx" "$out/bin/models/"
  path=$(find "$root/build" -name light_resnet50.onnx -print -quit 2>/dev/null || true)
  if [ -n "$path" ]; then
    cp "$path" "$out/bin/models/"
  else
    echo "left out: light_resnet50.onnx (tests/tools/light_models.py, or scripts/common.sh's python_env, gets it)"
  fi
  tar -C "$(dirname "$out")" -cJf "$out.tar.xz" "$(basename "$out")"
  bytes=$(stat -c %s "$out.tar.xz")
  printf '%s: %d KiB; %s: %s\n' "$out.tar.xz" $((bytes / 1024)) "$out" "$(du -sh "$out" | cut -f1)"
  [ "$libraries" -eq 1 ] || [ "$bytes" -le "$most_bytes" ] || die "$out.tar.xz has $bytes bytes, more than $((most_bytes >> 20)) MiB"
}

# -- run -------------------------------------------------------------------------------------------

results=()
bad=0
result() { # STATE WHAT...
  results+=("$(printf '%-8s' "$1")${*:2}")
  [ "$1" = ok ] || bad=1
}

left() {
  local seconds=$((most_seconds - SECONDS))
  [ "$seconds" -gt 1 ] || seconds=1
  echo "$seconds"
}

# program SECONDS NAME [ARGUMENT...], with the packed libraries.
program() {
  local seconds=$1 name=$2
  shift 2
  [ "$seconds" -le "$(left)" ] || seconds=$(left)
  LD_LIBRARY_PATH=$library_path timeout --kill-after=10 "$seconds" "$here/bin/$name" "$@"
}

# step WHAT LOG COMMAND...: a failure is its exit code.
step() {
  local what=$1 log=$out/$2 code=0
  shift 2
  printf '\n== %s\n' "$what"
  "$@" >"$log" 2>&1 || code=$?
  tail -n 40 "$log"
  case "$code" in
    0) result ok "$what" ;;
    124 | 137) result FAILED "$what: not done in time ($log)" ;;
    *) result FAILED "$what: exit code $code ($log)" ;;
  esac
}

# tests WHAT LOG SECONDS PROGRAM FILTER: where there is a GPU, no test may skip itself, and some must run.
tests() {
  local what=$1 log=$2 skipped ran
  step "$what" "$log" program "$3" "$4" --gtest_filter="$5" --gtest_brief=0
  skipped=$(grep -c '^\[  SKIPPED \] .*)$' "$out/$log" || true)
  ran=$(grep -c '^\[       OK \]' "$out/$log" || true)
  if [ "$skipped" -gt 0 ]; then
    result FAILED "$what: $skipped tests skipped themselves, although there is a GPU ($out/$log)"
  elif [ "$ran" -eq 0 ]; then
    result FAILED "$what: no test ran ($out/$log)"
  fi
}

has_gpu() {
  compgen -G '/dev/nvidia[0-9]*' >/dev/null || compgen -G '/proc/driver/nvidia/gpus/*' >/dev/null ||
    { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; }
}

# find_library NAME: adds its folder to library_path, where the linker does not know it.
find_library() {
  local name=$1 folder
  [ ! -e "$here/lib/$name" ] || return 0
  if ldconfig -p 2>/dev/null | grep -q "[[:space:]]$name "; then return 0; fi
  while read -r folder; do
    if [ -e "$folder/$name" ]; then
      library_path=$library_path:$folder
      return 0
    fi
  done < <(
    compgen -G '/usr/local/cuda*/lib64' || true
    compgen -G '/usr/local/cuda*/targets/*/lib' || true
    python3 -c 'import glob, sys
for path in sys.path: print("\n".join(glob.glob(path + "/nvidia/*/lib")))' 2>/dev/null || true
  )
  return 1
}

# one network in stages:N on the GPU: milliseconds of the median request.
stages_ms() { # N
  local count=$1 file=$out/stages$1 model=$here/bin/models/light_resnet50.onnx quote="'" stage
  {
    printf "name: resnet%s\nmodel: '%s'\nsplit: stages:%s\ndepth: 2\noperators:\n" \
      "$count" "${model//$quote/$quote$quote}" "$count"
    for ((stage = 1; stage <= count; ++stage)); do printf '  stage%s: {gpu: 0}\n' "$stage"; done
  } >"$file.yaml"
  PATH=$here/bin:$PATH program 60 opsplit bench "$file.yaml" --splits "stages:$count" --requests 500 --json "$file.json" >&2 ||
    return 1
  grep -o '"p50_us": *[0-9.]*' "$file.json" | head -n 1 | awk -F: '{ print $2 / 1000 }'
}

# Taking turns, twice: what else goes on there should strike both.
four_stages_against_one() {
  local one four again
  one=$(stages_ms 1) && four=$(stages_ms 4) || return 1
  again=$(stages_ms 1) && one=$(printf '%s\n%s\n' "$one" "$again" | sort -g | head -n 1) || return 1
  again=$(stages_ms 4) && four=$(printf '%s\n%s\n' "$four" "$again" | sort -g | head -n 1) || return 1
  awk -v one="$one" -v four="$four" 'BEGIN { if (one <= 0) exit 1
    printf "light_resnet50: %.3f ms in one operator on the GPU, %.3f ms in four: x %.3f\n", one, four, four / one }'
}

run() {
  local name has_libraries=1
  [ -d "$here/bin" ] || die "this is not a packed folder: scripts/gpu-check.sh pack makes one"
  case "${1:-}" in -*) die "run: there is no option $1; --help says more" ;; esac
  out=${1:-$here/out}
  library_path=$here/lib
  mkdir -p "$out"
  # The driver's device files may not be there before somebody asks for them.
  if command -v nvidia-modprobe >/dev/null; then nvidia-modprobe -u -c 0 || true; fi
  if ! has_gpu; then
    echo "skipped: no NVIDIA GPU on this machine (no /dev/nvidia0, and nvidia-smi lists none)"
    exit 77
  fi
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,uuid,driver_version,memory.total,memory.free --format=csv | tee "$out/gpu.csv" || true
  fi
  for name in "${loaded[@]}"; do
    find_library "$name" || {
      has_libraries=0
      result MISSING "$name: neither packed (pack --libraries) nor on this machine"
    }
  done

  tests "the driver: memory, handles, deaths" driver.log 200 gpu_tests '-*TwoHundredKills*'
  tests "200 kills leave device memory as it was" kills.log 240 gpu_tests '*TwoHundredKills*'
  step "hops of 1 KiB to 1 GiB, and by the host" hop.log program 90 gpu-hop --json "$out/gpu_hop.json"
  if [ "$has_libraries" -eq 1 ]; then
    tests "kernels and whole programs on the GPU" kernels.log 120 operators_cuda_tests '*Gpu*:CudaGpu.*-*LightResnet50*:*SaysWhyThereIsNoGpu'
    tests "a kernel made with the SDK" sdk.log 60 custom_cuda_kernel_tests '*OnTheGpu*'
    if [ -e "$here/bin/models/light_resnet50.onnx" ]; then
      step "light_resnet50 in four operators on the GPU, and in one" resnet.log four_stages_against_one
    else
      result MISSING "light_resnet50 in four operators on the GPU, and in one: the model was not packed"
    fi
  else
    result MISSING "kernels and whole programs on the GPU; light_resnet50 in four operators there: cuDNN or cuBLAS is not here"
  fi
  results+=("left out answers of light_resnet50 with weights that mean something: they take 98 MB")

  printf '\n== After %d s\n' "$SECONDS"
  printf '%s\n' "${results[@]}" | tee "$out/summary.txt"
  [ "$bad" -eq 0 ] || exit 1
}

case "${1:-}" in
  pack) shift && pack "$@" ;;
  run) shift && run "$@" ;;
  -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" ;;
  *) die "pack or run; --help says more" ;;
esac

#!/usr/bin/env bash
# Trains a network in PyTorch or TensorFlow, splits it into processes, and compares the split network's predictions with
# the framework's own, one by one. On a fresh Debian 12 or 13: installs what it needs, and builds. Leaves nothing running;
# what it writes is in build/mnist/.
#
# usage: examples/mnist/run.sh [--data DIR] [--image IMAGE] pytorch|tensorflow
#   --data DIR      MNIST's idx files (.gz or not); scikit-learn's digits without
#   --image IMAGE   trains in a container of this image, which has python3 with the framework and onnx
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common.sh"

framework='' data='' image=''
while [ $# -gt 0 ]; do
  case "$1" in
    pytorch | tensorflow) framework=$1 ;;
    --data | --image)
      [ $# -gt 1 ] || die "$1 needs a value"
      if [ "$1" = --data ]; then data=$(realpath -- "$2"); else image=$2; fi
      shift
      ;;
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
    *) die "unknown argument $1: examples/mnist/run.sh --help names them" ;;
  esac
  shift
done
[ -n "$framework" ] || die "which framework: pytorch or tensorflow?"

cd "$root"
example=examples/mnist
folder=build/mnist/$framework
bin=build/release/bin
packages=(python3-numpy)
at_least=93
if [ -z "$data" ]; then
  packages+=(python3-sklearn)
  at_least=88 # a fifth of the images, and smaller ones
fi
# To train with. opsplit's package is built for Debian's Python, and so everything else runs in that.
python=/usr/bin/python3
[ -n "$image" ] || case "$framework" in
  pytorch) packages+=(python3-torch python3-onnx) ;;
  tensorflow) packages+=(python3-venv) python=build/venv-tensorflow/bin/python ;;
esac

debian_version >/dev/null
install_packages "${build_packages[@]}" "${packages[@]}"
[ -n "$image" ] || [ "$framework" != tensorflow ] || tensorflow_env || die "TensorFlow could not be installed (see above)"

jobs=$(parallel_jobs 1200)
say "Building into build/release, $jobs at once (some minutes the first time)"
cmake --preset release --log-level=WARNING
NINJA_STATUS='[%f/%t, %es] ' cmake --build --preset release --parallel "$jobs" --target demo python-package

# The end takes it down, which is not ours to do with somebody else's. (Not grep -q, which would not read to the end.)
if "$bin/opsplit" ps 2>/dev/null | grep "^mnist-$framework:" >/dev/null; then
  die "a deployment mnist-$framework runs already: $bin/opsplit down mnist-$framework"
fi

say "Images: ${data:-scikit-learn\'s digits}"
rm -rf "$folder"
/usr/bin/python3 -B $example/data.py "$folder" ${data:+--data "$data"}

if [ -n "$image" ]; then
  say "Training in a container of $image"
  docker run --rm --init --network none --user "$(id -u):$(id -g)" -v "$root/$example:/example:ro" -v "$root/$folder:/images" \
    --entrypoint python3 "$image" -B "/example/train_$framework.py" /images
else
  say "Training"
  "$python" -B "$example/train_$framework.py" "$folder"
fi

started=''
finish() {
  local code=$?
  trap - EXIT
  [ -z "$started" ] || "$bin/opsplit" down "mnist-$framework" >/dev/null 2>&1 || true
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Starting the network, split into processes: opsplit up $example/mnist-$framework.yaml"
started=yes
"$bin/opsplit" up "$example/mnist-$framework.yaml"

say "Predictions, one by one"
PYTHONPATH=build/release/python /usr/bin/python3 -B $example/evaluate.py "mnist-$framework" "$folder" --at-least $at_least

say "Its operators now: opsplit ps"
"$bin/opsplit" ps

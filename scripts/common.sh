# shellcheck shell=bash
# What demo.sh and test.sh share: packages, the Python environment, how much to build at once.
# To be sourced; sets `root`, the repository.
# shellcheck disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Everything that a build of the whole tree needs, under names that Debian 12 and Debian 13 share.
build_packages=(
  g++ cmake ninja-build ccache pkg-config python3
  libiceoryx-posh-dev libiceoryx-hoofs-dev libacl1-dev
  libdnnl-dev libeigen3-dev libonnx-dev libprotobuf-dev protobuf-compiler
  libboost-dev libboost-filesystem-dev libhwloc-dev libcli11-dev libyaml-cpp-dev nlohmann-json3-dev libspdlog-dev libfmt-dev libexpected-dev libxxhash-dev
  prometheus-cpp-dev
  pybind11-dev python3-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
# The transports that bench/transports compares with, as far as its tests need them, too.
transport_packages=(libcpp-httplib-dev libgrpc++-dev libzmq3-dev cppzmq-dev)
# What the benchmarks need besides. (RabbitMQ's server starts as a service where it is installed on a whole machine.)
bench_packages=("${transport_packages[@]}" librabbitmq-dev rabbitmq-server)
# What the tests need besides.
test_packages=(spin python3-venv python3-torch python3-onnx python3-sklearn python3-numpy util-linux procps graphviz xz-utils "${transport_packages[@]}")

say() { printf '\n== %s\n' "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Prints 12 or 13; ends the script on any other system.
debian_version() {
  local id='' version=''
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
  fi
  case "$id $version" in
    "debian 12" | "debian 13") echo "$version" ;;
    *) die "this system is '${id:-unknown} ${version:-unknown}'; opsplit builds on Debian 12 and Debian 13" ;;
  esac
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# install_packages NAME...: says which are missing, installs them; does nothing where all are there.
install_packages() {
  local name missing=() as_root=()
  for name in "$@"; do
    is_installed "$name" || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "Installing ${#missing[@]} Debian packages (and what they depend on): ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "not root, and there is no sudo; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  local quiet=(-qq -o=Dpkg::Use-Pty=0) # apt then names the packages that it unpacks, and no more
  "${as_root[@]}" apt-get "${quiet[@]}" update || die "apt-get update failed (see above)"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${quiet[@]}" install -y --no-install-recommends \
    "${missing[@]}" >"$root/build/apt.log" 2>&1 || {
    tail -n 20 "$root/build/apt.log" >&2
    die "apt-get install failed; the whole log: build/apt.log"
  }
}

# parallel_jobs MEGABYTES: how many jobs of that size run at once: one for each core, fewer where memory is short.
parallel_jobs() {
  local jobs free limit used
  jobs=$(nproc)
  free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  if [ -r /sys/fs/cgroup/memory.max ] && [ "$(cat /sys/fs/cgroup/memory.max)" != max ]; then
    limit=$(($(cat /sys/fs/cgroup/memory.max) / 1048576))
    used=$(($(cat /sys/fs/cgroup/memory.current) / 1048576))
    [ $((limit - used)) -ge "$free" ] || free=$((limit - used))
  fi
  [ $((free / $1)) -ge "$jobs" ] || jobs=$((free / $1))
  [ "$jobs" -ge 1 ] || jobs=1
  echo "$jobs"
}

# virtual_env NAME CHECK PACKAGE...: a virtual environment in build/NAME. Prints nothing where CHECK, some Python, runs there.
virtual_env() {
  local folder=$root/build/$1 check=$2
  shift 2
  "$folder/bin/python" -c "$check" 2>/dev/null && return 0
  say "Making the Python environment build/${folder##*/}: $*"
  rm -rf "$folder"
  /usr/bin/python3 -m venv "$folder" &&
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" &&
    "$folder/bin/python" -c "$check"
}

# python_env: for the scripts in tests/tools.
python_env() { virtual_env venv 'import numpy, onnx, onnxruntime' numpy onnx onnxruntime; }

# tensorflow_env: TensorFlow in one of its own: 1.6 GB, and a NumPy and protobuf as it wants them.
tensorflow_env() {
  # Found, not imported, which takes seconds.
  virtual_env venv-tensorflow \
    'import importlib.util as it; exit(not (it.find_spec("tensorflow") and it.find_spec("onnx")))' tensorflow-cpu onnx
}

# onnx_env: the version of onnx whose backend tests docs/operators.md is about. Fails where it does not install: there is
# no wheel for Python 3.13.
onnx_env() {
  local version=1.16.2
  virtual_env venv-onnx "import numpy, onnx; assert onnx.__version__ == '$version'" \
    --only-binary=:all: numpy "onnx==$version" && return 0
  rm -rf "$root/build/venv-onnx" # the test is skipped, and says what it misses
  return 1
}

mkdir -p "$root/build"

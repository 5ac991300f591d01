#!/usr/bin/env bash
# Makes build/venv, with the Python packages that the scripts in tests/tools need (test.sh does so by itself).
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
debian_version >/dev/null
install_packages python3 python3-venv
python_env
echo "$root/build/venv/bin/python"

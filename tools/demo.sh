#!/usr/bin/env bash
# Install the package, then train, test and map the real Earth:
#   demo.sh [--minutes M] [--data DIR] [--out DIR]
# Needs Python 3.10-3.13 and nothing else: uses the active environment, or
# makes .venv-onedl.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/_env.sh"

uhr_env onedl
cd "$UHR_ROOT"
# On CPUs: keep large tensors instead of handing them back to the system after
# each use, and let waiting threads sleep; else a third of the time is lost,
# and much more on a busy machine.
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824
export OMP_WAIT_POLICY=PASSIVE
"$UHR_PYTHON" -W ignore tools/demo.py "$@"

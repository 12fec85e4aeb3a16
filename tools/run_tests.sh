#!/usr/bin/env bash
# Install the package and run its tests:
#   run_tests.sh [--stack onedl|openmmlab] [--mmcv-wheel FILE] [pytest args]
# Needs Python 3.10-3.13 and nothing else: uses the active environment, or
# makes .venv-<stack>. --mmcv-wheel gives the openmmlab stack a prebuilt mmcv.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/_env.sh"

stack=onedl
wheel=
while [ $# -gt 0 ]; do
    case "$1" in
    --stack | --mmcv-wheel)
        [ $# -gt 1 ] || uhr_fail "$1 needs a value"
        if [ "$1" = --stack ]; then
            stack="$2"
        else
            wheel="$(realpath -m "$2")"
        fi
        shift 2
        ;;
    --help | -h)
        sed -n '2,5s/^# //p' "$0"
        exit
        ;;
    *) break ;;
    esac
done

uhr_env "$stack" tests "$wheel"
cd "$UHR_ROOT"
# More threads than that only get in each other's way on tiny tensors.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# By file: tests of one share models and scenes.
"$UHR_PYTHON" -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"

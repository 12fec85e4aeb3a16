# Shell functions shared by run_tests.sh and demo.sh; source this file.
# After `uhr_env STACK EXTRAS [MMCV_WHEEL]` the command "$UHR_PYTHON" is a
# Python 3.10-3.13 that can import mmseg_uhr from this source tree.
#
# They use the environment that is active, or else make .venv-<stack>.

UHR_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# The CPU build of this version is what pip offers on some machines; where it
# is not to be had, any version will do.
UHR_CPU_TORCH='torch==2.13.0'

uhr_say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

uhr_fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Whether a command is a Python that this package supports.
uhr_supports() {
    "$@" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' \
        >/dev/null 2>&1
}

# Print the first supported Python; $PYTHON, if set, is the only candidate.
uhr_find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        uhr_supports "$PYTHON" || uhr_fail \
            "PYTHON=$PYTHON is not Python 3.10, 3.11, 3.12 or 3.13"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 \
        python; do
        if uhr_supports "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    uhr_fail "no Python 3.10-3.13 found (python3 is $(python3 --version 2>&1 |
        head -n 1)); install one, or name it: PYTHON=/path/to/python3.11"
}

# Set UHR_PYTHON: the active environment's, or that of .venv-<stack>.
uhr_enter() {
    local stack="$1" base venv="$UHR_ROOT/.venv-$1"
    local active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
    if [ -n "$active" ]; then
        UHR_PYTHON="$active/bin/python"
        uhr_supports "$UHR_PYTHON" || uhr_fail \
            "the active environment $active is not Python 3.10-3.13;" \
            "deactivate it, and one is made for you"
        uhr_say "using the active environment $active"
    else
        if ! uhr_supports "$venv/bin/python"; then
            base="$(uhr_find_python)" || exit 1
            uhr_say "making the environment .venv-$stack with $base"
            "$base" -m venv --clear "$venv" || uhr_fail \
                "$base cannot make virtual environments; on Debian and" \
                'Ubuntu: apt-get install python3-venv'
        fi
        UHR_PYTHON="$venv/bin/python"
        # So that subprocesses by name (torchrun) are this environment's.
        export VIRTUAL_ENV="$venv"
    fi
    export PATH="$(dirname "$UHR_PYTHON"):$PATH"
    "$UHR_PYTHON" -m pip --version >/dev/null 2>&1 ||
        "$UHR_PYTHON" -m ensurepip --upgrade >/dev/null || uhr_fail \
        "$UHR_PYTHON has no pip"
}

uhr_pip() { "$UHR_PYTHON" -m pip --disable-pip-version-check "$@"; }

uhr_has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null |
    grep -q GPU; }

# Whether this source tree is installed with all that the extras ask for.
uhr_installed() {
    "$UHR_PYTHON" -I - "$UHR_ROOT" "$1" <<'EOF' >/dev/null 2>&1
import importlib.metadata as metadata
import json
import pathlib
import sys

from pip._vendor.packaging.requirements import Requirement

root, extras = pathlib.Path(sys.argv[1]), sys.argv[2].split(',')
name = 'mmsegmentation-uhr'
distribution = metadata.distribution(name)
url = json.loads(distribution.read_text('direct_url.json'))
installed = pathlib.Path(distribution.locate_file('')) / (
    distribution.files[0])
assert url['url'] == root.as_uri() and url['dir_info']['editable']
# Metadata that is older than its source may lack a requirement.
assert installed.stat().st_mtime > (root / 'pyproject.toml').stat().st_mtime
for text in distribution.requires:
    need = Requirement(text)
    if need.marker is None or any(
        need.marker.evaluate({'extra': extra}) for extra in extras
    ):
        found = metadata.version(need.name)
        assert need.specifier.contains(found, prereleases=True), text
EOF
}

uhr_install_torch() {
    "$UHR_PYTHON" -c 'import torch' 2>/dev/null && return
    if uhr_has_gpu; then
        uhr_say 'installing torch (CUDA)'
        uhr_pip install torch || uhr_fail 'torch cannot be installed'
        return
    fi
    uhr_say "installing $UHR_CPU_TORCH (no NVIDIA GPU found)"
    if ! uhr_pip install "$UHR_CPU_TORCH"; then
        uhr_say "$UHR_CPU_TORCH cannot be had here: installing any torch"
        uhr_pip install torch || uhr_fail 'torch cannot be installed'
    fi
}

# OpenMMLab's mmcv with its operators: from a wheel, or built (a compiler and
# half an hour).
uhr_install_mmcv() {
    local wheel="$1"
    "$UHR_PYTHON" -c 'import mmcv._ext' 2>/dev/null && return
    if [ -n "$wheel" ]; then
        [ -f "$wheel" ] || uhr_fail "--mmcv-wheel $wheel: no such file"
        uhr_pip install "$wheel" || uhr_fail \
            "$wheel does not fit $("$UHR_PYTHON" --version)"
    else
        uhr_say 'building mmcv with its operators; this takes half an hour' \
            '(--mmcv-wheel FILE gives a prebuilt one)'
        uhr_pip install 'setuptools<82' wheel &&
            MMCV_WITH_OPS=1 uhr_pip install --no-build-isolation \
                'mmcv>=2.1,<2.2' || uhr_fail 'mmcv cannot be built'
    fi
}

# uhr_env STACK EXTRAS [MMCV_WHEEL]: STACK is onedl or openmmlab; EXTRAS are
# further extras, e.g. tests,dev.
uhr_env() {
    local stack="$1" extras="$1${2:+,$2}" wheel="${3:-}"
    case "$stack" in
    onedl | openmmlab) ;;
    *) uhr_fail "--stack $stack: expected onedl or openmmlab" ;;
    esac
    uhr_enter "$stack"
    if uhr_installed "$extras" && "$UHR_PYTHON" -c 'import mmseg_uhr' \
        2>/dev/null; then
        uhr_say 'everything is installed'
        return
    fi
    uhr_install_torch
    if [ "$stack" = openmmlab ]; then
        uhr_install_mmcv "$wheel"
    fi
    uhr_say "installing mmsegmentation-uhr[$extras]"
    uhr_pip install --editable "$UHR_ROOT[$extras]" ||
        uhr_fail "mmsegmentation-uhr[$extras] cannot be installed"
    "$UHR_PYTHON" -W ignore -c 'import mmseg_uhr' ||
        uhr_fail 'the installed package cannot be imported'
}

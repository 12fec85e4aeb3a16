"""Measurements that have a process of their own, so that peaks do not mix."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_alone(
    arguments: Sequence[Any],
    out: Path,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run a Python script that writes what it measured, and wait for it.

    Args:
        arguments (Sequence): The script and its arguments.
        out (Path): JSON file that it writes.
        environment (Mapping[str, str], optional): Variables to set.

    Returns:
        dict: What the script wrote, or ``problem``, in one line.
    """
    out.unlink(missing_ok=True)
    ended = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    if ended.returncode == 0:
        return json.loads(out.read_text())
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        hint = ', probably out of memory' if name == 'SIGKILL' else ''
        return dict(problem=f'killed by {name}{hint}')
    lines = ended.stderr.strip().splitlines()
    reason = lines[-1] if lines else 'no message'
    return dict(problem=f'failed ({ended.returncode}): {reason}')

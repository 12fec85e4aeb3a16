"""Exported networks, opened by onnxruntime."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .packages import import_onnx

_PREFIX = 'mmseg_uhr.'
# By what a device is called, the one wanted first. A network may hold
# operators that only the others have.
_PROVIDERS = {
    'cpu': ('CPUExecutionProvider',),
    'cuda': ('CUDAExecutionProvider', 'CPUExecutionProvider'),
    'tensorrt': (
        'TensorrtExecutionProvider',
        'CUDAExecutionProvider',
        'CPUExecutionProvider',
    ),
}
_TYPES = {'tensor(uint8)': np.uint8, 'tensor(float)': np.float32}


class Session:
    """A file of ``tools/deployment/export.py``, ready to run.

    Threads are as many as the environment variable ``OMP_NUM_THREADS`` says,
    as with PyTorch, or one per core.

    Args:
        path (str | Path): The file.
        device (str): ``'cpu'``, ``'cuda'`` or ``'tensorrt'``, with the number
            of a GPU or without: ``'cuda:1'``.

    Attributes:
        known (dict[str, Any]): The file's properties, without the
            ``mmseg_uhr.`` in front of their names.
        shapes (dict[str, tuple[int | None]]): Of the inputs; None may vary.
        classes (int): Channels of the logits.

    Raises:
        ImportError: If onnxruntime is not installed.
        ValueError: If the file is missing, was not made by the tool, or the
            device is not there.
    """

    def __init__(self, path: str | Path, device: str = 'cpu') -> None:
        runtime = import_onnx('onnxruntime')
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f'{path}: no such file')
        providers = _providers(device, runtime.get_available_providers())
        options = runtime.SessionOptions()
        options.intra_op_num_threads = _threads()
        options.log_severity_level = 3
        # Blocks planned ahead cost memory, and save no time to speak of.
        options.enable_mem_pattern = False
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=providers
            )
        except Exception as error:
            # What onnxruntime raises has no common base.
            raise ValueError(
                f'{path}: onnxruntime cannot open it ({error}); if it is a '
                'network at all, export it again'
            ) from error
        wanted = providers[0][0]
        if wanted not in self._session.get_providers():
            # It falls back to the CPU, and says so in a log.
            raise ValueError(
                f'device {device!r}: onnxruntime has {wanted} but cannot '
                'start it; are the driver and the libraries of CUDA (and '
                'TensorRT) of the versions that it wants?'
            )
        self.known = self._properties()
        inputs = self._session.get_inputs()
        self._types = {one.name: _TYPES[one.type] for one in inputs}
        self.shapes = {one.name: _dims(one.shape) for one in inputs}
        self.classes = _dims(self._session.get_outputs()[0].shape)[1]

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Run a batch.

        Args:
            inputs (Mapping[str, np.ndarray]): By name; those that the network
                does not ask for are left out. Numbers are rounded where it
                takes bytes.

        Returns:
            np.ndarray: Logits (n, classes, h, w), float32.
        """
        return self._session.run(None, self.feed(inputs))[0]

    def feed(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bring a batch to the types of the network.

        Args:
            inputs (Mapping[str, np.ndarray]): See :meth:`run`.

        Returns:
            dict[str, np.ndarray]: What onnxruntime takes, dense.
        """
        fed = {}
        for name, dtype in self._types.items():
            values = inputs[name]
            if dtype is np.uint8 and values.dtype.kind == 'f':
                values = np.rint(values)
            fed[name] = np.ascontiguousarray(values, dtype)
        return fed

    def _properties(self) -> dict[str, Any]:
        """Read what the exporter has written into the file."""
        found = self._session.get_modelmeta().custom_metadata_map
        known = {
            name.removeprefix(_PREFIX): json.loads(value)
            for name, value in found.items()
            if name.startswith(_PREFIX)
        }
        if not {'views', 'window'} <= set(known):
            raise ValueError(
                f'{self.path}: does not tell what it wants to see; only '
                'files of tools/deployment/export.py do'
            )
        if not known.get('normalises'):
            raise ValueError(
                f'{self.path}: takes values that were normalised elsewhere; '
                'export it without --no-normalise'
            )
        return known


def _providers(
    device: str, available: Sequence[str]
) -> list[tuple[str, dict[str, int]]]:
    """Return what onnxruntime is to run on, the best first."""
    kind, _, index = str(device).partition(':')
    if kind not in _PROVIDERS or not (index.isdecimal() or not index):
        raise ValueError(
            f"device {device!r}: expected 'cpu', 'cuda' or 'tensorrt', for "
            "several GPUs with a number, such as 'cuda:1'"
        )
    wanted = _PROVIDERS[kind]
    if wanted[0] not in available:
        raise ValueError(
            f'device {device!r}: this onnxruntime has no {wanted[0]}, but '
            f'{", ".join(available)}; `pip uninstall onnxruntime` and '
            '`pip install onnxruntime-gpu` for NVIDIA GPUs'
        )
    gpu = {'device_id': int(index or 0)}
    return [
        (name, {} if name == 'CPUExecutionProvider' else gpu)
        for name in wanted
        if name in available
    ]


def _threads() -> int:
    """Return how many threads are wanted; 0 means one per core."""
    wanted = os.environ.get('OMP_NUM_THREADS', '')
    return int(wanted) if wanted.isdecimal() else 0


def _dims(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """Return sizes; None for those that have names instead."""
    return tuple(one if isinstance(one, int) else None for one in shape)

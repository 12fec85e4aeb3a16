"""Whether a runtime computes what PyTorch does, and in which time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .packages import import_onnx
from .window_network import WindowNetwork

# Of float32: of logits, and of the share of pixels with the same class.
MAX_ABS, AGREEMENT = 1e-3, 0.999
# Of float16 the class counts; logits of 30 are coarse to 0.016.
HALF_AGREEMENT = 0.99


@dataclass(frozen=True)
class Parity:
    """How far a runtime is from PyTorch in float32, on one batch.

    Args:
        shape (tuple[int]): Of the logits, (N, C, h, w).
        max_abs (float): Largest difference of two logits.
        agreement (float): Share of pixels that get the same class.
        torch_seconds (float): CPU time of PyTorch, all threads, the best run.
        onnx_seconds (float): CPU time of the runtime, likewise.
    """

    shape: tuple[int, ...]
    max_abs: float
    agreement: float
    torch_seconds: float
    onnx_seconds: float

    def holds(self, half: bool = False) -> bool:
        """Tell whether the difference is rounding.

        Args:
            half (bool): Whether the runtime computes in float16.

        Returns:
            bool: False also where logits are not finite.
        """
        if half:
            return np.isfinite(self.max_abs) and (
                self.agreement >= HALF_AGREEMENT
            )
        return self.max_abs <= MAX_ABS and self.agreement >= AGREEMENT

    def __str__(self) -> str:
        return (
            f'{"x".join(map(str, self.shape))}: max abs {self.max_abs:.1e}, '
            f'same class {self.agreement:.4%}, CPU s {self.onnx_seconds:.3f} '
            f'(PyTorch {self.torch_seconds:.3f})'
        )


def open_session(path: str | Path) -> Any:
    """Open a model with onnxruntime on the CPU, with PyTorch's threads.

    Args:
        path (str | Path): An ``.onnx`` file.

    Returns:
        onnxruntime.InferenceSession: The model.

    Raises:
        ImportError: If onnxruntime is not installed.
    """
    onnxruntime = import_onnx('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait would count as work.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )


def compare(
    network: WindowNetwork,
    session: Any,
    inputs: Sequence[Tensor],
    runs: int = 2,
) -> Parity:
    """Compare the two on a batch.

    Args:
        network (WindowNetwork): In float32.
        session (onnxruntime.InferenceSession | Program): May lack inputs
            that the network has but does not use.
        inputs (Sequence[Tensor]): Of the network; raw views are normalised
            here if the network does not.
        runs (int): Of each, for the times.

    Returns:
        Parity: What was found.
    """
    inputs = list(inputs)
    if not network.normalises:
        for i in range(len(network.views)):
            inputs[i] = network.normalise(inputs[i])
    fed = {}
    for wanted in session.get_inputs():
        values = inputs[network.names.index(wanted.name)].numpy()
        is_bytes = wanted.type == 'tensor(uint8)'
        fed[wanted.name] = values.astype(np.uint8) if is_bytes else values
    expected, torch_seconds = _timed(
        lambda: network(*inputs).detach().numpy(), runs
    )
    found, onnx_seconds = _timed(lambda: session.run(None, fed)[0], runs)
    if found.shape != expected.shape:
        raise ValueError(
            f'the file gives logits of shape {found.shape}, PyTorch '
            f'{expected.shape}'
        )
    return Parity(
        tuple(expected.shape),
        float(np.abs(found - expected).max()),
        float((_classes(found) == _classes(expected)).mean()),
        torch_seconds,
        onnx_seconds,
    )


def _classes(logits: np.ndarray) -> np.ndarray:
    """Return classes; of one channel whether it is positive."""
    return logits.argmax(1) if logits.shape[1] > 1 else logits > 0


def _timed(call: Callable[[], np.ndarray], runs: int) -> tuple[Any, float]:
    """Call several times; return the result and the least CPU time."""
    seconds = []
    for _ in range(runs):
        begin = time.process_time()
        result = call()
        seconds.append(time.process_time() - begin)
    return result, min(seconds)

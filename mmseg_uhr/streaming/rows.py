"""Rows of a scene that no window will change any more."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..tiling.arrays import ArrayLike, operations_of

# Rows decided at a time: what is temporary stays small.
_STRIPE = 128


@dataclass(frozen=True)
class Outputs:
    """What is wanted of each pixel besides its class.

    Args:
        probabilities (tuple[int]): Classes whose probabilities are wanted.
        confidence (bool): Whether the probability of the chosen class is.
    """

    probabilities: tuple[int, ...] = ()
    confidence: bool = False


class FinishedRows(NamedTuple):
    """Finished rows of a scene, on the CPU; tensors or arrays, as logits are.

    Args:
        y (int): The first row in pixels of the scene.
        labels (ArrayLike): Class ids (h, W), see :func:`decide`.
        probabilities (ArrayLike, optional): ``uint8`` (k, h, W), 255 meaning
            1, of the classes asked for.
        confidence (ArrayLike, optional): ``uint8`` (h, W), 255 meaning 1.
    """

    y: int
    labels: ArrayLike
    probabilities: ArrayLike | None = None
    confidence: ArrayLike | None = None

    @property
    def pixels(self) -> int:
        """int: How many pixels these rows have."""
        return math.prod(self.labels.shape)

    def without(self, missing: np.ndarray, nodata: int) -> 'FinishedRows':
        """Mark pixels without data.

        Args:
            missing (np.ndarray): Which pixels, bool (h, W).
            nodata (int): Their class id; their probabilities become 0.

        Returns:
            FinishedRows: The same values, changed in place.
        """
        marks = ((self.labels, nodata), *((one, 0) for one in self[2:]))
        for found, mark in marks:
            if found is not None:
                # A tensor on the CPU and its array share their values.
                np.copyto(np.asarray(found), mark, where=missing)
        return self


def label_dtype(classes: int) -> str:
    """Name the type of class ids: ``uint8`` for up to 256 classes."""
    return 'uint8' if classes <= 256 else 'int16'


def finish_rows(
    y: int,
    sums: ArrayLike,
    norm: tuple[ArrayLike, ArrayLike],
    outputs: Outputs = Outputs(),
    threshold: float | None = None,
) -> FinishedRows:
    """Make results of blended logits.

    Args:
        y (int): First row in pixels of the scene.
        sums (ArrayLike): Weighted sums of logits (C, h, W); overwritten.
        norm (tuple[ArrayLike]): Sums of the weights: of the rows (h) and of
            the columns (W), whose products they are.
        outputs (Outputs): What is wanted.
        threshold (float, optional): Of the sigmoid, for binary models with
            one channel.

    Returns:
        FinishedRows: On the CPU.
    """
    of = operations_of(sums)
    if len(sums) > 1 and outputs == Outputs():
        # All classes of a pixel share one weight sum, so the sums decide.
        return FinishedRows(y, of.to_host(decide(sums)))
    stripes = []
    for first in range(0, sums.shape[1], _STRIPE):
        rows = slice(first, first + _STRIPE)
        logits = of.float32(sums[:, rows]) / norm[0][rows, None] / norm[1]
        stripes.append(_finish(logits, outputs, threshold))
    return FinishedRows(
        y,
        *(
            None if found[0] is None else of.module.concatenate(found, -2)
            for found in zip(*stripes, strict=True)
        ),
    )


def _finish(
    logits: ArrayLike, outputs: Outputs, threshold: float | None
) -> tuple[ArrayLike, ArrayLike | None, ArrayLike | None]:
    """Return labels, probabilities and confidence of a few rows."""
    of = operations_of(logits)
    probabilities = confidence = None
    if len(logits) == 1:
        one = of.sigmoid(logits[0])
        # As if there were two channels: background and class.
        found = of.module.stack((1 - one, one))
    else:
        found = of.softmax(logits)
    labels = decide(logits, threshold)
    if outputs.probabilities:
        wanted = found[list(outputs.probabilities)]
        probabilities = of.to_host(of.as_bytes(wanted))
    if outputs.confidence:
        confidence = of.to_host(of.as_bytes(of.chosen(found, labels)))
    return of.to_host(labels), probabilities, confidence


def decide(logits: ArrayLike, threshold: float | None = None) -> ArrayLike:
    """Choose the class of each pixel.

    Args:
        logits (ArrayLike): Shape (C, h, w); overwritten.
        threshold (float, optional): Of the sigmoid, for binary models with
            one channel.

    Returns:
        ArrayLike: Class ids (h, w) on the same device, ``uint8`` for up to 256
        classes, ``int16`` above.
    """
    of = operations_of(logits)
    best = logits[0]
    dtype = getattr(of.module, label_dtype(len(logits)))
    labels = of.module.zeros_like(best, dtype=dtype)
    if len(logits) == 1:
        of.fill(labels, of.sigmoid(best) > threshold, 1)
        return labels
    # 5 times as fast on CPU as `argmax` over the outermost dimension.
    for index in range(1, len(logits)):
        of.fill(labels, logits[index] > best, index)
        of.module.maximum(best, logits[index], out=best)
    return labels

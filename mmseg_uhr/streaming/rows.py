"""Rows of a scene that no window will change any more."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Rows decided at a time: temporary tensors stay small.
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
    """Finished rows of a scene, on the CPU.

    Args:
        y (int): The first row in pixels of the scene.
        labels (Tensor): Class ids (h, W), see :func:`decide`.
        probabilities (Tensor, optional): ``uint8`` (k, h, W), 255 meaning 1,
            of the classes asked for.
        confidence (Tensor, optional): ``uint8`` (h, W), 255 meaning 1.
    """

    y: int
    labels: Tensor
    probabilities: Tensor | None = None
    confidence: Tensor | None = None

    def without(self, missing: Tensor, nodata: int) -> 'FinishedRows':
        """Mark pixels without data.

        Args:
            missing (Tensor): Which pixels, bool (h, W).
            nodata (int): Their class id; their probabilities become 0.

        Returns:
            FinishedRows: The same tensors, changed in place.
        """
        self.labels.masked_fill_(missing, nodata)
        for found in (self.probabilities, self.confidence):
            if found is not None:
                found.masked_fill_(missing, 0)
        return self


def label_dtype(classes: int) -> torch.dtype:
    """Return the type of class ids: ``uint8`` for up to 256 classes."""
    return torch.uint8 if classes <= 256 else torch.int16


def finish_rows(
    y: int,
    sums: Tensor,
    norm: tuple[Tensor, Tensor],
    outputs: Outputs = Outputs(),
    threshold: float | None = None,
) -> FinishedRows:
    """Make results of blended logits.

    Args:
        y (int): First row in pixels of the scene.
        sums (Tensor): Weighted sums of logits (C, h, W); overwritten.
        norm (tuple[Tensor]): Sums of the weights: of the rows (h) and of the
            columns (W), whose products they are.
        outputs (Outputs): What is wanted.
        threshold (float, optional): Of the sigmoid, for binary models with
            one channel.

    Returns:
        FinishedRows: On the CPU.
    """
    if len(sums) > 1 and outputs == Outputs():
        # All classes of a pixel share one weight sum, so the sums decide.
        return FinishedRows(y, decide(sums).cpu())
    stripes = []
    for first in range(0, sums.shape[1], _STRIPE):
        rows = slice(first, first + _STRIPE)
        logits = sums[:, rows].float() / norm[0][rows, None] / norm[1]
        stripes.append(_finish(logits, outputs, threshold))
    return FinishedRows(
        y,
        *(
            None if found[0] is None else torch.cat(found, dim=-2)
            for found in zip(*stripes, strict=True)
        ),
    )


def _finish(
    logits: Tensor, outputs: Outputs, threshold: float | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return labels, probabilities and confidence of a few rows."""
    probabilities = confidence = None
    if len(logits) == 1:
        one = logits[0].sigmoid()
        # As if there were two channels: background and class.
        found = torch.stack((1 - one, one))
    else:
        found = logits.softmax(dim=0)
    labels = decide(logits, threshold)
    if outputs.probabilities:
        probabilities = _quantise(found[list(outputs.probabilities)])
    if outputs.confidence:
        confidence = _quantise(found.gather(0, labels[None].long())[0])
    return labels.cpu(), probabilities, confidence


def _quantise(probabilities: Tensor) -> Tensor:
    """Store values from 0 to 1 in a byte, on the CPU."""
    return (probabilities * 255).round_().to(torch.uint8).cpu()


def decide(logits: Tensor, threshold: float | None = None) -> Tensor:
    """Choose the class of each pixel.

    Args:
        logits (Tensor): Shape (C, h, w); overwritten.
        threshold (float, optional): Of the sigmoid, for binary models with
            one channel.

    Returns:
        Tensor: Class ids (h, w) on the same device, ``uint8`` for up to 256
        classes, ``int16`` above.
    """
    dtype = label_dtype(len(logits))
    if len(logits) == 1:
        return (logits[0].sigmoid() > threshold).to(dtype)
    # 5 times as fast on CPU as `argmax` over the outermost dimension.
    best = logits[0]
    labels = torch.zeros(best.shape, dtype=dtype, device=logits.device)
    for index in range(1, len(logits)):
        labels.masked_fill_(logits[index] > best, index)
        torch.maximum(best, logits[index], out=best)
    return labels

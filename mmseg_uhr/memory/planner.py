"""What a model will need, told without running it."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from .fakes import faked
from .plan import MemoryPlan, describe
from .probe import probe_memory
from .trial import Work, try_step


def plan_memory(
    model: nn.Module,
    size: tuple[int, int],
    batch_size: int = 1,
    mode: str = 'predict',
    precision: str = 'fp32',
    optimizer: Mapping[str, Any] | None = None,
    channels: int = 3,
) -> MemoryPlan:
    """Plan the memory of a step in the midst of a run.

    The model's own code runs on fake tensors: nothing is computed or
    allocated, so any size takes about a second or a few. Where values would
    decide about sizes, the largest are assumed. A model that cannot run so is
    measured on small windows instead, and the plan is an extrapolation.

    Args:
        model (nn.Module): A segmentor with ``encode_decode(inputs, metas)``
            for prediction, ``loss(inputs, data_samples)`` for training; stays
            as it is.
        size (tuple[int]): ``(h, w)`` of the window as the network sees it,
            pixels.
        batch_size (int): Windows of a batch. Defaults to 1.
        mode (str): ``'predict'``, a batch without gradients, or ``'train'``:
            loss, backward pass and optimizer step. Defaults to
            ``'predict'``.
        precision (str): ``'fp32'``, or ``'fp16'`` or ``'bf16'`` by autocast.
            Defaults to ``'fp32'``.
        optimizer (Mapping, optional): Config of an optimizer, e.g.
            ``dict(type='SGD', lr=0.01, momentum=0.9)``, or of an optimizer
            wrapper; gradients of earlier batches count if it has
            ``accumulative_counts``. By default training has no step.
        channels (int): Channels of the input. Defaults to 3.

    Returns:
        MemoryPlan: Never less than PyTorch will allocate on a CPU, and little
        more; see the guide for measurements.

    Raises:
        ValueError: If mode or precision is unknown.
    """
    work = Work(mode, precision, optimizer, channels)
    try:
        with faked(model) as double:
            found = try_step(double, tuple(size), batch_size, work)
    except Exception as error:
        return probe_memory(model, tuple(size), batch_size, work, error)
    return describe(found, tuple(size), batch_size, work)

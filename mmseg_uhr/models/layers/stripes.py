"""Run local layers on a few rows at a time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .memory_format import format_of


def stripes_wanted(module: nn.Module) -> bool:
    """Tell whether a module may run in stripes now.

    Gradients need every activation anyway, and batch statistics need all
    rows at once.

    Args:
        module (nn.Module): The module that holds the layers.

    Returns:
        bool: True while predicting.
    """
    return not (module.training or torch.is_grad_enabled())


def halo_of(
    input_layer: nn.Module | None, reach: int, stride: int = 4
) -> tuple[int | None, int]:
    """Tell how stripes of a stem have to overlap, and when they may.

    Args:
        input_layer (nn.Module, optional): What makes the stem's input, with
            ``reach`` and ``multiple`` as those of
            :class:`~mmseg_uhr.models.layers.LaplacianInput`.
        reach (int): Rows that the stem itself depends on, above and below.
        stride (int): Of the stem.

    Returns:
        tuple[int | None, int]: Halo in rows, None if the input layer does not
        tell its reach; and the multiple that the window's height has to be.
    """
    if input_layer is None:
        multiple = stride
    else:
        multiple = max(getattr(input_layer, 'multiple', stride), stride)
        if not hasattr(input_layer, 'reach'):
            return None, multiple
        reach += input_layer.reach
    return -(-reach // multiple) * multiple, multiple


def in_stripes(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    stride: int,
    halo: int,
    rows: int,
) -> Tensor:
    """Apply a local function to stripes of rows and join the results.

    The result is that of ``function(x)``, but the maps inside the function
    are as high as a stripe. Each stripe is extended by ``halo`` rows, and
    what becomes of them is cut off, so that padding inside the function only
    counts at the borders of ``x``.

    Args:
        function (Callable): Maps (N, C, H, W) to (N, D, ceil(H / stride), w).
            An output row may depend on at most ``halo`` input rows above and
            below its own.
        x (Tensor): (N, C, H, W).
        stride (int): Input rows per output row.
        halo (int): Input rows, a multiple of ``stride``.
        rows (int): Output rows per stripe.

    Returns:
        Tensor: (N, D, ceil(H / stride), w).

    Raises:
        ValueError: If ``halo`` is no multiple of ``stride``.
    """
    if halo % stride:
        raise ValueError(
            f'halo={halo} is no multiple of stride={stride}; the stripes '
            'would be sampled at other rows than the whole'
        )
    height = x.shape[2]
    total = -(-height // stride)
    if total <= rows:
        return function(x)
    out = None
    for first in range(0, total, rows):
        last = min(first + rows, total)
        top = max(first * stride - halo, 0)
        part = function(x[:, :, top : last * stride + halo])
        skip = first - top // stride
        part = part[:, :, skip : skip + last - first]
        if out is None:
            n, channels, _, width = part.shape
            out = torch.empty(
                (n, channels, total, width),
                dtype=part.dtype,
                device=part.device,
                memory_format=format_of(part),
            )
        out[:, :, first:last] = part
    return out

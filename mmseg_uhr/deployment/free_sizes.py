"""Layers of MMSegmentation that would keep the size they were traced with.

They turn sizes to ``int``, which an export takes for a number that never
changes.
"""

from functools import partial

from mmseg.models.backbones.swin import ShiftWindowMSA
from mmseg.models.utils import Upsample, resize
from torch import Tensor, nn


def free_sizes(model: nn.Module) -> None:
    """Let stock layers compute their sizes by whole numbers.

    Args:
        model (nn.Module): Changed in place; computes what it did.
    """
    for module in model.modules():
        if type(module) is Upsample and _is_whole(module.scale_factor):
            module.forward = partial(_upsample, module)
        elif type(module) is ShiftWindowMSA:
            module.window_reverse = partial(_join_windows, module)


def _is_whole(factor: float | tuple[float, ...] | None) -> bool:
    """Tell whether a map becomes a whole number of times as large."""
    return isinstance(factor, float) and factor.is_integer()


def _upsample(module: Upsample, x: Tensor) -> Tensor:
    """Enlarge (N, C, h, w)."""
    factor = int(module.scale_factor)
    size = module.size or [side * factor for side in x.shape[-2:]]
    return resize(x, size, None, module.mode, module.align_corners)


def _join_windows(
    module: ShiftWindowMSA, windows: Tensor, height: int, width: int
) -> Tensor:
    """Put windows (n, side, side, C) together to maps (N, H, W, C)."""
    side, channels = windows.shape[1], windows.shape[3]
    x = windows.view(-1, height // side, width // side, side, side, channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)

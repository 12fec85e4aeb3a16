"""Fusions of a coarse and a fine map that make a few fine rows at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .enlarging import enlargement_of
from .lsag import LSAG, FlowAlign, WindowAlign, upsample, warp
from .raf import RelationAwareFusion
from .stripes import stripes_wanted
from .striping import Collected, Made

# Rows that two 3x3 convolutions see above and below.
_HALO = 2


def stripe_fusions(model: nn.Module, rows: int) -> None:
    """Let the fusions of a model run in stripes while predicting.

    The coarse map of a fusion is small and stays whole; of what the fusion
    makes on the fine grid, only the result exists in full. Taken over are
    :class:`LSAG` and :class:`RelationAwareFusion`; the second result of the
    latter, which only losses read, is not made.

    Args:
        model (nn.Module): Changed in place; its state dict stays as it is.
        rows (int): Fine rows at a time; even.
    """
    for module in model.modules():
        for kind, striped in _STRIPED.items():
            if type(module) is kind:
                module.forward = striped(module, rows)


class _Striped:
    """The forward pass of a fusion, in stripes while predicting.

    Args:
        module (nn.Module): The fusion.
        rows (int): Fine rows at a time.
    """

    def __init__(self, module: nn.Module, rows: int) -> None:
        self.module = module
        self.rows = rows
        self.forward = module.forward

    def __call__(self, first: Tensor, second: Any) -> Any:
        if not stripes_wanted(self.module):
            return self.forward(first, second)
        return self.fuse(first, second)

    def _join(
        self, fine: Tensor, part: Callable[[Tensor, int, int], Tensor]
    ) -> Tensor:
        """Make the result of the fine map's stripes.

        Args:
            fine (Tensor): (N, C, H, W).
            part (Callable): Makes of rows (N, C, h, W), of the number of the
                first one and of the last but one (N, D, h, W), wrong for two
                rows near ends that are not those of the map.

        Returns:
            Tensor: (N, D, H, W).
        """
        height = fine.shape[2]
        whole = Collected(height)
        for start in range(0, height, self.rows):
            stop = min(start + self.rows, height)
            top = max(start - _HALO, 0)
            bottom = min(stop + _HALO, height)
            made = part(fine[:, :, top:bottom], top, bottom)
            whole.push(made[:, :, start - top : stop - top])
        return whole.map


class _StripedLSAG(_Striped):
    """:class:`LSAG`."""

    def fuse(self, coarse: Tensor, shallow: Tensor) -> Tensor:
        """Graft (N, C, h, w) and (N, D, H, W)."""
        module = self.module
        shallow = module.project_shallow(shallow)
        align = _aligned(
            module.align, module.project_coarse(coarse), shallow.shape[2:]
        )

        def part(fine: Tensor, top: int, bottom: int) -> Tensor:
            aligned = align(fine, top, bottom)
            gate = module.gate(torch.cat((aligned, fine), dim=1)).sigmoid()
            return module.fuse(aligned + gate * fine)

        return self._join(shallow, part)


class _StripedRAF(_Striped):
    """:class:`RelationAwareFusion`."""

    def fuse(self, shallow: Tensor, deep: Tensor) -> tuple[Tensor, Made]:
        """Fuse (N, C, H, W) and (N, D, h, w)."""
        module = self.module
        shallow = module.shallow_conv(shallow)
        deep = module.deep_conv(deep)
        shallow_weight, deep_weight = module._weights(shallow, deep)
        deep = deep * deep_weight
        enlargement = enlargement_of(deep, shallow.shape[2:])

        def part(fine: Tensor, top: int, bottom: int) -> Tensor:
            x = enlargement.enlarge(deep, top, bottom).to(deep.dtype)
            x = module.enlarged_conv(x)
            return module.sum_conv(torch.addcmul(x, fine, shallow_weight))

        return self._join(shallow, part), Made([])


_STRIPED = {LSAG: _StripedLSAG, RelationAwareFusion: _StripedRAF}


def _aligned(
    align: nn.Module, coarse: Tensor, size: torch.Size
) -> Callable[[Tensor, int, int], Tensor]:
    """Return what brings a coarse map to rows of the fine grid.

    Args:
        align (nn.Module): How; one of the layers of :class:`LSAG`.
        coarse (Tensor): (N, C, h, w).
        size (torch.Size): ``(H, W)`` of the fine grid.

    Returns:
        Callable: Takes fine rows (N, C, rows, W), the number of the first one
        and that behind the last.
    """
    if isinstance(align, WindowAlign):
        return _window_aligned(align, coarse, size)
    enlargement = enlargement_of(coarse, size)

    def bilinear(fine: Tensor, top: int, bottom: int) -> Tensor:
        return enlargement.enlarge(coarse, top, bottom).to(coarse.dtype)

    def flow(fine: Tensor, top: int, bottom: int) -> Tensor:
        both = torch.cat((fine, bilinear(fine, top, bottom)), dim=1)
        offset = align.offset(align.mix(both))
        return warp(coarse, offset, top, size[0])

    return flow if isinstance(align, FlowAlign) else bilinear


def _window_aligned(
    align: WindowAlign, coarse: Tensor, size: torch.Size
) -> Callable[[Tensor, int, int], Tensor]:
    """Do so by attention to the coarse cells around; ``top`` is even."""
    h, w = (size[0] + 1) // 2, (size[1] + 1) // 2
    if coarse.shape[2:] != (h, w):
        coarse = upsample(coarse, (h, w))

    def window(fine: Tensor, top: int, bottom: int) -> Tensor:
        # One coarse row more on either side, and nothing for it.
        first, last = top // 2, (bottom + 1) // 2
        low, high = max(first - 1, 0), min(last + 1, h)
        missing = (
            2 * (first - low),
            min(2 * high, size[0]) - bottom,
        )
        padded = nn.functional.pad(fine, (0, 0, *missing))
        found = align(coarse[:, :, low:high], padded)
        return found[:, :, missing[0] : missing[0] + fine.shape[2]]

    return window

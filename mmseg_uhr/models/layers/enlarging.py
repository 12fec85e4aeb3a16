"""Bilinear resizing of maps, some rows at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Stripe:
    """Rows of an enlarged map, and where they come from.

    Attributes:
        rows (slice): Rows of the enlarged map.
        source (slice): Rows of the small map that they depend on.
        above (Tensor): For each row the one above it in ``source``, int64.
        below (Tensor): And the one below it.
        share (Tensor): What the one below contributes, (rows, 1).
        width (int): Columns of the enlarged map.
        align_corners (bool): As of ``F.interpolate``.
    """

    rows: slice
    source: slice
    above: Tensor
    below: Tensor
    share: Tensor
    width: int
    align_corners: bool

    def enlarge(self, slab: Tensor) -> Tensor:
        """Interpolate the rows of ``source`` (N, C, h, w), then columns."""
        x = torch.lerp(
            slab.index_select(2, self.above),
            slab.index_select(2, self.below),
            self.share,
        )
        if x.shape[3] == self.width:
            return x
        return F.interpolate(
            x,
            size=(x.shape[2], self.width),
            mode='bilinear',
            align_corners=self.align_corners,
        )


class Enlargement:
    """What ``F.interpolate(maps, size, mode='bilinear')`` does, by rows.

    Equal up to the rounding of sums. Maps of half precision are resized in
    float32.

    Args:
        height (int): Rows of the maps.
        size (Sequence[int]): ``(H, W)`` of the result.
        align_corners (bool): As of ``F.interpolate``.
        dtype (torch.dtype): Of the maps.
        device (torch.device): Of the maps.
    """

    def __init__(
        self,
        height: int,
        size: Sequence[int],
        align_corners: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.height = height
        self.size = tuple(size)
        self.align_corners = align_corners
        self.dtype = torch.promote_types(dtype, torch.float32)
        self.device = device
        self._above, self._share = _positions(
            height,
            size[0],
            align_corners,
            np.float64 if dtype == torch.float64 else np.float32,
        )

    def source(self, start: int, stop: int) -> slice:
        """Tell on which rows of the maps some rows of the result depend."""
        above = self._above[start:stop]
        return slice(
            int(above[0]), min(int(above[-1]) + 1, self.height - 1) + 1
        )

    def stripe(
        self, start: int, stop: int, source: slice | None = None
    ) -> Stripe:
        """Describe some rows of the result.

        Args:
            start (int): The first.
            stop (int): Behind the last.
            source (slice, optional): Rows of the maps that there are; those
                outside are replaced by the nearest one. Defaults to what
                :meth:`source` tells.

        Returns:
            Stripe: To enlarge the rows ``source`` of maps.
        """
        if source is None:
            source = self.source(start, stop)
        above = self._above[start:stop]
        below = np.minimum(above + 1, self.height - 1)
        last = source.stop - source.start - 1
        # From lists: works on fake tensors too.
        place = partial(torch.tensor, device=self.device)
        return Stripe(
            slice(start, stop),
            source,
            place((above - source.start).clip(0, last).tolist()),
            place((below - source.start).clip(0, last).tolist()),
            place(self._share[start:stop, None].tolist(), dtype=self.dtype),
            self.size[1],
            self.align_corners,
        )

    def stripes(self, rows: int) -> Iterator[Stripe]:
        """Cut the result into stripes of so many rows."""
        for start in range(0, self.size[0], rows):
            yield self.stripe(start, min(start + rows, self.size[0]))

    def enlarge(self, maps: Tensor, start: int, stop: int) -> Tensor:
        """Make some rows of the result.

        Args:
            maps (Tensor): (N, C, h, w), all rows.
            start (int): The first row wanted.
            stop (int): Behind the last.

        Returns:
            Tensor: (N, C, stop - start, W), at least float32.
        """
        stripe = self.stripe(start, stop)
        return stripe.enlarge(maps[:, :, stripe.source].to(self.dtype))


def enlargement_of(
    maps: Tensor, size: Sequence[int], align_corners: bool = False
) -> Enlargement:
    """Make the enlargement of maps (N, C, h, w) to ``size``."""
    return Enlargement(
        maps.shape[2], size, align_corners, maps.dtype, maps.device
    )


def _positions(
    source: int, target: int, align_corners: bool, dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    """Tell between which rows ``F.interpolate`` takes each row, and where.

    In PyTorch's own arithmetic: a scale of the type of the maps, and one
    rounding of the position. Otherwise positions in maps of hundreds of rows
    would differ by 1e-5 rows.

    Returns:
        tuple[np.ndarray, np.ndarray]: Index of the row above (target,), and
        the share of the row below (target,).
    """
    rows = np.arange(target, dtype=np.float64)
    if align_corners:
        scale = dtype(source - 1) / dtype(target - 1) if target > 1 else 0
        position = (float(scale) * rows).astype(dtype)
    else:
        scale = dtype(source) / dtype(target)
        position = (float(scale) * (rows + 0.5) - 0.5).astype(dtype)
        position = position.clip(min=0)
    above = np.minimum(np.floor(position).astype(np.int64), source - 1)
    return above, (position - above.astype(dtype)).clip(0, 1)

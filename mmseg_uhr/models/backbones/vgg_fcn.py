"""VGG-16 with the borders of FCN-8s."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ..layers.memory_format import fast_format
from ..layers.stripes import stripes_wanted

# Convolutions per stage of VGG-16, and the place of each in torchvision's
# `features`, by stage.
_DEPTHS = (2, 2, 3, 3, 3)
_TORCHVISION = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_STRIDE = 32
_PADDING = 100
# Rows after pooling that are computed at a time while predicting.
_ROWS = 32


class _Span(NamedTuple):
    """Rows or columns from ``begin`` to ``end``."""

    begin: int
    end: int


@MODELS.register_module()
class VGGFCN(BaseModule):
    """VGG-16 without batch norm, as FCN-8s has it.

    The first convolution pads by 100 pixels, so that a decoder of valid
    convolutions still covers the window, and the five poolings round up.
    Position k of the last map is centred on pixel 32 k - 83.5.

    Half of what the first layers see is that padding. What they make of it
    does not depend on the window, so while predicting it is computed once for
    a batch, on a small empty window, and the layers run on what the window
    reaches, a stripe of rows at a time. Results are the same up to rounding.

    Weights of torchvision's VGG-16 may be loaded as they are:
    ``init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16')``.

    Args:
        channels (Sequence[int]): Channels of the five stages.
        in_channels (int): Channels of the window.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.stages = nn.ModuleList()
        for depth, width in zip(_DEPTHS, channels, strict=True):
            stage = nn.ModuleList()
            for _ in range(depth):
                stage.append(nn.Conv2d(in_channels, width, 3, padding=1))
                in_channels = width
            self.stages.append(stage)
        self.stages[0][0].padding = (_PADDING, _PADDING)
        self._register_load_state_dict_pre_hook(_rename_torchvision)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode windows.

        Args:
            x (Tensor): (N, 3, H, W).

        Returns:
            tuple[Tensor, Tensor, Tensor]: Maps after the third, fourth and
            fifth pooling; 89, 45 and 23 pixels a side for 508.
        """
        if not stripes_wanted(self):
            return tuple(self._encode(x)[2:])
        x = x.contiguous(memory_format=fast_format(x))
        small = [_small(side) for side in x.shape[2:]]
        if small == list(x.shape[2:]):
            return tuple(self._encode(x)[2:])
        return self._predict(x, small)

    def _encode(self, x: Tensor, num_stages: int = 5) -> list[Tensor]:
        """Return the maps after each pooling, by the definition."""
        maps = []
        for stage in self.stages[:num_stages]:
            for conv in stage:
                x = F.relu_(conv(x))
            x = _pool(x)
            maps.append(x)
        return maps

    def _predict(
        self, x: Tensor, small: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode what the windows reach; take the rest from a small one."""
        frames = [None, *self._encode(x.new_zeros(1, x.shape[1], *small), 4)]
        # All layers pad by one; the rest of the padding is part of the input.
        pad = _PADDING - 1
        spans = [_Span(pad, pad + side) for side in x.shape[2:]]
        sizes = [side + 2 * pad for side in x.shape[2:]]
        maps = []
        for index, stage in enumerate(self.stages[:-1]):
            x, spans, sizes = _run_stage(stage, x, spans, sizes, frames[index])
            if index >= 2:
                whole = [_Span(0, size) for size in sizes]
                frame = frames[index + 1]
                maps.append(_in_frame(x, spans, whole, sizes, frame))
        # The last stage sees the window nearly everywhere.
        x = maps[-1]
        for conv in self.stages[-1]:
            x = F.relu_(conv(x))
        maps.append(_pool(x))
        return tuple(maps)


def _small(side: int) -> int:
    """Return the side of an empty window that has the same borders.

    The padding alone is wide enough for maps to have a middle that no border
    reaches, up to the fourth pooling. With the same remainder, poolings meet
    the far border alike.
    """
    return (side - 1) % _STRIDE + 1


def _in_frame(
    x: Tensor,
    spans: Sequence[_Span],
    wanted: Sequence[_Span],
    sizes: Sequence[int],
    frame: Tensor | None,
) -> Tensor:
    """Put a part of a map into what an empty window has around it.

    Args:
        x (Tensor): Part of the map (N, C, h, w).
        spans (Sequence[_Span]): Rows and columns of the part.
        wanted (Sequence[_Span]): Rows and columns to return, some of the part
            among them.
        sizes (Sequence[int]): Of the whole map.
        frame (Tensor, optional): Map of a small empty window (1, C, h', w');
            None for zeros.

    Returns:
        Tensor: (N, C, h'', w'').
    """
    if list(spans) == list(wanted):
        return x
    shape = (*x.shape[:2], *(end - begin for begin, end in wanted))
    out = torch.empty(
        shape,
        dtype=x.dtype,
        device=x.device,
        memory_format=fast_format(x),
    )
    if frame is None:
        out.zero_()
    else:
        for axis, (span, size) in enumerate(zip(wanted, sizes), start=2):
            index = torch.arange(*span, device=x.device)
            # The first half counts from the near border, the second one from
            # the far border; all between them is alike.
            least = frame.shape[axis]
            from_far = (index - (size - least)).clamp(min=least // 2)
            index = torch.where(index < least // 2, index, from_far)
            frame = frame.index_select(axis, index)
        out.copy_(frame)
    here, there = [], []
    for span, target in zip(spans, wanted):
        begin = max(span.begin, target.begin)
        end = min(span.end, target.end)
        here.append(slice(begin - span.begin, end - span.begin))
        there.append(slice(begin - target.begin, end - target.begin))
    out[:, :, there[0], there[1]] = x[:, :, here[0], here[1]]
    return out


def _run_stage(
    stage: nn.ModuleList,
    x: Tensor,
    spans: Sequence[_Span],
    sizes: Sequence[int],
    frame: Tensor | None,
) -> tuple[Tensor, list[_Span], list[int]]:
    """Convolve and pool the part of a map that the window reaches.

    Args:
        stage (nn.ModuleList): 3x3 convolutions.
        x (Tensor): Part of the stage's input (N, C, h, w).
        spans (Sequence[_Span]): Its rows and columns.
        sizes (Sequence[int]): Of the whole input.
        frame (Tensor, optional): The input of a small empty window.

    Returns:
        tuple[Tensor, list[_Span], list[int]]: The part of the output that
        depends on the window, its rows and columns, and the whole's size.
    """
    depth = len(stage)
    outs, needed = [], []
    for span, size in zip(spans, sizes):
        # Each convolution carries the window one pixel further. Poolings
        # begin at even pixels.
        begin = max(span.begin - depth, 0) // 2 * 2
        end = min(-(-(span.end + depth) // 2) * 2, size)
        outs.append(_Span(begin // 2, -(-end // 2)))
        needed.append(_Span(max(begin - depth, 0), min(end + depth, size)))
    parts = []
    rows = outs[0]
    for top in range(rows.begin, rows.end, _ROWS):
        bottom = min(top + _ROWS, rows.end)
        seen = _Span(
            max(2 * top - depth, 0), min(2 * bottom + depth, sizes[0])
        )
        part = _in_frame(x, spans, (seen, needed[1]), sizes, frame)
        part = _convolve(stage, part, (seen, needed[1]), sizes)
        # Where the map ends, convolutions pad and do not shrink it.
        first = 2 * top if seen.begin == 0 else 0
        part = part[:, :, first : first + 2 * (bottom - top)]
        left = 2 * outs[1].begin if needed[1].begin == 0 else 0
        width = 2 * (outs[1].end - outs[1].begin)
        part = part[:, :, :, left : left + width]
        parts.append(_pool(part))
    out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
    return out, outs, [-(-size // 2) for size in sizes]


def _convolve(
    stage: nn.ModuleList,
    x: Tensor,
    spans: Sequence[_Span],
    sizes: Sequence[int],
) -> Tensor:
    """Convolve a part of a map; pad only at the borders of the whole."""
    (top, bottom), (left, right) = (
        (int(span.begin == 0), int(span.end == size))
        for span, size in zip(spans, sizes)
    )
    for conv in stage:
        padding = (top, left)
        if (top, left) != (bottom, right):
            x = F.pad(x, (left, right, top, bottom))
            padding = (0, 0)
        x = F.relu_(F.conv2d(x, conv.weight, conv.bias, padding=padding))
    return x


def _pool(x: Tensor) -> Tensor:
    """Halve a map, rounding up."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def _rename_torchvision(state: dict, prefix: str, *_) -> None:
    """Give the names of torchvision's checkpoint our names, in place."""
    for i, stage in enumerate(_TORCHVISION):
        for j, index in enumerate(stage):
            for leaf in ('weight', 'bias'):
                old = f'{prefix}features.{index}.{leaf}'
                if old in state:
                    new = f'{prefix}stages.{i}.{j}.{leaf}'
                    state[new] = state.pop(old)

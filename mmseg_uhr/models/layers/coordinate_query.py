"""Query of coarse maps at fine positions by an MLP."""

import math
import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .conventions import BATCH_NORM, RELU

# Pixels of a stripe of the fine grid: the MLP's 512 channels of one take
# 16 MiB, whatever the size of the image.
_STRIPE_PIXELS = 8192


class Pointwise(ConvModule):
    """1x1 convolution with a bias, norm and activation.

    The bias before a norm does nothing, but the released weights of SGHRQ
    have it. Initialized as ``torch.nn.Conv2d`` initializes itself.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        norm_cfg (dict, optional): Norm config.
        act_cfg (dict): Activation config.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm_cfg: dict | None = BATCH_NORM,
        act_cfg: dict = RELU,
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Unnecessary conv bias')
            super().__init__(
                in_channels,
                out_channels,
                1,
                bias=True,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
            )

    def init_weights(self) -> None:
        """Initialize as plain PyTorch layers do."""
        self.conv.reset_parameters()
        if self.with_norm:
            self.norm.reset_parameters()


def nearest_cell(position: Tensor, cells: int, grid: int) -> Tensor:
    """Return the cell of a map that is nearest to each cell of a grid.

    Both cover the same extent and positions are those of cell centres. In
    integers, so that no rounding decides; a tie goes to the higher cell.

    Args:
        position (Tensor): Indices of the grid's cells (P,), integer.
        cells (int): Cells of the map.
        grid (int): Cells of the grid.

    Returns:
        Tensor: Indices of the map's cells (P,).
    """
    return (2 * position + 1) * cells // (2 * grid)


def relative_coordinate(position: Tensor, cells: int, grid: int) -> Tensor:
    """Return where a grid's cells lie in their nearest cells of a map.

    Args:
        position (Tensor): Indices of the grid's cells (P,), integer.
        cells (int): Cells of the map.
        grid (int): Cells of the grid.

    Returns:
        Tensor: Offsets from the centre of the nearest cell (P,), in half
        cells of the map, hence in [-1, 1]; float32, correctly rounded.
    """
    nearest = nearest_cell(position, cells, grid)
    # Numerator and denominator are integers below 2 ** 24: exact in float32.
    numerator = (2 * position + 1) * cells - (2 * nearest + 1) * grid
    return numerator.float() / grid


class PositionCode(nn.Module):
    """Learned sines and cosines of a relative coordinate.

    ``PE(r) = [r, sin(E r), cos(E r)]``, r ordered (y, x). E starts with a
    geometric row of frequencies for y and the same for x.

    Args:
        num_frequencies (int): Frequencies per axis at the start.
        max_frequency (float): The highest of them; the lowest is 1. Radians
            per half cell of the source map.
    """

    def __init__(self, num_frequencies: int = 6, max_frequency: float = 64.0):
        super().__init__()
        steps = torch.linspace(0, 1, num_frequencies)
        frequencies = max_frequency**steps
        emb = torch.zeros(2 * num_frequencies, 2)
        emb[:num_frequencies, 0] = frequencies
        emb[num_frequencies:, 1] = frequencies
        self.emb = nn.Parameter(emb)
        self.channels = 2 + 2 * len(emb)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Encode all pairs of coordinates.

        Args:
            y (Tensor): Vertical coordinates (Y,).
            x (Tensor): Horizontal coordinates (X,).

        Returns:
            Tensor: (Y, X, channels), at least in float32: half precision
            cannot hold the sine of 64 radians.
        """
        emb = self.emb.float()
        y, x = y[:, None, None], x[None, :, None]
        angle = y * emb[:, 0] + x * emb[:, 1]
        size = (*angle.shape[:2], 1)
        return torch.cat(
            [y.expand(size), x.expand(size), angle.sin(), angle.cos()], dim=-1
        )


class CoordinateQuery(BaseModule):
    """Predict the cells of a fine grid from what lies nearest in each map.

    SGHRQ (RA-L 2024), query module: for every cell of the grid of the first
    map the MLP gets, of each map, the position code of the cell relative to
    the nearest cell of the map and the value of that cell: ``[PE_1(r_1),
    v_1, PE_2(r_2), v_2, ...]``.

    The first layer is never evaluated on that concatenation. It is linear and
    sampling nearest cells commutes with it, so the values go through it on
    their own coarse grids. Relative coordinates repeat with the period
    ``N / gcd(N, n)``, so the codes go through it once per phase; they are the
    same for all images of a batch. What remains for the fine grid are sums.
    Without gradients the grid is worked off in stripes of rows, so that no
    map of the MLP exists in full.

    Args:
        in_channels (Sequence[int]): Channels of the maps; the first has the
            grid that is predicted.
        channels (Sequence[int]): Widths of the MLP's hidden layers.
        num_frequencies (int): See :class:`PositionCode`.
        max_frequency (float): See :class:`PositionCode`.
        norm_cfg (dict, optional): Norm config.
        act_cfg (dict): Activation config.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Sequence[int] = (512, 256, 256),
        num_frequencies: int = 6,
        max_frequency: float = 64.0,
        norm_cfg: dict | None = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.in_channels = tuple(in_channels)
        self.codes = nn.ModuleList(
            PositionCode(num_frequencies, max_frequency) for _ in in_channels
        )
        width = sum(self.in_channels) + sum(c.channels for c in self.codes)
        self.layers = nn.ModuleList()
        for out_channels in channels:
            self.layers.append(
                Pointwise(width, out_channels, norm_cfg, act_cfg)
            )
            width = out_channels

    def _stripe_rows(self, batch_size: int, grid: torch.Size) -> int:
        """Return the rows of the grid that are evaluated at a time."""
        whole = torch.is_grad_enabled() or not all(
            layer.norm is None
            or (isinstance(layer.norm, _BatchNorm) and not layer.norm.training)
            for layer in self.layers
        )
        if whole:
            return grid[0]
        return max(_STRIPE_PIXELS // (batch_size * grid[1]), 1)

    def _first_layer(self) -> tuple[Tensor, Tensor, Callable]:
        """Split the first layer into weight, bias and what follows.

        Statistics of a norm that do not depend on the input are folded into
        weight and bias.
        """
        layer = self.layers[0]
        weight, bias = layer.conv.weight.flatten(1), layer.conv.bias
        norm = layer.norm
        if norm is None:
            return weight, bias, layer.activate
        foldable = (
            isinstance(norm, _BatchNorm)
            and not norm.training
            and norm.track_running_stats
            and norm.affine
        )
        if not foldable:
            return weight, bias, lambda x: layer.activate(norm(x))
        gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias + gain * (bias - norm.running_mean)
        return weight * gain[:, None], bias, layer.activate

    def forward(self, maps: Sequence[Tensor], classify: Callable) -> Tensor:
        """Predict every cell of the first map's grid.

        Args:
            maps (Sequence[Tensor]): Maps (N, in_channels[l], h_l, w_l) of one
                extent.
            classify (Callable): Last layer of the MLP, from (N, channels[-1],
                h, w) to (N, out_channels, h, w), pixel by pixel.

        Returns:
            Tensor: (N, out_channels, h_1, w_1).
        """
        grid = maps[0].shape[2:]
        weight, bias, finish = self._first_layer()
        sizes = [
            size
            for code, channels in zip(self.codes, self.in_channels)
            for size in (code.channels, channels)
        ]
        parts = weight.split(sizes, dim=1)
        # (N, h_l * w_l, channels[0]); that of the first map would be as large
        # as the whole first layer and is made where it is needed.
        coarse = [
            F.linear(x.flatten(2).transpose(1, 2), part)
            for x, part in zip(maps[1:], parts[3::2])
        ]
        shapes = [x.shape[2:] for x in maps]
        columns = torch.arange(grid[1], device=maps[0].device)
        step = self._stripe_rows(maps[0].shape[0], grid)
        stripes = []
        for start in range(0, grid[0], step):
            fine = maps[0][:, :, start : start + step]
            rows = torch.arange(
                start, start + fine.shape[2], device=fine.device
            )
            # Channels last throughout: a cell is one run of memory.
            x = self._codes(rows, columns, shapes, parts[::2], bias)
            for values, shape in zip(coarse, shapes[1:]):
                cells = _pairs(
                    nearest_cell(rows, shape[0], grid[0]),
                    nearest_cell(columns, shape[1], grid[1]),
                    shape[1],
                )
                x = x + values.index_select(1, cells)
            pixels = fine.permute(0, 2, 3, 1).reshape(-1, fine.shape[1])
            x = torch.addmm(
                x.expand(fine.shape[0], -1, -1).flatten(0, 1),
                pixels,
                parts[1].t(),
            )
            x = x.view(fine.shape[0], *fine.shape[2:], -1).permute(0, 3, 1, 2)
            x = finish(x)
            for layer in self.layers[1:]:
                x = layer(x)
            stripes.append(classify(x))
        return stripes[0] if len(stripes) == 1 else torch.cat(stripes, dim=2)

    def _codes(
        self,
        rows: Tensor,
        columns: Tensor,
        shapes: Sequence[torch.Size],
        weights: Sequence[Tensor],
        bias: Tensor,
    ) -> Tensor:
        """Send the position codes of a stripe through the first layer.

        Args:
            rows (Tensor): Rows of the stripe (R,).
            columns (Tensor): Columns of the grid (W,).
            shapes (Sequence[torch.Size]): Sizes of the maps; the first is the
                grid.
            weights (Sequence[Tensor]): For each map (channels[0], code).
            bias (Tensor): Bias of the layer (channels[0],).

        Returns:
            Tensor: (R * W, channels[0]).
        """
        grid = shapes[0]
        phases = [
            positions[: math.lcm(*(_period(cells, total) for cells in axis))]
            for positions, total, axis in zip(
                (rows, columns), grid, zip(*shapes)
            )
        ]
        table = bias
        for code, shape, weight in zip(self.codes, shapes, weights):
            r = [
                relative_coordinate(
                    # One phase is enough where all are alike: it broadcasts.
                    phase[:1] if _period(cells, total) == 1 else phase,
                    cells,
                    total,
                )
                for phase, cells, total in zip(phases, shape, grid)
            ]
            table = table + F.linear(code(*r).to(weight.dtype), weight)
        table = table.expand(len(phases[0]), len(phases[1]), -1)
        table = table.flatten(0, 1)
        if len(table) == len(rows) * len(columns):
            return table
        repeats = _pairs(
            (rows - rows[0]) % len(phases[0]),
            columns % len(phases[1]),
            len(phases[1]),
        )
        return table.index_select(0, repeats)


def _period(cells: int, grid: int) -> int:
    """Return after how many of the grid's cells the offsets repeat."""
    return grid // math.gcd(cells, grid)


def _pairs(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Return the flat indices of all pairs in a map of that width."""
    return (rows[:, None] * width + columns).flatten()

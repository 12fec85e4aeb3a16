"""From region tokens to cells, and a 3x3 convolution of the result.

A region is a square of cells x cells fine positions. The association tells
how much of the tokens of the 3x3 regions around it each cell takes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def conv3x3_assigned(
    tokens: Tensor,
    association: Tensor,
    weight: Tensor,
    rows: int | None = None,
) -> Tensor:
    """Convolve the map that an association makes of tokens.

    The map of HLRC (RA-L 2025) is ``S[c, p] = sum_n A[n, p] T[c, R(p) + n]``
    with the region ``R(p)`` of a cell and its neighbours
    ``n``; tokens outside the grid are zero. The result equals ``conv2d(S,
    weight, padding=1)`` up to the order of sums, but S, which has as many
    channels as a token on the fine grid, never exists: both maps are linear
    in T, so the weight is applied to the tokens, tap by tap, and the cells
    mix the 9 * O results.

    Args:
        tokens (Tensor): T (N, C, h, w).
        association (Tensor): A (N, 9, s, s, h, w): neighbours row by row,
            cells of a region row by row.
        weight (Tensor): (O, C, 3, 3).
        rows (int, optional): Rows of regions that are mixed at a time, to
            bound the memory. By default all.

    Returns:
        Tensor: (N, O, s * h, s * w).
    """
    n, _, s, _, h, w = association.shape
    out_channels = weight.shape[0]
    # fold() adds the part of a tap at the place it points to, the convolution
    # wants it at the place it is pointed at from: taps in reverse order.
    taps = weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
    parts = F.conv2d(tokens, taps[..., None, None])
    # Channels last, one border of regions without a token.
    parts = F.pad(parts.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    out = None
    step = rows or h
    for top in range(0, h, step):
        bottom = min(top + step, h)
        near = parts[:, top : bottom + 2].unfold(1, 3, 1).unfold(2, 3, 1)
        near = near.flatten(4).flatten(0, 2)
        mix = association[..., top:bottom, :].permute(0, 4, 5, 1, 2, 3)
        cells = torch.bmm(near, mix.flatten(0, 2).flatten(2))
        cells = cells.view(n, bottom - top, w, -1, s, s)
        cells = cells.permute(0, 3, 1, 4, 2, 5).reshape(n, cells.shape[3], -1)
        # One row of cells more on either side, which belongs to the regions
        # above and below.
        size = (s * (bottom - top) + 2, s * w)
        part = F.fold(cells, size, 3, padding=(0, 1))
        if step == h:
            return part[:, :, 1:-1]
        if out is None:
            out = part.new_zeros(n, out_channels, s * h + 2, s * w)
        out[:, :, s * top : s * bottom + 2] += part
    return out[:, :, 1:-1]

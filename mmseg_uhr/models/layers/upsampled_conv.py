"""A 3x3 convolution of an up-sampled map, evaluated on the coarse grid."""

import torch
import torch.nn.functional as F
from torch import Tensor


def _shifted_interpolation(coarse: int, fine: int, like: Tensor) -> Tensor:
    """Matrix of linear interpolation at positions moved by -1, 0 and 1.

    Args:
        coarse (int): Positions that are interpolated, h.
        fine (int): Positions of the result, H.
        like (Tensor): Gives device and dtype.

    Returns:
        Tensor: (3 * h, H); what lies outside the fine grid is zero.
    """
    eye = torch.eye(coarse, device=like.device, dtype=like.dtype)
    matrix = F.interpolate(
        eye[None], size=fine, mode='linear', align_corners=False
    )[0]
    return (
        F.pad(matrix, (1, 1)).unfold(1, fine, 1).transpose(0, 1).flatten(0, 1)
    )


def conv3x3_upsampled(
    x: Tensor, weight: Tensor, size: tuple[int, int]
) -> Tensor:
    """Convolve a map that is bilinearly up-sampled to ``size``.

    Equals ``conv2d(interpolate(x, size), weight, padding=1)``, up to the
    order of sums. A convolution is the sum of nine shifted 1x1 convolutions,
    and a 1x1 convolution commutes with interpolation: the products are made
    on the coarse grid, and only their results are up-sampled and shifted, by
    one small matrix for the columns and one for the rows.

    Args:
        x (Tensor): (N, C, h, w).
        weight (Tensor): (O, C, 3, 3).
        size (tuple[int, int]): Fine height and width ``(H, W)``.

    Returns:
        Tensor: (N, O, H, W).
    """
    n, _, h, w = x.shape
    taps = weight.permute(2, 3, 0, 1).flatten(0, 2)[..., None, None]
    taps = F.conv2d(x, taps).reshape(n, 3, 3, -1, h, w)
    # (N, O, tap row, h, tap column * w) times (tap column * w, W).
    taps = taps.permute(0, 3, 1, 4, 2, 5).flatten(4)
    columns = taps @ _shifted_interpolation(w, size[1], taps)
    rows = _shifted_interpolation(h, size[0], taps)
    return rows.T @ columns.flatten(2, 3)

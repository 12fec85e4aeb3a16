"""What operations need for themselves while they run.

PyTorch's CPU kernels are modelled as they are observed to be. oneDNN's
convolutions copy inputs, results and weights into layouts whose channels are
padded to blocks; those of cuDNN, whose workspaces depend on the card, are
given the same room.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
# oneDNN's block of channels, by what the CPU can do.
_BLOCK = 16 if 'AVX512' in torch.backends.cpu.get_cpu_capability() else 8
# Up to this many channels, oneDNN reads an image as it is.
_PLAIN_CHANNELS = 3
# Largest kernel that oneDNN has a depthwise backward pass of its own for.
_DEPTHWISE = 3
# Output height plus width up to which enlarging copies into channels-last.
_SMALL_MAP = 128
_INDEX_BYTES = 8


def workspace_bytes(func: Any, args: tuple, out: Any) -> int:
    """Estimate what an operation allocates besides its results.

    Args:
        func (OpOverload): An operation of ATen.
        args (tuple): Its positional arguments.
        out (Any): Its results.

    Returns:
        int: Bytes; 0 for operations that need next to nothing.
    """
    estimate = _ESTIMATES.get(func)
    return 0 if estimate is None else estimate(args, out)


def result_bytes(func: Any, args: tuple, out: Tensor) -> int:
    """Tell how much memory a result occupies.

    Args:
        func (OpOverload): An operation of ATen.
        args (tuple): Its positional arguments.
        out (Tensor): Its result.

    Returns:
        int: Bytes.
    """
    size = out.untyped_storage().nbytes()
    if func is _aten.col2im.default:
        # Made in the size of the columns, and only then resized.
        return max(size, args[0].nbytes)
    return size


def _convolution(args: tuple, out: Tensor) -> int:
    """Layouts for a convolution."""
    x, weight, _, *geometry = args
    stride, _, _, transposed, _, groups = geometry
    if x.dim() != 4:
        return 0
    if transposed:
        return _columns(x, weight, 1)
    if not _uses_onednn(x, weight, geometry):
        return _columns(out, weight, len(x))
    if _channels_last(x):
        return 2 * weight.nbytes
    if _is_unblocked_group(x, out, groups):
        return out.nbytes
    read = 0 if x.shape[1] <= _PLAIN_CHANNELS and groups == 1 else _blocked(x)
    made = _blocked(out)
    # The result is copied once the copy of the input has gone.
    need = max(read + made + weight.nbytes - out.nbytes, made)
    if weight.shape[2:].numel() == 1 and math.prod(stride) > 1:
        need += _subsampled(x, stride)
    return need


def _convolution_backward(args: tuple, out: tuple) -> int:
    """Layouts for the gradients of a convolution."""
    grad, x, weight, _, *geometry = args[:10]
    stride, _, dilation, transposed, _, groups = geometry
    if x.dim() != 4:
        return 0
    if transposed:
        return _columns(x, weight, 1)
    if not _uses_onednn(x, weight, geometry):
        return _columns(grad, weight, len(x))
    if _channels_last(x):
        if groups == x.shape[1] and max(weight.shape[2:]) > _DEPTHWISE:
            # Each weight gets a block of its own.
            return _BLOCK**2 * weight.nbytes
        copies = 6 if _reaches_out(x, weight, dilation) else 4
        return copies * weight.nbytes
    if _is_unblocked_group(x, grad, groups):
        return grad.nbytes
    need = _blocked(x) + _blocked(grad) + weight.nbytes
    if _reaches_out(x, weight, dilation):
        need = 3 * need + 2 * weight.nbytes
    if weight.shape[2:].numel() == 1 and math.prod(stride) > 1:
        need += 3 * _subsampled(x, stride)
    return need


def _uses_onednn(x: Tensor, weight: Tensor, geometry: list[Any]) -> bool:
    """Tell whether oneDNN or a plain kernel convolves."""
    backend = torch._C._select_conv_backend(x, weight, None, *geometry)
    return backend != torch._C._ConvBackend.Slow2d


def _columns(maps: Tensor, weight: Tensor, count: int) -> int:
    """Pixels of all patches, as plain kernels lay them out.

    Args:
        maps (Tensor): With a patch for each of its pixels.
        weight (Tensor): Of the convolution.
        count (int): Images at a time.
    """
    if weight.shape[2:].numel() == 1:
        return 0
    patch = weight[0].numel()
    return count * patch * maps.shape[2:].numel() * maps.element_size()


def _blocked(x: Tensor) -> int:
    """Bytes of maps whose channels are padded to blocks."""
    channels = -(-x.shape[1] // _BLOCK) * _BLOCK
    return len(x) * channels * x.shape[2:].numel() * x.element_size()


def _reaches_out(x: Tensor, weight: Tensor, dilation: list[int]) -> bool:
    """Tell whether a dilated kernel is larger than the map."""
    return max(dilation) > 1 and any(
        step * (kernel - 1) >= side
        for step, kernel, side in zip(
            dilation, weight.shape[2:], x.shape[2:], strict=True
        )
    )


def _subsampled(x: Tensor, stride: list[int]) -> int:
    """Bytes of the pixels that a strided convolution by 1 x 1 looks at."""
    return x.nbytes // math.prod(stride)


def _is_unblocked_group(x: Tensor, out: Tensor, groups: int) -> bool:
    """Tell whether groups of channels fit no blocks."""
    if groups == 1 or x.shape[1] == out.shape[1] == groups:
        return False
    return any(maps.shape[1] // groups % _BLOCK for maps in (x, out))


def _channels_last(x: Tensor) -> bool:
    """Tell whether maps have their channels last in memory."""
    return not x.is_contiguous() and x.is_contiguous(
        memory_format=torch.channels_last
    )


def _upsample(args: tuple, out: Tensor) -> int:
    """Copies of a map and its enlarged version in the kernel's layout."""
    x = args[0]
    last = _channels_last(x)
    vectorised = (last and x.shape[1] > 3) or sum(out.shape[2:]) <= _SMALL_MAP
    return 0 if vectorised == last else x.nbytes + out.nbytes


def _masked(args: tuple, out: Tensor) -> int:
    """Numbers of the elements that masks select."""
    return sum(
        index.numel() * index.dim() * _INDEX_BYTES
        for index in args[1]
        if index is not None and index.dtype in (torch.bool, torch.uint8)
    )


def _sum(args: tuple, out: Tensor) -> int:
    """A copy of what is added, in the type of the sum."""
    x = args[0]
    return 0 if x.dtype == out.dtype else x.numel() * out.element_size()


_ESTIMATES: dict[Any, Callable[[tuple, Any], int]] = {
    _aten.convolution.default: _convolution,
    _aten.convolution_backward.default: _convolution_backward,
    _aten.upsample_bilinear2d.default: _upsample,
    _aten.upsample_nearest2d.default: _upsample,
    _aten.index.Tensor: _masked,
    _aten.index_put_.default: _masked,
    _aten.sum.default: _sum,
    _aten.sum.dim_IntList: _sum,
}

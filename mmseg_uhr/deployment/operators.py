"""Operators that PyTorch's exporter does not know, in standard ONNX.

The exporter calls these functions; ``opset18`` only writes down nodes, which
later versions have too.
"""

from collections.abc import Callable
from typing import Any

import torch


def translations() -> dict[Any, Callable]:
    """Return the translations, by PyTorch's operator.

    Returns:
        dict: For ``torch.onnx.export(custom_translation_table=...)``.
    """
    return {
        torch.ops.aten.sort.stable: _sort,
        torch.ops.aten.searchsorted.Tensor: _search_sorted,
    }


def _sort(
    self: Any,
    stable: bool | None = None,
    dim: int = -1,
    descending: bool = False,
) -> tuple[Any, Any]:
    """Sort; among equal values ``TopK`` promises the lower index first."""
    from onnxscript import opset18 as op

    axis = op.Constant(value_ints=[dim])
    return op.TopK(
        self,
        op.Gather(op.Shape(self), axis),
        axis=dim,
        largest=int(descending),
        sorted=1,
    )


def _search_sorted(
    sorted_sequence: Any,
    self: Any,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """Count how many of a sorted row are less (or equal) than each value."""
    from onnxscript import opset18 as op

    if sorter is not None or len(sorted_sequence.shape) != 1:
        raise NotImplementedError('searchsorted of other than one row')
    before = op.LessOrEqual if right or side == 'right' else op.Less
    value = op.Unsqueeze(self, op.Constant(value_ints=[-1]))
    kind = 6 if out_int32 else 7  # INT32, INT64 of ONNX
    return op.ReduceSum(
        op.Cast(before(sorted_sequence, value), to=kind),
        op.Constant(value_ints=[-1]),
        keepdims=0,
    )

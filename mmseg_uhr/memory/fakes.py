"""Models without memory: fake copies, and answers where values matter."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeCopyMode,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
# Of these, tensors are left as they are allocated: their values are random or
# constant, and no value matters.
_FILLING = {
    getattr(_aten, name)
    for name in (
        'uniform_',
        'normal_',
        'fill_',
        'zero_',
        'erfinv_',
        'mul_',
        'add_',
        'clamp_',
    )
}


class WithoutValues(TorchDispatchMode):
    """Leaves the parameters of models that are built without values.

    Memory that nobody writes is not used, so a model built this way is as
    good as one without memory, and is there in a moment. Constants that
    constructors compute are right.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        if func.overloadpacket in _FILLING and isinstance(
            args[0], nn.Parameter
        ):
            return args[0]
        return func(*args, **(kwargs or {}))


class WorstCase(TorchDispatchMode):
    """Answers for fake tensors where a program asks for their values.

    Selections take everything, counts are as high as they can get, and
    conditions hold. So memory is over-estimated, by what a program would not
    have selected.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            answer = _ANSWERS.get(func)
            if answer is None:
                raise
            return answer(*args, **kwargs)


def _item(x: Tensor) -> bool | int | float:
    """A number: true, or one."""
    if x.dtype == torch.bool:
        return True
    return 1.0 if x.is_floating_point() else 1


def _nonzero(x: Tensor) -> Tensor:
    """Everything is not zero."""
    return x.new_empty((x.numel(), x.dim()), dtype=torch.long)


def _masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """Everything is selected."""
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    return x.new_empty(shape.numel())


def _index(x: Tensor, indices: list[Tensor | None]) -> Tensor:
    """Masks select everything."""
    numbers: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            numbers += index.new_empty(
                (index.dim(), index.numel()), dtype=torch.long
            ).unbind()
        else:
            numbers.append(index)
    return _aten.index.Tensor(x, numbers)


def _bincount(
    x: Tensor, weights: Tensor | None = None, minlength: int = 0
) -> Tensor:
    """Nothing lies beyond the shortest length."""
    dtype = torch.long
    if weights is not None:
        single = weights.dtype == torch.float32
        dtype = torch.float32 if single else torch.float64
    return x.new_empty(max(minlength, 1), dtype=dtype)


def _repeat_interleave(x: Tensor, output_size: int | None = None) -> Tensor:
    """Every number of repetitions is one."""
    return x.new_empty(x.numel() if output_size is None else output_size)


_ANSWERS = {
    _aten._local_scalar_dense.default: _item,
    _aten.nonzero.default: _nonzero,
    _aten.masked_select.default: _masked_select,
    _aten.index.Tensor: _index,
    _aten.bincount.default: _bincount,
    _aten.repeat_interleave.Tensor: _repeat_interleave,
}


@contextmanager
def faked(model: nn.Module) -> Iterator[nn.Module]:
    """Copy a model without its memory, and make all tensors fake.

    Args:
        model (nn.Module): Stays as it is.

    Yields:
        nn.Module: The copy; what it computes has shapes but no values.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(fake):
        double = copy.deepcopy(model)
    with fake, WorstCase():
        yield double

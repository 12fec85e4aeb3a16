"""Local layers that make a map row by row, as the rows below them come."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .enlarging import Enlargement
from .laplacian import LaplacianInput
from .memory_format import fast_format, format_of

_aten = torch.ops.aten
_ROWS = 2


@dataclass(frozen=True)
class Reach:
    """Which rows of a map (N, C, H, W) the rows of another one depend on.

    Row i depends on rows ``i * stride - above`` to ``i * stride + below``.

    Attributes:
        stride (int): Rows per row of the result.
        above (int): Rows.
        below (int): Rows; may be negative.
        extra (int): The result has ``(H + extra) // stride + 1`` rows.
        multiple (int): A part of a map gives the same rows as the whole if
            it begins at a multiple of this, which ``stride`` divides.
    """

    stride: int = 1
    above: int = 0
    below: int = 0
    extra: int = -1
    multiple: int = 1

    def then(self, other: 'Reach') -> 'Reach':
        """Return the reach of another layer through this one."""
        multiple = self.stride * other.multiple
        while multiple % self.multiple:
            multiple += self.stride * other.multiple
        return Reach(
            self.stride * other.stride,
            self.above + self.stride * other.above,
            self.below + self.stride * other.below,
            self.extra + self.stride * (1 + other.extra),
            multiple,
        )

    def beside(self, other: 'Reach') -> 'Reach | None':
        """Return the reach of both at once; None if their rows differ."""
        if (self.stride, self.extra) != (other.stride, other.extra):
            return None
        return replace(
            self,
            above=max(self.above, other.above),
            below=max(self.below, other.below),
            multiple=math.lcm(self.multiple, other.multiple),
        )

    def rows(self, height: int) -> int:
        """Return how many rows become of ``height``."""
        return (height + self.extra) // self.stride + 1


def find_reach(
    module: nn.Module, channels: int, name: str
) -> tuple[Reach, int]:
    """Find out how far a module sees, or that it has no bounds.

    The module runs once on a small map. Every operation that it does is
    looked at: convolutions, pooling, norms with fixed statistics, and what is
    done pixel by pixel are local; all else, such as global means, attention
    and resizing, is not. No value is looked at.

    Args:
        module (nn.Module): In eval mode; takes and returns one map.
        channels (int): Of the map that it takes.
        name (str): What to call it.

    Returns:
        tuple[Reach, int]: Its reach, and the channels of its result.

    Raises:
        ValueError: If it is not local, with the name of the part and the
            operation.
    """
    if isinstance(module, LaplacianInput):
        return _reach_of_laplacian(module), channels * (
            module.pyramid.num_levels + module.keep_image
        )
    like = next(module.parameters(), torch.zeros(0))
    x = like.new_zeros(1, channels, 32, 16)
    where = _Where(module, name)
    tracker = _Tracker(x, where)
    try:
        with torch.no_grad(), tracker:
            out = module(x)
    finally:
        where.leave()
    reach = tracker.of(out) if isinstance(out, Tensor) else None
    if reach is None or out.dim() != x.dim():
        raise ValueError(_not_local(name, 'it does not return one map'))
    return reach, out.shape[1]


def _reach_of_laplacian(layer: LaplacianInput) -> Reach:
    """Return what the layer tells of itself.

    Levels of an odd number of rows are enlarged a little less than twice:
    below, one more row of the coarsest level is needed.
    """
    coarsest = 2 ** (layer.pyramid.num_levels - 1)
    return Reach(
        above=layer.reach,
        below=layer.reach + coarsest,
        multiple=layer.multiple,
    )


def _not_local(name: str, problem: str) -> str:
    """Say that a module cannot run in stripes."""
    return (
        f'{name} cannot run in stripes of rows, since {problem}: its rows '
        'depend on more than the rows around them'
    )


class _Where:
    """Knows which part of a module runs.

    Args:
        module (nn.Module): Gets hooks until :meth:`leave`.
        name (str): What to call it.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self._stack = [name]
        self._handles = []
        for child, part in module.named_modules(prefix=name):
            self._handles += [
                part.register_forward_pre_hook(
                    lambda *_, child=child: self._stack.append(child)
                ),
                part.register_forward_hook(lambda *_: self._end()),
            ]

    def __call__(self) -> str:
        return self._stack[-1]

    def _end(self) -> None:
        """A part has run."""
        self._stack.pop()

    def leave(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


class _Tracker(TorchDispatchMode):
    """Follows which rows of a map all tensors depend on.

    Args:
        x (Tensor): The map.
        where (Callable): Tells what runs, for messages.
    """

    def __init__(self, x: Tensor, where: Callable[[], str]) -> None:
        super().__init__()
        # With the tensors, whose identities would otherwise be used again.
        self._found: dict[int, tuple[Tensor, Reach]] = {id(x): (x, Reach())}
        self._where = where

    def of(self, x: Any) -> Reach | None:
        """Return the reach of a tensor; None if it has nothing of the map."""
        found = self._found.get(id(x))
        return None if found is None else found[1]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        sources = [
            leaf
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor) and self.of(leaf) is not None
        ]
        if not sources:
            return out
        step = _step(func, args, kwargs)
        if step is None or (step == Reach() and self._uneven(args)):
            self._refuse(func)
        reach = self._merge(func, sources).then(step)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._found[id(leaf)] = leaf, reach
        return out

    def _merge(self, func: Any, sources: Sequence[Tensor]) -> Reach:
        """Return the reach of several tensors at once."""
        reach = self.of(sources[0])
        for source in sources[1:]:
            reach = reach.beside(self.of(source))
            if reach is None:
                self._refuse(func)
        return reach

    def _uneven(self, args: tuple) -> bool:
        """Tell whether something else differs from row to row."""
        return any(
            isinstance(leaf, Tensor)
            and self.of(leaf) is None
            and leaf.dim() >= 2
            and leaf.shape[-2] > 1
            for leaf in tree_leaves(args)
        )

    def _refuse(self, func: Any) -> None:
        """Raise because of an operation."""
        operation = func.overloadpacket.__name__
        raise ValueError(
            _not_local(self._where(), f'{operation} is not local')
        )


def _step(func: Any, args: tuple, kwargs: dict) -> Reach | None:
    """Return the reach of an operation on maps; None if it is not local."""
    operation = func.overloadpacket
    if operation in _STEPS:
        return _STEPS[operation](*args, **kwargs)
    pointwise = torch.Tag.pointwise in func.tags or operation in _COPIES
    return Reach() if pointwise else None


def _window(
    kernel: int, stride: int, padding: int, dilation: int = 1
) -> Reach:
    """Return the reach of a moving window of rows."""
    span = dilation * (kernel - 1)
    return Reach(
        stride, padding, span - padding, 2 * padding - span - 1, stride
    )


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    *_: Any,
) -> Reach | None:
    """Of a 2D convolution."""
    if transposed or x.dim() != 4:
        return None
    return _window(weight.shape[2], stride[0], padding[0], dilation[0])


def _norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool = False,
    *_: Any,
) -> Reach | None:
    """Of a batch norm: local with statistics of its own."""
    return None if training is True or mean is None else Reach()


def _pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    *rest: Any,
) -> Reach | None:
    """Of a pooling layer."""
    return _window(kernel[0], (list(stride) or list(kernel))[0], padding[0])


def _average_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    *_: Any,
) -> Reach | None:
    """Of average pooling."""
    return None if ceil_mode else _pool(x, kernel, stride, padding)


def _max_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Reach | None:
    """Of maximum pooling."""
    if ceil_mode:
        return None
    stride = list(stride) or list(kernel)
    return _window(kernel[0], stride[0], padding[0], dilation[0])


def _along_channels(x: Any, *args: Any) -> Reach | None:
    """Of joining or cutting maps."""
    dim = args[-1] if len(args) > 1 else args[0] if args else 0
    return Reach() if dim in (1, -3) else None


def _slice(x: Tensor, dim: int = 0, *_: Any) -> Reach | None:
    """Of a part of the channels."""
    return Reach() if dim in (1, -3) else None


_STEPS: dict[Any, Callable[..., Reach | None]] = {
    _aten.convolution: _convolution,
    _aten.native_batch_norm: _norm,
    _aten.cudnn_batch_norm: _norm,
    _aten._native_batch_norm_legit_no_training: _norm,
    _aten.avg_pool2d: _average_pool,
    _aten.max_pool2d_with_indices: _max_pool,
    _aten.cat: _along_channels,
    _aten.split: _along_channels,
    _aten.split_with_sizes: _along_channels,
    _aten.slice: _slice,
    _aten._softmax: _slice,
}
_COPIES = {
    getattr(_aten, name)
    for name in ('clone', 'copy_', '_to_copy', 'detach', 'alias')
}


class RowsOf:
    """Makes the rows of a map as the rows of another one come.

    Args:
        function (Callable): Takes rows (N, C, h, W) of the map, and the
            number of the first one; returns what the whole would give, except
            near the ends of the rows.
        reach (Reach): Of the function.
        height (int): Rows of the map.
    """

    def __init__(
        self,
        function: Callable[[Tensor, int], Tensor],
        reach: Reach,
        height: int,
    ) -> None:
        self._function = function
        self._reach = reach
        self._height = height
        self._kept: Tensor | None = None
        # The first row kept, the first one not there yet, and the first row
        # of the result not made yet.
        self._first = self._next = self._done = 0
        self.total = reach.rows(height)

    def push(self, x: Tensor) -> Tensor | None:
        """Take the next rows (N, C, h, W), return those of the result."""
        if self._kept is not None:
            x = torch.cat((self._kept, x), dim=_ROWS)
        self._next = self._first + x.shape[_ROWS]
        reach = self._reach
        if self._next == self._height:
            ready = self.total
        else:
            ready = (self._next - 1 - reach.below) // reach.stride + 1
        if ready <= self._done:
            self._keep(x)
            return None
        out = self._function(x, self._first)
        skipped = self._first // reach.stride
        out = out[:, :, self._done - skipped : ready - skipped]
        self._done = ready
        self._keep(x)
        return out

    def _keep(self, x: Tensor) -> None:
        """Keep of the rows what will be needed again."""
        reach = self._reach
        first = max(self._done * reach.stride - reach.above, 0)
        first = first // reach.multiple * reach.multiple
        first = max(first, self._first)
        # A copy, so that the rest can go.
        self._kept = x[:, :, first - self._first :].clone()
        self._first = first


class Collected:
    """A map that is put together from its rows.

    Args:
        height (int): All rows.
    """

    def __init__(self, height: int) -> None:
        self._height = height
        self._next = 0
        self.map: Tensor | None = None

    def push(self, x: Tensor) -> None:
        """Take the next rows (N, C, h, W)."""
        if self.map is None:
            n, channels, _, width = x.shape
            self.map = torch.empty(
                (n, channels, self._height, width),
                dtype=x.dtype,
                device=x.device,
                memory_format=format_of(x),
            )
        self.map[:, :, self._next : self._next + x.shape[_ROWS]] = x
        self._next += x.shape[_ROWS]


@dataclass(frozen=True)
class LocalStep:
    """A layer of a local network.

    Attributes:
        layer (nn.Module): From one map to one map.
        reach (Reach): Of the layer.
        kept (bool): Whether the network returns its map.
    """

    layer: nn.Module
    reach: Reach
    kept: bool


def local_steps(
    network: nn.Module, channels: int, name: str
) -> list[LocalStep]:
    """Find out how far the layers of a network see.

    Args:
        network (nn.Module): In eval mode, with a method ``local_steps()``
            that returns its layers, one after the other, and whether it
            returns their maps.
        channels (int): Of its input.
        name (str): What to call it.

    Returns:
        list[LocalStep]: The layers.

    Raises:
        ValueError: If a layer is not local.
    """
    names = {
        id(part): child for child, part in network.named_modules(prefix=name)
    }
    found = []
    for layer, kept in network.local_steps():
        reach, channels = find_reach(layer, channels, names[id(layer)])
        found.append(LocalStep(layer, reach, kept))
    return found


class Made:
    """Stands for a map of which only results exist.

    Args:
        results (Sequence[tuple[nn.Module, Tensor]]): What modules make of the
            map; each is given out once.
    """

    def __init__(self, results: Sequence[tuple[nn.Module, Tensor]]) -> None:
        self._results = list(results)

    def take(self, module: nn.Module) -> Tensor:
        """Return what a module makes of the map, and forget it."""
        for i, (owner, result) in enumerate(self._results):
            if owner is module:
                del self._results[i]
                return result
        raise TypeError('this map does not exist while predicting in stripes')


class Tap:
    """Forward pass of a module whose result may have been made before.

    Args:
        module (nn.Module): Takes this as its ``forward``.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.forward = module.forward

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Give out what was made of a map, or make it."""
        if isinstance(x, Made):
            return x.take(self.module)
        return self.forward(x, *args, **kwargs)


class LocalNetwork:
    """A network of local layers that reads its input row by row.

    No map of the network exists in full but those that are asked for, and no
    row is made twice, apart from those at the seams within one layer.

    Args:
        steps (Sequence[LocalStep]): Its layers.
        taps (Sequence[Sequence[LocalStep]]): For each of its outputs, further
            layers that read it.
        needed (Sequence[bool]): For each of its outputs, whether it is itself
            needed.
        height (int): Rows of the input.
    """

    def __init__(
        self,
        steps: Sequence[LocalStep],
        taps: Sequence[Sequence[LocalStep]],
        needed: Sequence[bool],
        height: int,
    ) -> None:
        self._stages: list[tuple[RowsOf, int | None]] = []
        self._taps: list[list[tuple[nn.Module, RowsOf, Collected]]] = []
        self._maps: list[Collected | None] = []
        for step in steps:
            rows = RowsOf(_function(step.layer, height), step.reach, height)
            self._stages.append((rows, len(self._maps) if step.kept else None))
            height = rows.total
            if not step.kept:
                continue
            index = len(self._maps)
            self._maps.append(Collected(height) if needed[index] else None)
            self._taps.append([])
            for tap in taps[index]:
                rows = RowsOf(_function(tap.layer, height), tap.reach, height)
                collected = Collected(rows.total)
                self._taps[index].append((tap.layer, rows, collected))

    def push(self, x: Tensor) -> None:
        """Take the next rows (N, C, h, W) of the input."""
        x = x.contiguous(memory_format=fast_format(x))
        for rows, index in self._stages:
            x = rows.push(x)
            if x is None:
                return
            if index is None:
                continue
            if self._maps[index] is not None:
                self._maps[index].push(x)
            for _, tap, collected in self._taps[index]:
                made = tap.push(x)
                if made is not None:
                    collected.push(made)

    def finish(self) -> tuple[list[Tensor | None], list[Made | None]]:
        """Return the maps that are needed, and what was made of maps."""
        maps = [None if one is None else one.map for one in self._maps]
        made = [
            Made([(layer, found.map) for layer, _, found in taps])
            if taps
            else None
            for taps in self._taps
        ]
        self._maps, self._taps = [], []
        return maps, made


def _function(
    layer: nn.Module, height: int
) -> Callable[[Tensor, int], Tensor]:
    """Return what makes a layer's rows."""
    if isinstance(layer, LaplacianInput):
        return lambda x, first: laplacian_rows(layer, x, first, height)
    return lambda x, first: layer(x)


def laplacian_rows(
    layer: LaplacianInput, x: Tensor, first: int, height: int
) -> Tensor:
    """Make what the layer makes of a part of an image of any height.

    The layer itself enlarges its levels as if the part were the image, which
    is right for heights that its ``multiple`` divides.

    Args:
        layer (LaplacianInput): The layer.
        x (Tensor): Rows (N, C, h, W) of the image.
        first (int): The first row, a multiple of the layer's ``multiple``.
        height (int): Rows of the image.

    Returns:
        Tensor: (N, levels * C, h, W); wrong within the layer's reach of rows
        that are missing.
    """
    parts = [x] if layer.keep_image else []
    for number, level in enumerate(layer.pyramid(x)):
        if number:
            rows = -(-height // 2**number)
            start = first // 2**number
            enlargement = Enlargement(
                rows, (height, x.shape[3]), False, x.dtype, x.device
            )
            stripe = enlargement.stripe(
                first,
                first + x.shape[_ROWS],
                slice(start, start + level.shape[_ROWS]),
            )
            level = stripe.enlarge(level)
        parts.append(level)
    # With the channels last, where convolutions want them so.
    out = torch.empty(
        (len(x), x.shape[1] * len(parts), *x.shape[2:]),
        dtype=x.dtype,
        device=x.device,
        memory_format=fast_format(x),
    )
    for part, target in zip(parts, out.split(x.shape[1], dim=1)):
        target.copy_(part)
    return out

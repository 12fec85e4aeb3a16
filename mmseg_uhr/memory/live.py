"""How many bytes of tensors are alive, and which."""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .workspace import result_bytes, workspace_bytes


@dataclass
class Block:
    """The memory of a tensor and its views.

    Attributes:
        bytes (int): Size.
        shape (tuple[int]): Of the tensor that was made first.
        dtype (torch.dtype): Likewise.
        place (str): Where it was made.
        born (int): Number of the operation that made it.
        died (int, optional): Number of the last operation before its release.
            None: alive.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    place: str
    born: int
    died: int | None = None


class LiveBytes(TorchDispatchMode):
    """Follow the bytes of all tensor storages made while it is active.

    A storage counts once, whatever views share it, from the operation that
    makes it to its release. Real and fake tensors count alike. What an
    operation needs besides its results counts while it runs, see
    :func:`~mmseg_uhr.memory.workspace.workspace_bytes`.

    Args:
        ignored (Iterable[Tensor]): Tensors whose storages do not count.
        place (Callable, optional): Tells where the program is, to name the
            place of the peak. Defaults to the operations alone.
        workspaces (bool): Whether to count what operations need besides their
            results. Defaults to True.

    Attributes:
        peak (int): Highest number of bytes alive at a time.
        peak_place (str): Where that was.
        now (int): Bytes alive.
    """

    def __init__(
        self,
        ignored: Iterable[Tensor] = (),
        place: Callable[[], str] | None = None,
        workspaces: bool = True,
    ) -> None:
        super().__init__()
        # Kept alive: an address may be used again after a release.
        self._ignored = [tensor.untyped_storage() for tensor in ignored]
        self._known = {storage._cdata: None for storage in self._ignored}
        self._blocks: dict[int, Block] = {}
        self._all: list[Block] = []
        self._place = place or (lambda: '')
        self._workspaces = workspaces
        self._clock = self._peak_clock = 0
        self.now = self.peak = 0
        self.peak_place = ''

    def _add(self, tensor: Tensor, place: str, size: int) -> None:
        """Count the storage of a tensor."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        block = Block(
            size, tuple(tensor.shape), tensor.dtype, place, self._clock
        )

        def release(_: weakref.ref) -> None:
            del self._known[address]
            del self._blocks[address]
            block.died = self._clock
            self.now -= size

        self._known[address] = weakref.ref(storage, release)
        self._blocks[address] = block
        self._all.append(block)
        self.now += size

    def block_of(self, tensor: Tensor) -> Block | None:
        """Return what is known of a tensor; None if it does not count."""
        return self._blocks.get(tensor.untyped_storage()._cdata)

    def alive_at_peak(self) -> list[Block]:
        """list[Block]: What was alive at the peak, the largest first."""
        alive = [
            block
            for block in self._all
            if block.born <= self._peak_clock
            and (block.died is None or block.died >= self._peak_clock)
        ]
        return sorted(alive, key=lambda block: -block.bytes)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._clock += 1
        place = ''
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and not self._counts(leaf):
                place = place or self._describe(func)
                self._add(leaf, place, result_bytes(func, args, leaf))
        extra = workspace_bytes(func, args, out) if self._workspaces else 0
        if self.now + extra > self.peak:
            self.peak = self.now + extra
            self.peak_place = place or self._describe(func)
            self._peak_clock = self._clock
        return out

    def _counts(self, tensor: Tensor) -> bool:
        """Tell whether a tensor's storage is known."""
        return tensor.untyped_storage()._cdata in self._known

    def _describe(self, func: Any) -> str:
        """Name an operation and its place."""
        name = func.overloadpacket.__name__
        place = self._place()
        return f'{place}: {name}' if place else name

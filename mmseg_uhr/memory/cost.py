"""What a model costs, without running it: operations, weights, memory."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..tiling import View, Window
from ..tiling.views import LOCAL

_MIB = 2**20


@dataclass(frozen=True)
class ModelCost:
    """Cost of one prediction.

    Attributes:
        size (tuple[int, int]): Height and width of the input, pixels.
        batch_size (int): Images per batch.
        gmacs (float): Multiply-accumulates of convolutions, matrix products
            and attention, 1e9. Element-wise operations and resampling are not
            counted.
        mparams (float): Parameters, 1e6.
        training_mparams (float): Those of them that only training uses
            (auxiliary heads), 1e6.
        peak_mib (float): Highest sum of live activations, MiB: input, every
            intermediate tensor and the logits at full size; without weights,
            workspace inside an operation and allocator slack.
    """

    size: tuple[int, int]
    batch_size: int
    gmacs: float
    mparams: float
    training_mparams: float
    peak_mib: float


class LiveBytes(TorchDispatchMode):
    """Follow the bytes of all tensor storages made while it is active.

    A storage counts once, whatever views share it, from the operation that
    makes it to its release.

    Args:
        ignored (list[Tensor]): Tensors whose storages do not count.

    Attributes:
        peak (int): Highest number of bytes alive after an operation.
    """

    def __init__(self, ignored: list[Tensor]):
        super().__init__()
        # Kept alive: an address may be used again after a release.
        self._ignored = [tensor.untyped_storage() for tensor in ignored]
        self._known = {storage._cdata: None for storage in self._ignored}
        self._now = 0
        self.peak = 0

    def add(self, tensor: Tensor) -> None:
        """Count the storage of a tensor unless it is known."""
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._known:
            return

        def release(_: weakref.ref) -> None:
            del self._known[address]
            self._now -= size

        self._known[address] = weakref.ref(storage, release)
        self._now += size
        self.peak = max(self.peak, self._now)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out


def _cpu_attention_flops(
    query: torch.Size, key: torch.Size, value: torch.Size, *args, **kwargs
) -> int:
    """Operations of attention on a CPU, which torch does not count."""
    return sdpa_flop_count(query, key, value)


def model_cost(
    model: nn.Module,
    size: tuple[int, int],
    batch_size: int = 1,
    channels: int = 3,
) -> ModelCost:
    """Measure ``model.encode_decode`` on fake tensors.

    A model with several views gets all of them; one of the whole scene at
    the size that it names, or as if the window were the scene.

    Nothing is computed and no activation is allocated, so any size takes
    about a second. The model stays as it is, on its device and in its
    precision.

    Args:
        model (nn.Module): A segmentor with ``encode_decode(inputs, metas)``.
        size (tuple[int, int]): Height and width of the window as the network
            sees it, pixels.
        batch_size (int): Images per batch.
        channels (int): Channels of the input.

    Returns:
        ModelCost: In eval mode, without gradients.
    """
    weights = [*model.parameters(), *model.buffers()]
    training = model.training
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    flops = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
                _cpu_attention_flops
            )
        },
    )
    model.eval()
    try:
        with fake, flops, torch.no_grad():
            live = LiveBytes([fake.from_tensor(weight) for weight in weights])
            with live:
                inputs, meta = _make_inputs(
                    model, tuple(size), (batch_size, channels), weights[0]
                )
                model.encode_decode(inputs, [meta] * batch_size)
    finally:
        model.train(training)
    extra = getattr(model, 'auxiliary_head', None)
    return ModelCost(
        size=tuple(size),
        batch_size=batch_size,
        gmacs=flops.get_total_flops() / 2e9,
        mparams=_count(model) / 1e6,
        training_mparams=0.0 if extra is None else _count(extra) / 1e6,
        peak_mib=live.peak / _MIB,
    )


def _make_inputs(
    model: nn.Module,
    size: tuple[int, int],
    rest: tuple[int, int],
    like: Tensor,
) -> tuple[Tensor | dict[str, Tensor], dict[str, Any]]:
    """Make what a model sees of windows, and the metainfo of one."""
    views = getattr(model, 'views', None) or {LOCAL: View()}
    window = Window(0, 0, *size)
    inputs, boxes = {}, {}
    for name, view in views.items():
        region = view.region_of(window, size)
        seen = size if name == LOCAL else view.size_of(region)
        inputs[name] = like.new_empty(*rest, *seen)
        boxes[name] = window.box_in(region)
    meta = dict(
        img_shape=size, ori_shape=size, pad_shape=size, view_boxes=boxes
    )
    return inputs[LOCAL] if len(inputs) == 1 else inputs, meta


def _count(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())

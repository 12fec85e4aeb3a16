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

    Nothing is computed and no activation is allocated, so any size takes
    about a second. The model stays as it is, on its device and in its
    precision.

    Args:
        model (nn.Module): A segmentor with ``encode_decode(inputs, metas)``.
        size (tuple[int, int]): Height and width of the input, pixels.
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
                inputs = torch.empty(
                    batch_size,
                    channels,
                    *size,
                    device=weights[0].device,
                    dtype=weights[0].dtype,
                )
                shape = dict(
                    img_shape=tuple(size),
                    ori_shape=tuple(size),
                    pad_shape=tuple(size),
                )
                model.encode_decode(inputs, [shape] * batch_size)
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


def _count(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())

"""What a model costs, without running it: operations, weights, memory."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from .fakes import faked
from .inputs import make_inputs
from .live import LiveBytes

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
    flops = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
                _cpu_attention_flops
            )
        },
    )
    with faked(model) as double, flops, torch.no_grad():
        double.eval()
        weights = [*double.parameters(), *double.buffers()]
        live = LiveBytes(weights, workspaces=False)
        with live:
            inputs, meta = make_inputs(
                double, tuple(size), batch_size, channels, weights[0]
            )
            double.encode_decode(inputs, [meta] * batch_size)
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

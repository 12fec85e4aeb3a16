"""One step of a model, on real or fake tensors, with its bytes followed."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from .inputs import make_inputs, make_samples
from .live import LiveBytes
from .places import Places

PRECISIONS = {
    'fp32': None,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}


@dataclass(frozen=True)
class Work:
    """What a model does.

    Attributes:
        mode (str): ``'predict'``: ``encode_decode`` of a batch of windows;
            ``'train'``: losses, backward pass and, with an optimizer, step.
        precision (str): ``'fp32'``, or ``'fp16'`` or ``'bf16'`` by autocast.
        optimizer (Mapping, optional): Config of an optimizer, or of an
            optimizer wrapper, for training.
        channels (int): Channels of the input.

    Raises:
        ValueError: If a value is unknown.
    """

    mode: str = 'predict'
    precision: str = 'fp32'
    optimizer: Mapping[str, Any] | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        if self.mode not in ('predict', 'train'):
            raise ValueError(
                f"mode={self.mode!r}: expected 'predict' or 'train'"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(
                f'precision={self.precision!r}: expected one of '
                f'{tuple(PRECISIONS)}'
            )


@dataclass(frozen=True)
class Found:
    """What a step of a model needed.

    Attributes:
        live (LiveBytes): All but the next three.
        parameters (int): Bytes.
        buffers (int): Bytes.
        optimizer_state (int): Bytes.
        gradients (int): Those of ``live`` at the peak that are gradients of
            parameters, bytes.
    """

    live: LiveBytes
    parameters: int
    buffers: int
    optimizer_state: int
    gradients: int


def try_step(
    model: nn.Module, size: tuple[int, int], batch_size: int, work: Work
) -> Found:
    """Run one step as it is in the midst of a run.

    Args:
        model (nn.Module): A segmentor; is changed: hooks, mode, and in
            training weights and gradients.
        size (tuple[int]): ``(h, w)`` of the windows, pixels.
        batch_size (int): Windows.
        work (Work): What it does.

    Returns:
        Found: Its bytes.
    """
    training = work.mode == 'train'
    model.train(training)
    places = Places(model)
    wrapper = _optimizer(model, work.optimizer) if training else None
    state = [] if wrapper is None else _states(wrapper.optimizer)
    weights = list(model.parameters())
    buffers = list(model.buffers())
    live = LiveBytes([*weights, *buffers, *state], places)
    if wrapper is not None and wrapper._accumulative_counts > 1:
        # Gradients of the batches before.
        with live:
            for weight in weights:
                if weight.requires_grad:
                    weight.grad = torch.zeros_like(weight)
    with live, torch.set_grad_enabled(training):
        if training:
            gradients = _train(model, size, batch_size, work, wrapper, places)
        else:
            gradients = []
            _predict(model, size, batch_size, work)
    at_peak = live.alive_at_peak()
    known = {id(block) for block in map(live.block_of, gradients)}
    return Found(
        live,
        _bytes(weights),
        _bytes(buffers),
        _bytes(state),
        sum(block.bytes for block in at_peak if id(block) in known),
    )


def _predict(
    model: nn.Module, size: tuple[int, int], batch_size: int, work: Work
) -> None:
    """Predict a batch of windows."""
    like = next(model.parameters())
    inputs, meta = make_inputs(model, size, batch_size, work.channels, like)
    with _autocast(like.device, work.precision):
        model.encode_decode(inputs, [meta] * batch_size)


def _train(
    model: nn.Module,
    size: tuple[int, int],
    batch_size: int,
    work: Work,
    wrapper: OptimWrapper | None,
    places: Places,
) -> list[Tensor]:
    """Train on a batch; return the gradients."""
    like = next(model.parameters())
    inputs, meta = make_inputs(model, size, batch_size, work.channels, like)
    samples = make_samples(meta, batch_size, like.device)
    with _autocast(like.device, work.precision):
        losses = model.loss(inputs, samples)
    loss, log = model.parse_losses(losses)
    loss.backward()
    gradients = [
        weight.grad for weight in model.parameters() if weight.grad is not None
    ]
    if wrapper is not None:
        places.stage = 'optimizer step'
        wrapper.step()
    return gradients


def _optimizer(
    model: nn.Module, cfg: Mapping[str, Any] | None
) -> OptimWrapper | None:
    """Build an optimizer that has made a step, so that it has its state."""
    if cfg is None:
        return None
    if 'optimizer' not in cfg:
        cfg = dict(optimizer=cfg)
    # Precision is a matter of the forward pass alone; rates and decays of
    # single parameters take no memory.
    kept = ('optimizer', 'clip_grad', 'accumulative_counts')
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper', **{k: v for k, v in cfg.items() if k in kept}
        ),
    )
    for weight in model.parameters():
        if weight.requires_grad:
            weight.grad = torch.zeros_like(weight)
    wrapper.optimizer.step()
    wrapper.zero_grad()
    return wrapper


def _states(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """List the tensors that an optimizer keeps."""
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]


def _autocast(device: torch.device, precision: str) -> Any:
    """Return the context of a forward pass."""
    dtype = PRECISIONS[precision]
    if dtype is None:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def _bytes(tensors: list[Tensor]) -> int:
    """Add the bytes of tensors, shared ones once."""
    sizes = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in tensors
    }
    return sum(sizes.values())

"""How windows go through the network: precision, memory order, compiled."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ...memory.trial import PRECISIONS
from ...tiling.views import LOCAL
from .batch_norms import fold_batch_norms

# What the network, not the caller, may know of a window: a compiled network
# is compiled again where this changes.
_CONSTANT_META = ('img_shape', 'pad_shape', 'ori_shape')


class Execution:
    """Runs the forward pass of windows, and nothing else of a prediction.

    Reading, normalising and the sums of logits do not depend on it. With
    ``'fp32'`` whatever surrounds the prediction holds, such as the
    autocast of MMEngine's ``TestLoop(fp16=True)``.

    Args:
        model (nn.Module): In eval mode and on its device; changed in place
            by ``channels_last`` and ``compile``, for good.
        precision (str): ``'fp32'``, or ``'fp16'`` or ``'bf16'``, autocast by
            PyTorch. Defaults to ``'fp32'``.
        channels_last (bool): Whether channels come last in memory.
        compile (bool): Whether ``torch.compile`` makes the forward pass
            faster, once for each shape of a batch: at most two for windows
            of one size. Where it cannot, the model runs as it is.

    Attributes:
        precision (str): As given.

    Raises:
        ValueError: If the precision is unknown or not for this device.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: str = 'fp32',
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(
                f'precision={precision!r}: expected one of {tuple(PRECISIONS)}'
            )
        on_cpu = all(
            weight.device.type == 'cpu' for weight in model.parameters()
        )
        if precision == 'fp16' and on_cpu:
            raise ValueError(
                "precision='fp16' is not for CPUs, which compute in it slower "
                "than in fp32 or not at all: use 'bf16', or a GPU"
            )
        self.precision = precision
        self._dtype = PRECISIONS[precision]
        self._channels_last = channels_last
        self._compiled: Callable | None = None
        if channels_last:
            model.to(memory_format=torch.channels_last)
        if compile:
            # mmcv's way of scaling weights replaces `conv.forward`.
            fold_batch_norms(model)
            self._compile()

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """Return the context for a forward pass on a device."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(device.type, self._dtype)

    def arrange(self, maps: Tensor) -> Tensor:
        """Return maps (N, C, H, W) in the order of memory wanted."""
        if not self._channels_last:
            return maps
        return maps.contiguous(memory_format=torch.channels_last)

    def __call__(
        self, model: nn.Module, inputs: Any, metas: Sequence[dict]
    ) -> Tensor:
        """Predict windows.

        Args:
            model (nn.Module): With ``encode_decode``.
            inputs (Tensor | dict[str, Any]): What it takes, on its device.
            metas (Sequence[dict]): Metainfo of the windows.

        Returns:
            Tensor: Logits (N, classes, H, W), of the autocast's type.
        """
        local = inputs if isinstance(inputs, Tensor) else inputs[LOCAL]
        with self.autocast(local.device):
            if self._compiled is None:
                return model.encode_decode(inputs, list(metas))
            constant = [
                {name: meta[name] for name in _CONSTANT_META} for meta in metas
            ]
            try:
                return self._compiled(model, inputs, constant)
            except _compiler_errors() as error:
                self._give_up(error)
            return model.encode_decode(inputs, list(metas))

    def _compile(self) -> None:
        """Wrap the forward pass; the first call of each shape compiles."""
        try:
            self._compiled = torch.compile(_encode_decode, dynamic=False)
        except RuntimeError as error:
            # Of a Python that is too new for this PyTorch.
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Go on without compiling, and say so."""
        self._compiled = None
        # What follows are hints for developers of PyTorch.
        reason = ' '.join(str(error).partition('Set TORCH')[0].split())
        print_log(
            'The model cannot be compiled here and runs as it is '
            f'({type(error).__name__}: {reason[:300]}). '
            'torch.compile needs a C++ compiler on CPUs and Triton on GPUs; '
            'leave out compile to be rid of this warning.',
            logger='current',
            level=30,
        )


def _compiler_errors() -> type[Exception]:
    """Return the base of what ``torch.compile`` raises by itself."""
    # Importing it takes a second, which only those who compile should spend.
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException


def _encode_decode(model: nn.Module, inputs: Any, metas: list[dict]) -> Tensor:
    """Call the model's method: what is compiled."""
    return model.encode_decode(inputs, metas)

"""Ways to train in less memory that lose nothing."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import ConfigDict
from torch import nn

from ..memory.fakes import faked
from ..memory.live import Block
from ..memory.trial import Work, try_step
from ..models.segmentors import streaming_type

LOSS_ROWS = 128
# A module that is computed again has all its activations at a time: none may
# hold more than this share of all.
_SHARE = 1 / 2
_FORWARD = 'forward of '


@dataclass(frozen=True)
class Savings:
    """Fields of ``train_cfg`` that a segmentor gets besides its own.

    Attributes:
        loss_rows (int, optional): Rows of the stripes of losses.
        checkpoint (tuple[str]): Modules whose activations are computed again.
    """

    loss_rows: int | None = None
    checkpoint: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Savings()

    @property
    def train_cfg(self) -> dict[str, Any]:
        """dict: What is set of it."""
        fields: dict[str, Any] = {}
        if self.loss_rows is not None:
            fields['loss_rows'] = self.loss_rows
        if self.checkpoint:
            fields['checkpoint'] = list(self.checkpoint)
        return fields

    @property
    def notes(self) -> tuple[str, ...]:
        """tuple[str]: What they do."""
        notes: tuple[str, ...] = ()
        if self.loss_rows is not None:
            notes += ('losses in stripes of rows: same losses and gradients',)
        if self.checkpoint:
            notes += (
                f'{len(self.checkpoint)} modules are computed again in the '
                'backward pass: same losses and gradients, slower',
            )
        return notes

    def apply(self, cfg: ConfigDict) -> ConfigDict:
        """Return the config of a segmentor with these savings.

        Args:
            cfg (ConfigDict): Of a segmentor that has a
                :func:`~mmseg_uhr.models.segmentors.streaming_type`.

        Returns:
            ConfigDict: A copy.
        """
        if not self:
            return cfg
        return ConfigDict(
            cfg,
            type=streaming_type(cfg),
            train_cfg={**(cfg.get('train_cfg') or {}), **self.train_cfg},
        )


def heavy_modules(
    model: nn.Module, size: tuple[int, int], batch_size: int, work: Work
) -> list[str]:
    """Choose modules whose activations may be computed again.

    Args:
        model (nn.Module): Stays as it is.
        size (tuple[int]): ``(h, w)`` of the windows, pixels.
        batch_size (int): Windows.
        work (Work): A step of training.

    Returns:
        list[str]: Names of modules that are called as one, none within
        another one; the one whose activations are the largest at the peak
        first. Empty if the model cannot run on fake tensors.
    """
    called: set[str] = set()
    try:
        with faked(model) as double:
            for name, module in double.named_modules():
                # Of a single operation, or none with weights, nothing is
                # kept that others would not keep.
                if _is_block(module):
                    _note_call(module, name, called)
            found = try_step(double, size, batch_size, work)
    except Exception:
        # Whatever a model may raise: its plan is an estimate.
        return []
    held = _bytes_by_module(found.live.alive_at_peak())
    limit = sum(count for _, count in held) * _SHARE
    within: dict[str, int] = defaultdict(int)
    for name, count in held:
        for outer in _outer_modules(name):
            within[outer] += count
    chosen: dict[str, int] = {}
    for name, _ in held:
        for outer in _outer_modules(name):
            # Parts of the segmentor itself are too large by their nature.
            if '.' in outer and outer in called and within[outer] <= limit:
                chosen[outer] = within[outer]
                break
    return sorted(chosen, key=lambda name: (-chosen[name], name))


def accepted(
    names: Sequence[str], works: Callable[[Sequence[str]], bool]
) -> list[str]:
    """Leave out modules that cannot be computed again.

    Args:
        names (Sequence[str]): Modules.
        works (Callable): Whether a step works with these computed again.

    Returns:
        list[str]: Those left, in order.
    """
    if not names or works(names):
        return list(names)
    if len(names) == 1:
        return []
    middle = len(names) // 2
    return accepted(names[:middle], works) + accepted(names[middle:], works)


def _is_block(module: nn.Module) -> bool:
    """Tell whether a module consists of layers with weights."""
    inner, *_ = *module.children(), None
    weight, *_ = *module.parameters(), None
    return inner is not None and weight is not None


def _note_call(module: nn.Module, name: str, called: set[str]) -> None:
    """Remember modules that are called; others just hold modules."""
    module.register_forward_pre_hook(lambda *_: called.add(name))


def _bytes_by_module(blocks: Sequence[Block]) -> list[tuple[str, int]]:
    """List what modules made in the forward pass: name and bytes."""
    return [
        (block.place[len(_FORWARD) :].rpartition(': ')[0], block.bytes)
        for block in blocks
        if block.place.startswith(_FORWARD)
    ]


def _outer_modules(name: str) -> list[str]:
    """List a module and those that hold it, the outermost first."""
    parts = name.split('.')
    return ['.'.join(parts[: i + 1]) for i in range(len(parts))]

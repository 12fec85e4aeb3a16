"""What a plan tells."""

from dataclasses import asdict, dataclass
from typing import Any

from .trial import Found, Work

_MIB = 2**20
# Tensors of a few numbers and buffers of single threads, which no operation
# tells of.
_SMALL = 1.005
_LARGEST = 5
_PARTS = (
    'parameters',
    'buffers',
    'gradients',
    'optimizer_state',
    'activations',
)


@dataclass(frozen=True)
class LargeTensor:
    """A tensor that is alive at the peak.

    Attributes:
        bytes (int): Of its storage.
        shape (tuple[int]): Its shape.
        dtype (str): Its type, such as ``'float32'``.
        place (str): Pass, module and operation that made it.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: str
    place: str


@dataclass(frozen=True)
class MemoryPlan:
    """What a model will need at its peak, all in bytes.

    Attributes:
        mode (str): ``'predict'`` or ``'train'``.
        size (tuple[int]): ``(h, w)`` of the windows, pixels.
        batch_size (int): Windows.
        precision (str): ``'fp32'``, ``'fp16'`` or ``'bf16'``.
        parameters (int): Weights.
        buffers (int): Such as statistics of batch norms.
        gradients (int): Those of weights that are alive at the peak.
        optimizer_state (int): Such as momentum.
        activations (int): All else: inputs, labels, intermediate tensors and
            their gradients, and what operations need for themselves.
        peak_at (str): Pass, module and operation where the peak is.
        largest (tuple[LargeTensor]): Largest activations and gradients then.
        reason (str): Why the plan is an extrapolation of measurements; empty
            if it is not.
    """

    mode: str
    size: tuple[int, int]
    batch_size: int
    precision: str
    parameters: int
    buffers: int
    gradients: int
    optimizer_state: int
    activations: int
    peak_at: str
    largest: tuple[LargeTensor, ...] = ()
    reason: str = ''

    @property
    def total(self) -> int:
        """int: Bytes at the peak."""
        return sum(getattr(self, part) for part in _PARTS)

    @property
    def estimated(self) -> bool:
        """bool: Whether this is an extrapolation of measurements."""
        return bool(self.reason)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, for JSON."""
        return dict(asdict(self), total=self.total, estimated=self.estimated)

    def __str__(self) -> str:
        kind = 'training' if self.mode == 'train' else 'prediction'
        height, width = self.size
        lines = [
            f'{kind}, {self.batch_size} x {height} x {width} pixels, '
            f'{self.precision}'
        ]
        for part in (*_PARTS, 'total'):
            size = getattr(self, part)
            if size or part == 'activations':
                name = part.replace('_', ' ')
                lines.append(f'  {name:<16}{size / _MIB:>10.1f} MiB')
        lines.append(f'peak: {self.peak_at}')
        for tensor in self.largest:
            shape = ' x '.join(map(str, tensor.shape))
            lines.append(
                f'  {tensor.bytes / _MIB:>10.1f} MiB  {shape} {tensor.dtype}, '
                f'{tensor.place}'
            )
        if self.estimated:
            lines.append(f'an estimate: {self.reason}')
        return '\n'.join(lines)


def describe(
    found: Found, size: tuple[int, int], batch_size: int, work: Work
) -> MemoryPlan:
    """Make a plan of what a step needed.

    Args:
        found (Found): Its bytes.
        size (tuple[int]): ``(h, w)`` of the windows, pixels.
        batch_size (int): Windows.
        work (Work): What was done.

    Returns:
        MemoryPlan: With a little room.
    """
    activations = found.live.peak - found.gradients
    return MemoryPlan(
        work.mode,
        size,
        batch_size,
        work.precision,
        found.parameters,
        found.buffers,
        found.gradients,
        found.optimizer_state,
        int(activations * _SMALL),
        found.live.peak_place,
        tuple(
            LargeTensor(
                block.bytes,
                block.shape,
                str(block.dtype).removeprefix('torch.'),
                block.place,
            )
            for block in found.live.alive_at_peak()[:_LARGEST]
        ),
    )

"""Plans of models that fake tensors cannot run: measured small windows."""

import copy
from dataclasses import replace

from torch import nn

from .plan import MemoryPlan, describe
from .trial import Found, Work, try_step

# Sides of square windows of the area measured, pixels; their ratio is that of
# the windows wanted.
_SIDES = (128, 192, 256)
# Sides are multiples of this, as strides of networks want.
_MULTIPLE = 32
# Batch norms want more than one window.
_BATCH = 2


def probe_memory(
    model: nn.Module,
    size: tuple[int, int],
    batch_size: int,
    work: Work,
    cause: Exception,
) -> MemoryPlan:
    """Extrapolate the memory of a step from small windows.

    Bytes are taken to be a quadratic function of the pixels, for models with
    attention, and linear in the windows of a batch.

    Args:
        model (nn.Module): Copied; stays as it is.
        size (tuple[int]): ``(h, w)`` of the windows, pixels.
        batch_size (int): Windows.
        work (Work): What it does.
        cause (Exception): Why there is no plan.

    Returns:
        MemoryPlan: With ``reason``.

    Raises:
        ValueError: If the model cannot run on small windows either.
    """
    batch = min(batch_size, _BATCH)
    points, found = [], None
    for side in _SIDES:
        small = _shaped(side, size)
        if points and small[0] * small[1] <= points[-1][0]:
            continue
        try:
            found = try_step(_with_values(model), small, batch, work)
        except Exception as error:
            if str(error) == str(cause):
                # Nothing to do with fake tensors.
                raise ValueError(str(error)) from error
            raise ValueError(
                f'{type(model).__name__} runs neither on fake tensors '
                f'({_first_line(cause)}) nor on windows of '
                f'{small[0]} x {small[1]} pixels ({_first_line(error)})'
            ) from error
        points.append((small[0] * small[1], found.live.peak))
        if small == size:
            break
    peak = extrapolate(points, size[0] * size[1])
    peak = int(peak * batch_size / batch)
    return _plan(found, peak, size, batch_size, work, cause, points)


def _with_values(model: nn.Module) -> nn.Module:
    """Copy a model, which may have been built without values."""
    double = copy.deepcopy(model)
    for weight in double.parameters():
        # Memory as found may hold NaN, and positions made of these crash
        # kernels.
        if weight.is_floating_point():
            nn.init.normal_(weight, std=0.01)
    return double


def extrapolate(points: list[tuple[int, int]], wanted: int) -> int:
    """Continue bytes by pixels, rather above than below.

    Args:
        points (list[tuple[int]]): Pixels and bytes, at most three, ascending.
        wanted (int): Pixels.

    Returns:
        int: Bytes: the parabola through the points where it bends upwards,
        else the steeper of the lines.
    """
    if len(points) == 1 or wanted <= points[-1][0]:
        x, y = points[-1]
        return round(y * max(wanted / x, 1.0))
    slopes = [
        (b[1] - a[1]) / (b[0] - a[0])
        for a, b in zip(points, points[1:], strict=False)
    ]
    x, y = points[-1]
    value = y + max(slopes) * (wanted - x)
    if len(points) == 3 and slopes[1] > slopes[0]:
        bend = (slopes[1] - slopes[0]) / (points[2][0] - points[0][0])
        value = (
            y
            + slopes[1] * (wanted - x)
            + bend * (wanted - x) * (wanted - points[1][0])
        )
    return round(value)


def _shaped(side: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return a window of about ``side`` squared pixels, at most ``size``."""
    scale = side / (size[0] * size[1]) ** 0.5
    if scale >= 1:
        return size
    return tuple(
        min(max(round(edge * scale / _MULTIPLE), 1) * _MULTIPLE, edge)
        for edge in size
    )


def _plan(
    found: Found,
    peak: int,
    size: tuple[int, int],
    batch_size: int,
    work: Work,
    cause: Exception,
    points: list[tuple[int, int]],
) -> MemoryPlan:
    """Make a plan of the last measurement and the extrapolated bytes."""
    plan = describe(found, size, batch_size, work)
    return replace(
        plan,
        activations=max(peak - plan.gradients, 0),
        largest=(),
        reason=(
            f'the model cannot run on fake tensors ({_first_line(cause)}), '
            f'so {len(points)} windows of up to '
            f'{points[-1][0]} pixels were measured and continued to '
            f'{size[0] * size[1]}'
        ),
    )


def _first_line(error: Exception) -> str:
    """Tell an error in a line."""
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0][:160]}'

"""Streams of a segmentor that fit a budget."""

import copy
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Union

import torch
from mmengine.logging import print_log
from torch.utils._pytree import tree_leaves

from ...memory import MemoryPlan, parse_budget, plan_memory, total_memory
from ...memory.inputs import make_inputs
from ...rasters import Raster
from ...streaming import StreamSettings
from ...streaming.fit import fit_settings
from ...tiling import SYMMETRIES, Window
from ...tiling.views import LOCAL

if TYPE_CHECKING:
    from .streaming_segmentor import StreamingSegmentor

_FLOAT = 4
# Bytes of a pixel that is being decided: its class, and where it changes.
_DECIDED = 2
# Budgets are read before the device is known.
_ANY_DEVICE = 2**62
_NOTES = dict(
    accumulate_on='sums on the host: the same results, slower',
    accumulator='sums in float16: logits of three digits',
    crop_size='smaller windows see less around them: results change a little',
)


def check_budget(budget: Union[str, int, float]) -> None:
    """Refuse a budget that no device could make sense of.

    Args:
        budget (str | int | float): Of ``test_cfg``.

    Raises:
        ValueError: If it cannot be understood.
    """
    try:
        parse_budget(budget, _ANY_DEVICE)
    except ValueError as error:
        raise ValueError(f'test_cfg.{error}') from None


def plan_windows(
    model: 'StreamingSegmentor',
    settings: StreamSettings,
    window: tuple[int, int],
    bands: int,
    precision: str,
) -> MemoryPlan:
    """Plan the network for a batch of windows, as large as it sees them.

    Args:
        model (StreamingSegmentor): Stays as it is.
        settings (StreamSettings): With ``batch_size`` and ``tta_scales``.
        window (tuple[int]): ``(h, w)`` in pixels of the scene.
        bands (int): Of the scene.
        precision (str): ``'fp32'``, ``'fp16'`` or ``'bf16'``.

    Returns:
        MemoryPlan: Of the network alone, see :func:`bytes_beyond`.
    """
    return plan_memory(
        _at_largest_scale(model, settings),
        _scaled(_seen_size(model, window), settings),
        settings.batch_size,
        precision=precision,
        channels=bands,
    )


def _scaled(
    size: tuple[int, int], settings: StreamSettings
) -> tuple[int, int]:
    """Return the largest size at which a view is seen."""
    scale = max(settings.tta_scales)
    return tuple(max(round(side * scale), 1) for side in size)


def _at_largest_scale(
    model: 'StreamingSegmentor', settings: StreamSettings
) -> 'StreamingSegmentor':
    """Scale views of a fixed size, as test-time augmentation does, too."""
    double = copy.copy(model)
    double.views = {
        name: view
        if view.size is None
        else replace(view, size=_scaled(view.size, settings))
        for name, view in model.views.items()
    }
    return double


def bytes_beyond(
    plan: MemoryPlan,
    model: 'StreamingSegmentor',
    settings: StreamSettings,
    window: tuple[int, int],
    shape: tuple[int, int],
    bands: int,
) -> int:
    """Return what a stream takes beyond the plan of its network.

    That is for class ids and weights, and for what test-time augmentation
    keeps meanwhile, or, where it is more than that and all that the network
    needs, what happens to the logits afterwards. The sums of logits are not
    in it.

    Args:
        plan (MemoryPlan): From :func:`plan_windows`.
        model (StreamingSegmentor): Stays as it is.
        settings (StreamSettings): How scenes are predicted.
        window (tuple[int]): ``(h, w)`` in pixels of the scene.
        shape (tuple[int]): ``(H, W)`` of the scene in pixels.
        bands (int): Of the scene.

    Returns:
        int: Bytes of the device.
    """
    own, largest = _seen_size(model, window), plan.size
    logits = plan.batch_size * _FLOAT * model.out_channels
    rows = window[0] * shape[1]
    turning = len(SYMMETRIES[settings.tta]) > 1
    scaling = len(settings.tta_scales) > 1
    views = _bytes_of_views(model, own, plan.batch_size, bands)
    scaled = _bytes_of_views(
        _at_largest_scale(model, settings), largest, plan.batch_size, bands
    )
    predicted = logits * math.prod(largest)
    found = logits * math.prod(own)
    # Besides what is predicted there are views as they were read, and sums.
    kept = (views if largest != own else 0) + (found if scaling else 0)
    averaging = kept + (predicted + scaled if turning else 0)
    # Once the network is through there are, one after the other: logits as
    # predicted, turned back and summed, with the views; logits of two sizes;
    # and, besides the logits of all windows, what becomes of them.
    copies = 1 + turning + (turning or scaling)
    turned = kept + predicted * copies + scaled * (1 + turning)
    full = logits * math.prod(window)
    resizing = adding = deciding = 0
    if largest != own:
        resizing = kept + predicted + scaled + found
    if own != tuple(window):
        resizing = max(resizing, views + found + full)
    if settings.accumulator == 'float16':
        # The logits of one window in the type of the sums.
        adding = full // plan.batch_size // 2
    elif plan.precision != 'fp32':
        adding = full // plan.batch_size
    if settings.accumulate_on == 'device':
        deciding = _DECIDED * rows
    after = max(turned, resizing, full + max(adding, deciding))
    network = plan.total - plan.parameters - plan.buffers
    # The classes of rows before may still be in use; rows and columns have
    # weights, as do, unless they all count alike, the pixels of a window.
    weights = sum(shape)
    if settings.blend not in ('uniform', 'centre'):
        weights += math.prod(window)
    always = rows + _FLOAT * weights
    return always + max(averaging, after - network)


def _bytes_of_views(
    model: 'StreamingSegmentor',
    size: tuple[int, int],
    batch_size: int,
    bands: int,
) -> int:
    """Return the size of what a network gets of windows."""
    like = torch.empty(0, device='meta')
    views, _ = make_inputs(model, size, batch_size, bands, like)
    return sum(pixels.nbytes for pixels in tree_leaves(views))


def _seen_size(
    model: 'StreamingSegmentor', window: tuple[int, int]
) -> tuple[int, int]:
    """Return the size at which a network sees a window by itself."""
    return model.views[LOCAL].size_of(Window(0, 0, *window))


class StreamBudget:
    """Fits the windows of scenes into a budget.

    Plans do not depend on a scene unless that is smaller than a window, so
    each is made once for a model, see
    :func:`~mmseg_uhr.memory.plan_memory`.

    Args:
        model (StreamingSegmentor): Stays as it is.
    """

    def __init__(self, model: 'StreamingSegmentor') -> None:
        # This is no module, so the model does not become its own part.
        self._model = model
        self._plans: dict[tuple, MemoryPlan] = {}
        self._said: StreamSettings | None = None

    def fit(
        self,
        raster: Raster,
        wanted: StreamSettings,
        budget: Union[str, int, float],
    ) -> StreamSettings:
        """Change settings so that a scene is predicted in a budget.

        Args:
            raster (Raster): The scene.
            wanted (StreamSettings): If there were no budget.
            budget (str | int | float): Of the model's device, see
                :func:`~mmseg_uhr.memory.parse_budget`.

        Returns:
            StreamSettings: Which fit.

        Raises:
            ValueError: If the budget makes no sense or nothing fits.
        """
        model = self._model
        device = next(model.parameters()).device
        limit = parse_budget(budget, total_memory(device))
        chosen = fit_settings(
            wanted,
            raster.shape,
            model.out_channels,
            lambda settings: self._window_bytes(raster, settings),
            limit,
            has_host=device.type != 'cpu',
            may_shrink=model.views[LOCAL].size is None,
        )
        if chosen != self._said:
            self._tell(chosen, wanted, limit)
        return chosen

    def _window_bytes(self, raster: Raster, settings: StreamSettings) -> int:
        """Return the bytes of weights and of a batch of windows."""
        model = self._model
        if next(model.parameters()).device.type == 'cpu':
            # There, sums on the host are where all else is.
            settings = replace(settings, accumulate_on='device')
        # A small scene is one window.
        size = tuple(map(min, settings.crop_size, raster.shape))
        precision = model.execution.precision
        key = (
            *(size, settings.batch_size, max(settings.tta_scales)),
            *(raster.bands, precision),
        )
        if key not in self._plans:
            self._plans[key] = plan_windows(
                model, settings, size, raster.bands, precision
            )
        plan = self._plans[key]
        return plan.total + bytes_beyond(
            plan, model, settings, size, raster.shape, raster.bands
        )

    def _tell(
        self, chosen: StreamSettings, wanted: StreamSettings, limit: int
    ) -> None:
        """Log what a budget has changed, once."""
        self._said = chosen
        changes = {
            name: value
            for name, value in asdict(chosen).items()
            if value != getattr(wanted, name)
        }
        if not changes:
            return
        notes = [text for name, text in _NOTES.items() if name in changes]
        print_log(
            '; '.join(
                [
                    f'A budget of {limit / 2**20:.0f} MiB changes test_cfg: '
                    f'{changes}',
                    *notes,
                ]
            ),
            logger='current',
        )

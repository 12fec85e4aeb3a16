"""Streams of a segmentor that fit a budget."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Union

from mmengine.logging import print_log
from torch import nn

from ...memory import parse_budget, plan_memory, total_memory
from ...rasters import Raster
from ...streaming import StreamSettings
from ...streaming.fit import fit_settings
from ...tiling import SYMMETRIES, Window
from ...tiling.views import LOCAL

if TYPE_CHECKING:
    from .streaming_segmentor import StreamingSegmentor

_FLOAT = 4
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
        self._plans: dict[tuple, int] = {}
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
            raster.shape[1],
            model.out_channels,
            lambda size, batch: self._window_bytes(
                raster, wanted, size, batch
            ),
            limit,
            has_host=device.type != 'cpu',
            may_shrink=model.views[LOCAL].size is None,
        )
        if chosen != self._said:
            self._tell(chosen, wanted, limit)
        return chosen

    def _window_bytes(
        self,
        raster: Raster,
        settings: StreamSettings,
        size: tuple[int, int],
        batch: int,
    ) -> int:
        """Return the bytes of weights and of a batch of windows."""
        # A small scene is one window.
        size = tuple(map(min, size, raster.shape))
        seen = self._model.views[LOCAL].size_of(Window(0, 0, *size))
        scaled = tuple(
            max(round(side * max(settings.tta_scales)), 1) for side in seen
        )
        precision = self._model.execution.precision
        key = scaled, batch, raster.bands, precision
        if key not in self._plans:
            self._plans[key] = plan_memory(
                self._model,
                scaled,
                batch,
                precision=precision,
                channels=raster.bands,
            ).total
        return max(
            self._plans[key] + self._averaging(settings, scaled, seen, batch),
            _bytes(self._model) + self._blending(size, seen, batch),
        )

    def _averaging(
        self,
        settings: StreamSettings,
        scaled: tuple[int, int],
        seen: tuple[int, int],
        batch: int,
    ) -> int:
        """Return what test-time augmentation keeps besides a prediction."""
        logits = batch * self._model.out_channels * _FLOAT
        need = 0
        if len(SYMMETRIES[settings.tta]) > 1:
            need += logits * scaled[0] * scaled[1]
        if len(settings.tta_scales) > 1:
            need += logits * seen[0] * seen[1]
        return need

    def _blending(
        self, size: tuple[int, int], seen: tuple[int, int], batch: int
    ) -> int:
        """Return what happens to logits once the network is through."""
        logits = self._model.out_channels * _FLOAT
        own, full = (logits * side[0] * side[1] for side in (seen, size))
        # As predicted, enlarged to the window, and one in other precision.
        return batch * (own + full) + full

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


def _bytes(model: nn.Module) -> int:
    """Add the bytes of weights and buffers."""
    return sum(
        tensor.nbytes for tensor in (*model.parameters(), *model.buffers())
    )

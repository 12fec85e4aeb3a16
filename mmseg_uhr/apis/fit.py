"""Fitting a model's stream into a budget."""

from dataclasses import asdict
from functools import lru_cache
from typing import Union

from mmengine.logging import print_log

from ..memory import model_cost, parse_budget, total_memory
from ..models.segmentors import UHREncoderDecoder
from ..rasters import Raster
from ..streaming import StreamSettings
from ..streaming.fit import fit_settings
from ..tiling import Window
from ..tiling.views import LOCAL

# Activations are counted without the workspace of operations and the slack
# of allocators.
_SLACK = 1.1
# Fields of the settings that a budget may change.
_FIELDS = ('crop_size', 'stride', 'batch_size', 'accumulate_on')


def fit_to_budget(
    model: UHREncoderDecoder,
    raster: Raster,
    wanted: StreamSettings,
    budget: Union[str, int, float],
) -> StreamSettings:
    """Change ``model.test_cfg`` so that a scene is predicted in a budget.

    Args:
        model (UHREncoderDecoder): With ``test_cfg.mode='stream'``.
        raster (Raster): The scene.
        wanted (StreamSettings): If there were no budget.
        budget (str | int | float): Of the model's device, see
            :func:`~mmseg_uhr.memory.parse_budget`.

    Returns:
        StreamSettings: Those set.

    Raises:
        ValueError: If the budget makes no sense or nothing fits.
    """
    weights = list(model.parameters())
    device = weights[0].device
    limit = parse_budget(budget, total_memory(device))
    weight_bytes = sum(weight.nbytes for weight in weights)
    local = model.views[LOCAL]

    @lru_cache
    def window_bytes(size: tuple[int, int], batch: int) -> int:
        # A small scene is one window.
        size = tuple(map(min, size, raster.shape))
        seen = local.size_of(Window(0, 0, *size))
        cost = model_cost(model, seen, batch, raster.bands)
        return weight_bytes + int(_SLACK * cost.peak_mib * 2**20)

    chosen = fit_settings(
        wanted,
        raster.shape[1],
        model.out_channels,
        window_bytes,
        limit,
        has_host=device.type != 'cpu',
        may_shrink=local.size is None,
    )
    if chosen != wanted:
        changes = {
            name: value
            for name, value in asdict(chosen).items()
            if value != getattr(wanted, name)
        }
        print_log(
            f'A budget of {limit / 2**20:.0f} MiB changes test_cfg: {changes}',
            logger='current',
        )
    model.test_cfg.update({name: getattr(chosen, name) for name in _FIELDS})
    return chosen

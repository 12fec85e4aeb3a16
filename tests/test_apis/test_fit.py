import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_uhr.apis.fit import fit_to_budget
from mmseg_uhr.memory import model_cost
from mmseg_uhr.rasters import Raster
from mmseg_uhr.streaming import StreamSettings

MIB = 2**20
WANTED = StreamSettings((512, 512), (384, 384), batch_size=4)


class Scene(Raster):
    """A scene of any width, never read."""

    def __init__(self, width):
        self.name, self.shape, self.bands = 'scene', (9000, width), 3

    def _read(self, window, size, resampling):
        raise AssertionError('planning reads no pixels')


@pytest.fixture
def model(tiny_cfg):
    init_default_scope('mmseg')
    return MODELS.build(tiny_cfg.model).eval()


def test_a_budget_chooses_the_batch(model):
    weights = sum(weight.nbytes for weight in model.parameters())
    band = 4 * model.out_channels * 512 * 3000
    cost = model_cost(model, (512, 512), 2).peak_mib * MIB
    budget = int(weights + band + 1.1 * cost) + 1
    fitted = fit_to_budget(model, Scene(3000), WANTED, budget)
    assert (fitted.batch_size, fitted.crop_size) == (2, (512, 512))
    assert model.test_cfg.batch_size == 2
    # The next scene is narrower: what is wanted counts, not the last fit.
    assert fit_to_budget(model, Scene(600), WANTED, '2GiB') == WANTED
    assert model.test_cfg.batch_size == 4


def test_a_budget_that_is_too_small(model):
    with pytest.raises(ValueError, match='budget: 1 MiB are not enough'):
        fit_to_budget(model, Scene(3000), WANTED, '1MiB')

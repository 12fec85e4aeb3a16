import json
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_uhr.apis import UHRInferencer
from mmseg_uhr.memory import plan_memory
from mmseg_uhr.models.segmentors.budget import bytes_beyond
from mmseg_uhr.rasters import Raster
from mmseg_uhr.streaming import StreamSettings
from mmseg_uhr.streaming.fit import band_bytes

WINDOWS = dict(
    mode='stream', crop_size=(512, 512), stride=(384, 384), batch_size=4
)


class Scene(Raster):
    """A scene of any width, never read."""

    def __init__(self, width):
        self.name, self.shape, self.bands = 'scene', (9000, width), 3

    def _read(self, window, size, resampling):
        raise AssertionError('planning reads no pixels')


def build(cfg, **test_cfg):
    init_default_scope('mmseg')
    model = dict(cfg.model.to_dict(), test_cfg=dict(WINDOWS, **test_cfg))
    return MODELS.build(model).eval()


def need(model, batch, width):
    """Bytes for windows of a scene, as they are configured."""
    settings = StreamSettings.from_test_cfg(model.test_cfg)
    size = settings.crop_size
    plan = plan_memory(model, size, batch)
    return (
        plan.total
        + bytes_beyond(plan, model, settings, size, (9000, width), 3)
        + band_bytes(settings, (9000, width), model.out_channels)
    )


def test_a_budget_chooses_the_batch(tiny_cfg):
    model = build(tiny_cfg)
    model.test_cfg['budget'] = need(model, 2, 3000)
    assert model.settings_for(Scene(3000)).batch_size == 2
    # The next scene is narrower: what is wanted counts, not the last fit.
    model.test_cfg['budget'] = '2GiB'
    wanted = StreamSettings.from_test_cfg(WINDOWS)
    assert model.settings_for(Scene(600)) == wanted
    assert model.test_cfg['batch_size'] == 4


def test_augmentation_takes_more(tiny_cfg):
    budget = need(build(tiny_cfg), 4, 3000)
    assert build(tiny_cfg, budget=budget).settings_for(Scene(3000)) == (
        StreamSettings.from_test_cfg(WINDOWS)
    )
    for tta in (dict(tta='flip'), dict(tta_scales=(1.0, 1.5))):
        fitted = build(tiny_cfg, budget=budget, **tta).settings_for(
            Scene(3000)
        )
        assert fitted.batch_size < 4


def test_sums_of_wide_scenes_become_smaller_on_a_cpu(tiny_cfg):
    model = build(tiny_cfg, accumulator='float16')
    half = need(model, 1, 30_000)
    model = build(tiny_cfg, budget=half)
    fitted = model.settings_for(Scene(30_000))
    assert (fitted.accumulator, fitted.crop_size) == ('float16', (512, 512))


def test_sums_on_the_host_count_on_a_cpu(tiny_cfg):
    width = 300_000
    budget = need(build(tiny_cfg, batch_size=1), 1, width) - 1
    fitted = [
        build(
            tiny_cfg, batch_size=1, budget=budget, accumulate_on=place
        ).settings_for(Scene(width))
        for place in ('device', 'host')
    ]
    assert fitted[0].accumulator == 'float16'
    assert fitted[1] == replace(fitted[0], accumulate_on='host')


@pytest.mark.parametrize(
    'budget, message',
    [
        ('8 GB of it', r"test_cfg\.budget='8 GB of it': expected a size"),
        (-1, r'test_cfg\.budget=-1'),
    ],
)
def test_budgets_of_no_device(tiny_cfg, budget, message):
    with pytest.raises(ValueError, match=message):
        build(tiny_cfg, budget=budget)


@pytest.mark.parametrize(
    'budget, message',
    [
        ('1000TiB', 'the device has .* GiB'),
        ('1MiB', 'budget: 1 MiB are not enough; the least that .* MiB'),
    ],
)
def test_budgets_that_do_not_fit(tiny_cfg, budget, message):
    model = build(tiny_cfg, budget=budget)
    with pytest.raises(ValueError, match=message):
        model.settings_for(Scene(3000))


@pytest.fixture
def half(tiny_cfg):
    """int: Bytes in which two of the tiny config's four windows fit."""
    init_default_scope('mmseg')
    model = MODELS.build(tiny_cfg.model).eval()
    return need(model, 2, 128)


def test_scores_do_not_depend_on_the_budget(
    trained, tiny_config, tmp_path, run_tool, half, capfd
):
    scores = []
    for name, *options in (
        ('plain',),
        ('fitted', f'model.test_cfg.budget={half}'),
    ):
        capfd.readouterr()
        run_tool(
            *('test.py', tiny_config, trained / 'iter_40.pth'),
            *('--work-dir', tmp_path / name, '--cfg-options', *options),
        )
        (path,) = (tmp_path / name).glob('*/*.json')
        scores.append(json.loads(path.read_text())['mIoU'])
    text = ''.join(capfd.readouterr())
    assert text.count("changes test_cfg: {'batch_size': 2}") == 1
    assert scores[0] == scores[1]


def test_configs_with_a_budget_make_maps(trained, tiny_config, scenes, half):
    image = scenes / 'images' / 'a.tif'
    checkpoint = trained / 'iter_40.pth'
    plain = UHRInferencer(tiny_config, checkpoint, 'cpu')
    cfg = Config.fromfile(tiny_config)
    cfg.model.test_cfg.budget = half
    fitted = UHRInferencer(cfg, checkpoint, 'cpu')
    labels = [
        inferencer(str(image), progress=False).labels
        for inferencer in (plain, fitted)
    ]
    assert (labels[0] == labels[1]).all()
    # What is asked for by the caller comes first.
    other = UHRInferencer(cfg, checkpoint, 'cpu', budget='10KiB')
    with pytest.raises(ValueError, match='budget: 0 MiB are not enough'):
        other(str(Path(image)), progress=False)

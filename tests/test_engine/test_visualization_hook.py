import tracemalloc
import uuid

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from torch.utils.data import Dataset

from mmseg_uhr.engine.hooks.visualization import (
    UHRVisualizationHook,
    spread_windows,
)
from mmseg_uhr.rasters import ArrayRaster
from mmseg_uhr.visualization import IGNORE_COLOUR

META = dict(classes=('sea', 'land'), palette=[[0, 0, 200], [0, 150, 0]])


@pytest.fixture(autouse=True)
def _visualizer():
    """Stock hooks need one to exist, as in a runner."""
    SegLocalVisualizer.get_instance(uuid.uuid4().hex)


class Recorder:
    """Stands for a visualizer: remembers what it is given."""

    def __init__(self):
        self.dataset_meta = META
        self.pictures = {}
        self.shown = []

    def add_image(self, name, image, step):
        self.pictures[name, step] = image

    def show(self, image, name, wait_time):
        self.shown.append((name, wait_time))


class FakeRunner:
    def __init__(self, iteration=100):
        self.iter = iteration
        self.visualizer = Recorder()


def scene(height, width, with_labels=True, path='img/scene.tif'):
    """Image of one colour, upper half sea, everything predicted as land."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = (10, 20, 30)  # Blue, green, red.
    sample = SegDataSample(metainfo=dict(img_path=path) if path else {})
    if with_labels:
        label = torch.zeros(1, height, width, dtype=torch.uint8)
        label[:, height // 2 :] = 1
        label[:, :, -width // 4 :] = 255
        sample.gt_sem_seg = PixelData(data=label)
    sample.pred_sem_seg = PixelData(
        data=torch.ones(1, height, width, dtype=torch.uint8)
    )
    return ArrayRaster(image), sample


def make_hook(**kwargs):
    return UHRVisualizationHook(draw=True, **kwargs)


def draw(image, sample, mode='val', **kwargs):
    runner = FakeRunner()
    hook = make_hook(**kwargs)
    getattr(hook, f'after_{mode}_iter')(
        runner, 0, dict(inputs=[image]), [sample]
    )
    return runner.visualizer.pictures


def panel(picture, index, width):
    start = index * (width + 8)
    return picture[:, start : start + width]


def test_overview_shows_image_label_and_prediction():
    pictures = draw(*scene(400, 800), overview_size=100, num_crops=0)
    assert list(pictures) == [('val_scene_overview', 100)]
    overview = pictures['val_scene_overview', 100]
    assert overview.dtype == np.uint8
    assert overview.shape[1] == 3 * 100 + 2 * 8
    image, label, pred = (panel(overview[:50], i, 100) for i in range(3))
    assert (image == (30, 20, 10)).all()  # Red, green, blue.
    assert (label[:25, :75] == META['palette'][0]).all()
    assert (label[25:, :75] == META['palette'][1]).all()
    assert (label[:, 75:] == IGNORE_COLOUR).all()
    assert (pred == META['palette'][1]).all()


def test_legend_has_all_colours_below_the_overview():
    overview = draw(*scene(400, 800), num_crops=0)['val_scene_overview', 100]
    legend = overview[400:]
    for colour in META['palette']:
        assert (legend == colour).all(axis=2).any()


def test_crops_have_full_resolution():
    height, width = 300, 400
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    _, sample = scene(height, width)
    label = torch.from_numpy(rng.integers(0, 2, (1, height, width), np.uint8))
    sample.gt_sem_seg.data = label
    pictures = draw(
        ArrayRaster(image), sample, num_crops=2, crop_size=(60, 80)
    )
    assert len(pictures) == 3
    windows = spread_windows((height, width), (60, 80), 2)
    for i, (y, x, h, w) in enumerate(windows):
        crop = pictures[f'val_scene_crop{i}', 100]
        rows, columns = slice(y, y + h), slice(x, x + w)
        np.testing.assert_array_equal(
            panel(crop, 0, 80), image[rows, columns, ::-1]
        )
        np.testing.assert_array_equal(
            panel(crop, 1, 80),
            np.array(META['palette'])[label[0, rows, columns]],
        )


@pytest.mark.parametrize('shape', [(500, 500), (270, 540), (900, 100)])
@pytest.mark.parametrize('count', [0, 1, 2, 3, 4, 7])
def test_windows_are_spread_and_inside(shape, count):
    windows = spread_windows(shape, (50, 60), count)
    assert len(set(windows)) == count
    for y, x, h, w in windows:
        assert (h, w) == (50, 60)
        assert 0 <= y <= shape[0] - h
        assert 0 <= x <= shape[1] - w
    if count == 1:
        assert abs(windows[0][0] - (shape[0] - 50) / 2) <= 1


def test_windows_of_a_scene_smaller_than_a_crop():
    assert spread_windows((40, 30), (512, 512), 4) == [(0, 0, 40, 30)]


def test_scene_without_labels_and_path():
    image, sample = scene(40, 60, with_labels=False, path=None)
    pictures = draw(image, sample, mode='test', num_crops=0)
    assert pictures['test_1_overview', 1].shape[1] == 2 * 60 + 8


def test_tensor_of_a_stock_pipeline_that_was_resized():
    """Stock hands on (C, h, w), the label map keeps the file's size."""
    _, sample = scene(80, 120)
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[2, :, 30:] = 255  # Right half red.
    pictures = draw(image, sample, num_crops=1, crop_size=(80, 40))
    overview = pictures['val_scene_overview', 100]
    assert (panel(overview[:80], 0, 120)[:, 62:] == (255, 0, 0)).all()
    assert (panel(overview[:80], 0, 120)[:, :58] == 0).all()
    crop = panel(pictures['val_scene_crop0', 100], 0, 40)
    assert (crop[:, :18] == 0).all()
    assert (crop[:, 22:] == (255, 0, 0)).all()


def test_sixteen_bits_grey_and_four_bands():
    _, sample = scene(20, 20)
    ramp = np.linspace(500, 4000, 400).reshape(20, 20)
    for bands in (1, 4):
        image = np.repeat(ramp[..., None], bands, 2).astype(np.uint16)
        pictures = draw(ArrayRaster(image), sample, num_crops=0)
        shown = panel(pictures['val_scene_overview', 100][:20], 0, 20)
        assert shown.min() == 0
        assert shown.max() == 255


def test_float_predictions_of_one_channel_heads():
    image, sample = scene(20, 20)
    sample.pred_sem_seg.data = sample.pred_sem_seg.data.float()
    overview = draw(image, sample, num_crops=0)['val_scene_overview', 100]
    assert (panel(overview[:20], 2, 20) == META['palette'][1]).all()


def test_interval_counts_batches_and_draws_their_first_image():
    runner = FakeRunner(iteration=7)
    hook = make_hook(interval=2, num_crops=0)
    for batch_idx in range(4):
        pair = [
            scene(20, 20, path=f'{batch_idx}{letter}.tif') for letter in 'ab'
        ]
        images, samples = zip(*pair)
        hook.after_val_iter(runner, batch_idx, dict(inputs=images), samples)
    assert list(runner.visualizer.pictures) == [
        ('val_0a_overview', 7),
        ('val_2a_overview', 7),
    ]


def test_testing_draws_every_image():
    runner = FakeRunner()
    hook = make_hook(interval=2, num_crops=0)
    pair = [scene(20, 20, path=f'{letter}.tif') for letter in 'ab']
    images, samples = zip(*pair)
    hook.after_test_iter(runner, 0, dict(inputs=images), samples)
    assert list(runner.visualizer.pictures) == [
        ('test_a_overview', 1),
        ('test_b_overview', 2),
    ]


def test_draw_false_does_nothing():
    runner = FakeRunner()
    hook = UHRVisualizationHook()
    image, sample = scene(20, 20)
    for after_iter in (hook.after_val_iter, hook.after_test_iter):
        after_iter(runner, 0, dict(inputs=[image]), [sample])
    assert runner.visualizer.pictures == {}


def test_show_opens_windows():
    runner = FakeRunner()
    hook = make_hook(num_crops=0, wait_time=0.5)
    hook.show = True
    image, sample = scene(20, 20)
    hook.after_val_iter(runner, 0, dict(inputs=[image]), [sample])
    assert runner.visualizer.shown == [('val_scene_overview', 0.5)]


@pytest.mark.parametrize(
    'wrong',
    [dict(overview_size=0), dict(crop_size=(0, 5)), dict(num_crops=-1)],
)
def test_sizes_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match='UHRVisualizationHook'):
        make_hook(**wrong)


def test_augmented_inputs_are_refused():
    image, sample = scene(20, 20)
    with pytest.raises(TypeError, match='test-time augmentation'):
        draw([image, image], sample, mode='test')


@pytest.mark.parametrize('kind', ['raster', 'tensor'])
def test_memory_is_that_of_the_pictures(kind):
    image, sample = scene(4000, 4000)
    if kind == 'tensor':
        image = torch.from_numpy(image.array).permute(2, 0, 1).contiguous()
    tracemalloc.start()
    try:
        pictures = draw(image, sample)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    kept = sum(p.nbytes for p in pictures.values()) / 2**20
    # A tensor (C, H, W) is copied once to lie as OpenCV needs it.
    copied = 4000 * 4000 * 3 / 2**20 if kind == 'tensor' else 0
    assert peak < kept + copied + 40  # MiB; one float band would be 61.


class Scenes(Dataset):
    """Two scenes, and what a runner wants to know of a data set."""

    metainfo = META

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image, sample = scene(90, 120, path=f'img/{index}.tif')
        del sample.pred_sem_seg
        return dict(inputs=image, data_samples=sample)


class AllLand(BaseModel):
    """Predicts class 1 everywhere."""

    def forward(self, inputs, data_samples, mode):
        raise NotImplementedError

    def test_step(self, data):
        for sample in data['data_samples']:
            sample.pred_sem_seg = PixelData(
                data=torch.ones_like(sample.gt_sem_seg.data)
            )
        return data['data_samples']

    val_step = test_step


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_pictures_and_scores_in_a_runner(tmp_path, mode):
    loader = dict(
        batch_size=1,
        num_workers=0,
        dataset=Scenes(),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    runner = Runner(
        AllLand(),
        str(tmp_path / 'work'),
        **{
            f'{mode}_dataloader': loader,
            f'{mode}_cfg': dict(type=f'{mode.capitalize()}Loop'),
            f'{mode}_evaluator': dict(type='mmseg_uhr.UHRIoUMetric'),
        },
        default_hooks=dict(
            visualization=dict(
                type='mmseg_uhr.UHRVisualizationHook',
                draw=True,
                num_crops=2,
                crop_size=(30, 40),
            )
        ),
        visualizer=dict(
            type='SegLocalVisualizer',
            vis_backends=[dict(type='LocalVisBackend')],
        ),
        default_scope='mmseg',
        experiment_name=uuid.uuid4().hex,
        cfg=Config(),
    )
    scores = getattr(runner, mode)()
    assert scores['aAcc'] == 50
    pictures = {p.name: p for p in (tmp_path / 'work').rglob('*.png')}
    stems = ('overview', 'crop0', 'crop1')
    if mode == 'val':
        expected = {f'val_0_{stem}_0.png' for stem in stems}
    else:
        expected = {
            f'test_{i}_{stem}_{i + 1}.png' for i in (0, 1) for stem in stems
        }
    assert set(pictures) == expected
    step = 0 if mode == 'val' else 1
    saved = cv2.imread(str(pictures[f'{mode}_0_crop0_{step}.png']))
    assert saved[0, 0].tolist() == [10, 20, 30]  # Blue, green, red.

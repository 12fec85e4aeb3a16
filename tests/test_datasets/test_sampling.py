import multiprocessing
import os
import tracemalloc
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dataset import RepeatDataset
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_uhr.datasets import UHRDataset
from mmseg_uhr.datasets.samplers import WindowSampler
from mmseg_uhr.datasets.transforms import RandomWindow
from mmseg_uhr.datasets.transforms import class_index as module
from mmseg_uhr.datasets.transforms.class_index import (
    class_index,
    class_pixels,
    count_classes,
    pixel_of_class,
)
from mmseg_uhr.datasets.transforms.loading import open_labels
from mmseg_uhr.engine.hooks.hard_windows import window_losses
from mmseg_uhr.rasters import RasterError, write_geotiff

CROP = (40, 40)
CLASSES = ('common', 'some', 'rare')


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No test sees what another one has counted in this process."""
    monkeypatch.setattr(module, '_KEPT', module.ArrayCache(2**20))
    monkeypatch.setattr(module, '_NOT_STORED', {})
    monkeypatch.setattr(module, '_NAMED', set())
    monkeypatch.delenv('MMSEG_UHR_INDEX_DIR', raising=False)
    init_default_scope('mmseg')


def write(folder, name, labels):
    """Write a scene without content, and its labels."""
    write_geotiff(
        folder / 'images' / f'{name}.tif',
        np.zeros((*labels.shape, 3), np.uint8),
    )
    write_geotiff(folder / 'labels' / f'{name}.tif', labels)


@pytest.fixture
def folder(tmp_path):
    """Three scenes; class 2 has 25 pixels, all of them in the second."""
    labels = [np.zeros(shape, np.uint8) for shape in [(150, 200)] * 3]
    labels[0][:, 150:] = 1
    labels[1][100:105, 60:65] = 2
    labels[2][:75] = 1
    labels[2][0] = 255
    for name, array in zip('abc', labels, strict=True):
        write(tmp_path, name, array)
    return tmp_path


def make_dataset(folder, **kwargs):
    kwargs.setdefault(
        'data_prefix', dict(img_path='images', seg_map_path='labels')
    )
    kwargs.setdefault('metainfo', dict(classes=CLASSES))
    pipeline = [
        dict(type='mmseg_uhr.LoadRaster'),
        dict(type='mmseg_uhr.LoadLabelRaster'),
        dict(type='mmseg_uhr.RandomWindow', crop_size=CROP),
        dict(type='mmseg_uhr.ReadViews'),
        dict(type='mmseg_uhr.PackUHRInputs'),
    ]
    kwargs.setdefault('pipeline', pipeline)
    return UHRDataset(data_root=str(folder), **kwargs)


def results_of(path, **kwargs):
    return dict(
        label_raster=open_labels(str(path)),
        label_map=None,
        reduce_zero_label=False,
        ignore_index=255,
        **kwargs,
    )


def stored(folder):
    return sorted((folder / 'labels' / '.class_index').glob('*'))


@pytest.mark.parametrize('suffix', ['.tif', '.png'])
def test_counts_are_those_of_all_pixels(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(module, '_COLUMNS', 128)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (26, 43), np.uint8).repeat(6, 0).repeat(9, 1)
    labels[:, 200:260] = 255
    path = tmp_path / f'a{suffix}'
    if suffix == '.tif':
        write_geotiff(path, labels)
    else:
        cv2.imwrite(str(path), labels)
    index = count_classes(results_of(path))
    expected = np.bincount(labels.reshape(-1), minlength=256)
    expected[255] = 0
    np.testing.assert_array_equal(index.pixels, expected)
    height, width = labels.shape
    columns = -(-width // 64)
    for i in range(5):
        entries = slice(index.starts[i], index.starts[i + 1])
        for block, count in zip(
            index.blocks[entries], index.counts[entries], strict=True
        ):
            row, column = divmod(int(block), columns)
            part = labels[64 * row :, 64 * column :][:64, :64]
            assert (part == i).sum() == count


def test_counting_holds_stripes_only(tmp_path):
    labels = np.zeros((16384, 256), np.uint8)
    write_geotiff(tmp_path / 'a.tif', labels)
    results = results_of(tmp_path / 'a.tif')
    tracemalloc.start()
    index = count_classes(results)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index.pixels[0] == labels.size
    assert peak < labels.nbytes / 2


def test_an_index_is_stored_and_found_again(folder, monkeypatch):
    results = results_of(folder / 'labels' / 'a.tif')
    index = class_index(results)
    (file,) = stored(folder)
    monkeypatch.setattr(module, '_KEPT', module.ArrayCache(2**20))
    monkeypatch.setattr(module, 'count_classes', None)
    again = class_index(results)
    assert again.shape == index.shape
    for name in ('starts', 'blocks', 'counts'):
        np.testing.assert_array_equal(
            getattr(again, name), getattr(index, name)
        )


def test_an_index_follows_the_data_set_when_it_moves(folder, monkeypatch):
    class_index(results_of(folder / 'labels' / 'a.tif'))
    moved = folder.with_name(f'{folder.name}_moved')
    folder.rename(moved)
    monkeypatch.setattr(module, 'count_classes', None)
    index = class_index(results_of(moved / 'labels' / 'a.tif'))
    assert index.pixels[1] == 150 * 50


@pytest.mark.parametrize('damage', [b'', b'PK', None])
def test_a_damaged_index_is_counted_again(folder, monkeypatch, damage):
    results = results_of(folder / 'labels' / 'a.tif')
    class_index(results)
    (file,) = stored(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[:-200] if damage is None else damage)
    monkeypatch.setattr(module, '_KEPT', module.ArrayCache(2**20))
    assert class_index(results).pixels[1] == 150 * 50
    assert file.read_bytes() == whole


def test_an_index_of_labels_that_changed_is_counted_again(folder):
    path = folder / 'labels' / 'a.tif'
    assert class_index(results_of(path)).pixels[2] == 0
    write_geotiff(path, np.full((150, 200), 2, np.uint8))
    assert class_index(results_of(path)).pixels[2] == 150 * 200
    assert len(stored(folder)) == 1


def test_each_mapping_has_its_own_index(folder):
    results = results_of(folder / 'labels' / 'a.tif')
    assert class_index(results).pixels[1] == 150 * 50
    mapped = class_index(dict(results, label_map={1: 255}))
    assert mapped.pixels[1] == 0
    assert len(stored(folder)) == 2


def test_ids_that_are_no_class_are_found(folder):
    results = results_of(folder / 'labels' / 'b.tif', num_classes=2)
    with pytest.raises(RasterError, match=r'b\.tif: label ids \[2\]'):
        class_index(results)


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    (folder / 'labels' / '.class_index').write_text('in the way')
    pixels = [
        class_index(results_of(folder / 'labels' / f'{name}.tif')).pixels[1]
        for name in 'ac'
    ]
    assert pixels == [150 * 50, 74 * 200]
    elsewhere = folder / 'elsewhere'
    monkeypatch.setenv('MMSEG_UHR_INDEX_DIR', str(elsewhere))
    monkeypatch.setattr(module, '_KEPT', module.ArrayCache(2**20))
    monkeypatch.setattr(module, '_NOT_STORED', {})
    class_index(results_of(folder / 'labels' / 'a.tif'))
    assert len(list(elsewhere.glob('*/a.tif.*.npz'))) == 1


def _count_in_a_process(path):
    return class_index(results_of(path)).pixels


def test_several_processes_count_the_same_scene(folder):
    path = folder / 'labels' / 'a.tif'
    with multiprocessing.get_context('fork').Pool(4) as pool:
        counted = pool.map(_count_in_a_process, [path] * 8, chunksize=1)
    assert {pixels[1] for pixels in counted} == {150 * 50}
    (file,) = stored(folder)
    assert file.suffix == '.npz'


def test_data_sets_do_not_mistake_indexes_for_scenes(folder):
    class_pixels([make_dataset(folder).get_data_info(i) for i in range(3)])
    assert len(stored(folder)) == 3
    assert len(make_dataset(folder)) == 3


def test_every_pixel_of_a_class_has_the_same_chance(tmp_path):
    """Two pixels in one block, one in another, one at the lower right."""
    labels = np.zeros((70, 130), np.uint8)
    places = [(3, 5), (10, 63), (20, 64), (69, 129)]
    for place in places:
        labels[place] = 1
    write_geotiff(tmp_path / 'a.tif', labels)
    results = results_of(tmp_path / 'a.tif')
    rng = np.random.default_rng(0)
    drawn = [pixel_of_class(results, 1, rng) for _ in range(400)]
    assert set(drawn) == set(places)
    assert all(70 < drawn.count(place) < 130 for place in places)


def test_classes_cannot_be_balanced_without_labels(folder):
    dataset = make_dataset(folder, data_prefix=dict(img_path='images'))
    dataset.pipeline.transforms[2] = RandomWindow(CROP, class_balanced=1.0)
    with pytest.raises(ValueError, match=r'a\.tif: RandomWindow.*no label'):
        dataset[0]
    with pytest.raises(ValueError, match='3 of 3 scenes.*have no label map'):
        WindowSampler(dataset, seed=0)
    assert len(WindowSampler(dataset, class_balanced=0, seed=0)) == 56


def labels_of(dataset, draw):
    return dataset[draw]['data_samples'].gt_sem_seg.data


def test_a_balanced_window_has_the_class_it_was_drawn_for(folder):
    dataset = make_dataset(folder)
    sampler = WindowSampler(dataset, class_balanced=1.0, seed=0)
    drawn = [sampler.draw(i) for i in range(150)]
    for draw in drawn[:60]:
        assert (labels_of(dataset, draw) == draw.class_id).any()
    times = [sum(d.class_id == i for d in drawn) for i in range(3)]
    assert all(30 < n < 70 for n in times)
    # The second scene is the only one with the rare class.
    assert {int(d) for d in drawn if d.class_id == 2} == {1}
    ones = [int(d) for d in drawn if d.class_id == 1]
    assert set(ones) == {0, 2}
    assert ones.count(2) > ones.count(0)


def test_the_place_in_the_window_varies(folder):
    dataset = make_dataset(folder)
    sampler = WindowSampler(dataset, 1.0, classes=['rare'], seed=0)
    starts = {
        tuple(dataset[sampler.draw(i)]['data_samples'].window[:2])
        for i in range(20)
    }
    assert len(starts) > 15


def test_uniform_windows_follow_the_area(tmp_path):
    for name, side in zip('ab', (60, 120), strict=True):
        write(tmp_path, name, np.zeros((side, side), np.uint8))
    sampler = WindowSampler(make_dataset(tmp_path), 0.0, seed=0)
    scenes = [int(sampler.draw(i)) for i in range(500)]
    assert 0.74 < np.mean(scenes) < 0.86


@pytest.mark.parametrize('power', [-1, 0, 0.5])
def test_power_weighs_classes_by_frequency(folder, power):
    sampler = WindowSampler(make_dataset(folder), 1.0, power, seed=0)
    drawn = [sampler.draw(i).class_id for i in range(2000)]
    pixels = np.array([0, 150 * 50 + 74 * 200, 25], float)
    pixels[0] = 150 * 200 * 3 - 200 - pixels.sum()
    expected = pixels**-power / (pixels**-power).sum()
    found = np.bincount(drawn, minlength=3) / 2000
    assert abs(found - expected).max() < 0.04


def test_classes_by_name(folder):
    dataset = make_dataset(folder)
    sampler = WindowSampler(dataset, 1.0, classes=('some', 'rare'), seed=0)
    assert {sampler.draw(i).class_id for i in range(40)} == {1, 2}
    with pytest.raises(ValueError, match=r"\['lake'\] are no classes of UHR"):
        WindowSampler(dataset, classes=('lake',), seed=0)
    none = make_dataset(folder, metainfo=dict(classes=(*CLASSES, 'lake')))
    with pytest.raises(ValueError, match=r"none of the 3.*\['lake'\]"):
        WindowSampler(none, classes=('lake',), seed=0)


def windows_of(folder, workers, seed, **kwargs):
    """Windows of the first batches of a real data loader."""
    loader = Runner.build_dataloader(
        dict(
            dataset=make_dataset(folder),
            sampler=dict(type='mmseg_uhr.WindowSampler', **kwargs),
            batch_size=2,
            num_workers=workers,
            collate_fn=dict(type='pseudo_collate'),
        ),
        seed=seed,
    )
    return [
        (int(sample.sample_idx), sample.window)
        for batch in islice(loader, 6)
        for sample in batch['data_samples']
    ]


def test_windows_depend_on_the_seed_and_not_on_the_workers(folder):
    first = windows_of(folder, 0, seed=1)
    assert windows_of(folder, 1, seed=1) == first
    assert windows_of(folder, 2, seed=1) == first
    assert windows_of(folder, 0, seed=2) != first


def _draws_of_a_rank(rank, world_size, folder, store, queue):
    dist.init_process_group(
        'gloo', init_method=f'file://{store}', rank=rank, world_size=world_size
    )
    module._KEPT = module.ArrayCache(2**20)
    sampler = WindowSampler(make_dataset(folder), seed=3, windows_per_epoch=9)
    draws = [(int(d), d.seed, d.class_id) for d in sampler]
    queue.put((rank, len(sampler), draws))
    queue.close()
    queue.join_thread()
    dist.destroy_process_group()
    os._exit(0)


def test_ranks_share_the_windows_of_one_process(folder, tmp_path):
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    processes = [
        context.Process(
            target=_draws_of_a_rank,
            args=(rank, 2, folder, tmp_path / 'store', queue),
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = sorted(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    single = WindowSampler(make_dataset(folder), seed=3, windows_per_epoch=10)
    expected = [(int(d), d.seed, d.class_id) for d in single]
    assert [length for _, length, _ in found] == [5, 5]
    dealt = [d for pair in zip(found[0][2], found[1][2]) for d in pair]
    assert dealt == expected
    assert len(stored(folder)) == 3


def test_epochs_are_counted_in_windows(folder):
    dataset = make_dataset(folder)
    sampler = WindowSampler(dataset, windows_per_epoch=5, seed=0)
    assert len(sampler) == len(list(sampler)) == 5
    first = [(int(d), d.seed) for d in sampler]
    sampler.set_epoch(1)
    second = [(int(d), d.seed) for d in sampler]
    assert not set(first) & set(second)
    sampler.set_epoch(0)
    assert [(int(d), d.seed) for d in sampler] == first
    by_area = WindowSampler(dataset, windows_per_epoch='area', seed=0)
    assert len(list(by_area)) == round(3 * 150 * 200 / 1600)


def test_resuming_goes_on_where_the_run_stopped(folder):
    dataset = make_dataset(folder)
    endless = iter(WindowSampler(dataset, seed=0))
    seeds = [next(endless).seed for _ in range(90)]
    resumed = WindowSampler(dataset, seed=0)
    resumed.skip(70)
    # What the runner calls, and InfiniteSampler does not heed either.
    resumed.set_epoch(1)
    resumed = iter(resumed)
    assert [next(resumed).seed for _ in range(20)] == seeds[70:]


def test_bad_arguments(folder):
    dataset = make_dataset(folder)
    with pytest.raises(ValueError, match='replay=2: expected a share'):
        WindowSampler(dataset, replay=2, seed=0)
    for windows in (0, 'all', 1.5):
        with pytest.raises(ValueError, match='windows_per_epoch='):
            WindowSampler(dataset, windows_per_epoch=windows, seed=0)
    with pytest.raises(TypeError, match='RepeatDataset.*without'):
        WindowSampler(RepeatDataset(dataset, 2), seed=0)
    with pytest.raises(ValueError, match='no RandomWindow'):
        WindowSampler(make_dataset(folder, pipeline=[]), seed=0)


def test_hard_windows_come_again_until_they_are_easy(folder):
    dataset = make_dataset(folder)
    sampler = WindowSampler(dataset, replay=1.0, seed=0)
    assert sampler.draw(0).region is None
    window = dataset[1]['data_samples'].window
    sampler.remember(1, window, 3.0)
    draw = sampler.draw(1)
    assert (int(draw), draw.region) == (1, window)
    y, x, h, w = dataset[draw]['data_samples'].window
    assert abs(y - window.y) < h
    assert abs(x - window.x) < w
    assert sampler.draw(2).region is None
    for loss in range(600):
        sampler.remember(0, window, float(loss))
    kept = sorted(loss for loss, _, _ in sampler._memory)
    assert kept == list(map(float, range(88, 600)))


@pytest.mark.parametrize('channels', [1, 3])
def test_the_loss_of_a_window(channels):
    torch.manual_seed(0)
    logits = torch.randn(3, channels, 6, 6)
    labels = torch.randint(0, max(channels, 2), (3, 1, 6, 6)).byte()
    labels[0, 0, :3] = 255
    labels[2] = 255
    samples = []
    for label in labels:
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label)))
    found = window_losses(logits, samples, 255)
    for i in range(2):
        counted = labels[i, 0] != 255
        target = labels[i, 0][counted]
        values = logits[i][:, counted]
        if channels == 1:
            expected = F.binary_cross_entropy_with_logits(
                values[0], target.float()
            )
        else:
            expected = F.cross_entropy(values.T, target.long())
        torch.testing.assert_close(found[i], expected)
    assert found[2].isnan()


def test_training_replays_windows_with_workers(tiny_cfg):
    cfg = tiny_cfg
    cfg.train_dataloader.num_workers = 2
    cfg.train_dataloader.sampler = dict(
        type='mmseg_uhr.WindowSampler', replay=0.5
    )
    cfg.custom_hooks = [dict(type='mmseg_uhr.HardWindowHook')]
    cfg.train_cfg.max_iters = 15
    cfg.train_cfg.val_interval = 1000
    runner = Runner.from_cfg(cfg)
    head = runner.model.decode_head
    seen = []

    def watch(inputs, samples, *args, _loss=head.loss_by_feat):
        seen.extend(sample.sample_idx for sample in samples)
        return _loss(inputs, samples, *args)

    head.loss_by_feat = watch
    runner.train()
    assert head.loss_by_feat is watch
    assert len(seen) == 30
    replayed = [draw.region is not None for draw in seen]
    # Nothing can come back before it has been seen: of 2 workers, each with
    # 2 batches of 2 windows ahead.
    assert not any(replayed[:8])
    assert 3 <= sum(replayed) <= 19


def test_a_hook_that_could_do_nothing(tiny_cfg):
    tiny_cfg.custom_hooks = [dict(type='mmseg_uhr.HardWindowHook')]
    runner = Runner.from_cfg(tiny_cfg)
    with pytest.raises(ValueError, match='no window would be replayed'):
        runner.train()


def test_a_head_that_shows_no_logits(tiny_cfg):
    """EncNet's gives two kinds of logits at once."""
    cfg = tiny_cfg
    cfg.train_dataloader.sampler = dict(
        type='mmseg_uhr.WindowSampler', replay=0.5
    )
    cfg.custom_hooks = [dict(type='mmseg_uhr.HardWindowHook')]
    cfg.model.decode_head = dict(
        type='EncHead',
        in_channels=[4, 8],
        in_index=[0, 1],
        channels=8,
        num_codes=4,
        num_classes=3,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=cfg.model.decode_head.loss_decode,
    )
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match='EncHead does not give its'):
        runner.train()


def test_epoch_based_training(tiny_cfg):
    cfg = tiny_cfg
    cfg.train_dataloader.sampler = dict(
        type='mmseg_uhr.WindowSampler', windows_per_epoch=6
    )
    cfg.train_cfg = dict(
        type='EpochBasedTrainLoop', max_epochs=2, val_interval=10
    )
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 6
    assert Path(cfg.work_dir).exists()

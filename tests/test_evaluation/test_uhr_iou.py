import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_uhr.evaluation import confusion_matrix
from mmseg_uhr.evaluation.metrics import UHRIoUMetric

ALL = ['mIoU', 'mDice', 'mFscore']


def make(kind, num_classes, **kwargs):
    """Build a metric for a data set of some classes."""
    metric = kind(**kwargs)
    metric.dataset_meta = dict(classes=[f'c{i}' for i in range(num_classes)])
    return metric


def sample(pred, label, **meta):
    """What an evaluator hands to a metric."""
    return dict(
        pred_sem_seg=dict(data=torch.as_tensor(pred)[None]),
        gt_sem_seg=dict(data=torch.as_tensor(label)[None]),
        **meta,
    )


def scores(kind, pairs, num_classes, **kwargs):
    metric = make(kind, num_classes, **kwargs)
    metric.process(None, [sample(*pair) for pair in pairs])
    return metric.evaluate(len(pairs))


def random_pair(rng, shape, num_classes, ignore_index):
    label = rng.integers(0, num_classes, shape)
    label[rng.random(shape) < 0.2] = ignore_index
    return rng.integers(0, num_classes, shape), label


def by_definition(pred, label, num_classes, ignore_index):
    expected = np.zeros((num_classes, num_classes), np.int64)
    for p, t in zip(pred.ravel().tolist(), label.ravel().tolist()):
        if t != ignore_index:
            expected[t, p] += 1
    return expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_classes=st.sampled_from([1, 2, 7, 16, 17, 19, 255]),
    ignore_index=st.sampled_from([255, 0]),
    dtypes=st.tuples(
        st.sampled_from([torch.uint8, torch.int16, torch.int64]),
        st.sampled_from([torch.uint8, torch.int32, torch.int64]),
    ),
    nan_to_num=st.sampled_from([None, -1]),
    beta=st.sampled_from([1, 2]),
)
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
def test_scores_are_those_of_stock(
    seed, num_classes, ignore_index, dtypes, nan_to_num, beta
):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(rng.integers(1, 4)):
        shape = tuple(rng.integers(1, 30, 2))
        pred, label = random_pair(rng, shape, num_classes, ignore_index)
        pairs.append(
            (
                torch.from_numpy(pred).to(dtypes[0]),
                torch.from_numpy(label).to(dtypes[1]),
            )
        )
    options = dict(
        ignore_index=ignore_index,
        iou_metrics=ALL,
        nan_to_num=nan_to_num,
        beta=beta,
    )
    ours = scores(UHRIoUMetric, pairs, num_classes, **options)
    # Stock would cast labels to the predictions' type; int64 holds both.
    pairs = [(pred.long(), label.long()) for pred, label in pairs]
    stock = scores(IoUMetric, pairs, num_classes, **options)
    assert list(ours) == list(stock)
    # Both round to 0.01, after float64 and float32 divisions.
    for name, score in stock.items():
        assert ours[name] == pytest.approx(score, abs=0.0101, nan_ok=True)


def test_scores_of_each_class_are_those_of_stock():
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng, (50, 40), 5, 255)]
    tables = []
    for kind in (IoUMetric, UHRIoUMetric):
        metric = make(kind, 5, iou_metrics=ALL)
        reported = {}
        totals = metric.total_area_to_metrics

        def spy(*args, totals=totals, reported=reported):
            reported.update(totals(*args))
            return dict(reported)

        metric.total_area_to_metrics = spy
        metric.process(None, [sample(*pair) for pair in pairs])
        metric.evaluate(1)
        tables.append(reported)
    stock, ours = tables
    assert list(ours) == list(stock)
    for name, values in stock.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-6)
        assert ours[name].dtype == np.float64


@pytest.mark.parametrize('num_classes', [1, 2, 200, 255, 256, 257, 1000])
@pytest.mark.parametrize('ignore_index', [255, -1, 0, 65535])
def test_confusion_matrix_by_definition(num_classes, ignore_index):
    rng = np.random.default_rng(num_classes)
    pred, label = random_pair(rng, (41, 37), num_classes, ignore_index)
    # The largest ids are where narrow codes would overflow.
    pred[0], label[0] = num_classes - 1, num_classes - 1
    expected = by_definition(pred, label, num_classes, ignore_index)
    counted = confusion_matrix(pred, label, num_classes, ignore_index)
    assert counted.dtype == np.int64
    np.testing.assert_array_equal(counted, expected)
    if num_classes <= 256 and 0 <= ignore_index <= 255:
        narrow = confusion_matrix(
            torch.from_numpy(pred).byte(),
            label.astype(np.uint8),
            num_classes,
            ignore_index,
        )
        np.testing.assert_array_equal(narrow, expected)


def test_rows_are_labels():
    counted = confusion_matrix(
        np.array([[1, 1, 1]], np.uint8), np.array([[0, 0, 1]], np.uint8), 2
    )
    assert counted.tolist() == [[0, 2], [0, 1]]


def test_strips_of_rows_add_up():
    rng = np.random.default_rng(0)
    shape = (5, 2**17)  # Two rows a strip, and a rest of one.
    pred, label = random_pair(rng, shape, 3, 255)
    expected = np.zeros((3, 3), np.int64)
    kept = label != 255
    np.add.at(expected, (label[kept], pred[kept]), 1)
    np.testing.assert_array_equal(confusion_matrix(pred, label, 3), expected)


def test_float_predictions_of_one_channel_heads():
    pred = torch.tensor([[0.0, 1.0, 1.0]])
    label = torch.tensor([[0, 1, 0]])
    for dtype in (torch.float32, torch.bfloat16):
        counted = confusion_matrix(pred.to(dtype), label, 2)
        assert counted.tolist() == [[1, 1], [0, 1]]
    with pytest.raises(ValueError, match='not whole numbers'):
        confusion_matrix(pred / 2, label, 2)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_stock_is_wrong_beyond_2_24_pixels_of_a_class(one_thread):
    """17.64 megapixels of one class are more than float32 can count."""
    label = torch.zeros(4200, 4200, dtype=torch.uint8)
    pred = torch.zeros_like(label)
    wrong = 800_000
    pred.view(-1)[:wrong] = 1
    truth = 100 * (1 - wrong / label.numel())
    assert truth < 95.5

    stock = scores(IoUMetric, [(pred, label)], 2)
    ours = scores(UHRIoUMetric, [(pred, label)], 2)

    assert ours['aAcc'] == round(truth, 2)
    assert ours['mIoU'] == round(truth / 2, 2)  # Class 1 has IoU 0.
    assert stock['aAcc'] == 100
    assert stock['mIoU'] == 50


def test_images_add_up_beyond_2_24():
    """Sums of many images are exact where float32 sums are not."""
    metric = make(UHRIoUMetric, 2)
    metric._earlier = np.array([[2**24, 0], [0, 0]])
    metric._num_images = 1
    ones = np.zeros((1, 3), np.uint8)
    seen = []
    metric.total_area_to_metrics = lambda *areas: (
        seen.append(areas),
        dict(aAcc=np.float64(1)),
    )[1]
    metric.process(None, [sample(ones, ones)])
    metric.evaluate(2)
    assert seen[0][0].tolist() == [2**24 + 3, 0]


def test_memory_does_not_grow_with_the_image():
    label = np.zeros((4000, 4000), np.uint8)
    label[::3] = 255
    pred = label // 255
    metric = make(UHRIoUMetric, 19)
    data = [sample(pred, label)]
    tracemalloc.start()
    try:
        metric.process(None, data)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < 8  # MiB; the label map has 15.


def test_evaluations_in_a_row_share_nothing():
    rng = np.random.default_rng(0)
    epochs = [
        [random_pair(rng, (20, 20), 4, 255) for _ in range(3)]
        for _ in range(3)
    ]
    metric = make(UHRIoUMetric, 4, iou_metrics=ALL)
    for pairs in epochs:
        for pair in pairs:
            metric.process(None, [sample(*pair)])
        assert metric.evaluate(3) == scores(
            UHRIoUMetric, pairs, 4, iou_metrics=ALL
        )
        assert metric.results == []


def test_one_surplus_image_is_padding_more_is_an_error():
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng, (20, 20), 4, 255) for _ in range(3)]
    metric = make(UHRIoUMetric, 4)
    metric.process(None, [sample(*pair) for pair in pairs])
    assert metric.evaluate(2) == scores(UHRIoUMetric, pairs[:2], 4)
    metric.process(None, [sample(*pair) for pair in pairs])
    with pytest.raises(ValueError, match='3 images .* data set of 1'):
        metric.evaluate(1)


def test_label_id_that_is_no_class():
    metric = make(UHRIoUMetric, 3)
    label = np.array([[0, 1, 7, 255, 200]], np.uint8)
    with pytest.raises(ValueError) as error:
        metric.process(
            None,
            [
                sample(
                    np.zeros_like(label),
                    label,
                    seg_map_path='ann/a.png',
                    img_path='img/a.tif',
                )
            ],
        )
    files = ('ann/a.png', 'img/a.tif')
    for part in (*files, 'label ids 7, 200', '3 classes', 'ignore_index'):
        assert part in str(error.value)


def test_predicted_id_that_is_no_class():
    pred = np.array([[0, 3, 9]], np.uint8)
    with pytest.raises(ValueError, match='predicted ids 3 .*num_classes'):
        # The 9 lies on an ignored pixel, which does not count.
        confusion_matrix(pred, np.array([[0, 0, 255]], np.uint8), 3)


def test_many_strange_ids_are_cut_short():
    label = np.arange(256, dtype=np.uint8)[None]
    with pytest.raises(ValueError, match=r'2, 3, .*, 11, \.\.\. are'):
        confusion_matrix(np.zeros_like(label), label, 2)


def test_shapes_that_differ():
    metric = make(UHRIoUMetric, 3)
    with pytest.raises(ValueError) as error:
        metric.process(
            None,
            [
                sample(
                    np.zeros((4, 5), np.uint8),
                    np.zeros((5, 4), np.uint8),
                    seg_map_path='ann/a.png',
                    img_path='img/a.tif',
                )
            ],
        )
    for part in ('(4, 5)', '(5, 4)', 'ann/a.png', 'img/a.tif'):
        assert part in str(error.value)


def test_sample_without_labels():
    metric = make(UHRIoUMetric, 3)
    data = sample(np.zeros((2, 2)), np.zeros((2, 2)), img_path='img/a.tif')
    del data['gt_sem_seg']
    with pytest.raises(ValueError, match='img/a.tif.*format_only'):
        metric.process(None, [data])


@pytest.mark.parametrize('format_only', [False, True])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_saved_predictions_are_those_of_stock(
    tmp_path, format_only, reduce_zero_label
):
    rng = np.random.default_rng(0)
    pred, label = random_pair(rng, (12, 9), 5, 255)
    saved = []
    for kind in (IoUMetric, UHRIoUMetric):
        folder = tmp_path / kind.__name__
        metric = make(
            kind,
            5,
            output_dir=str(folder),
            format_only=format_only,
            keep_results=True,
        )
        data = sample(
            pred,
            label,
            img_path='img/a.tif',
            reduce_zero_label=reduce_zero_label,
        )
        if format_only:
            del data['gt_sem_seg']
        metric.process(None, [data])
        assert bool(metric.evaluate(1)) is not format_only
        assert metric.format_only is format_only
        saved.append(np.asarray(Image.open(folder / 'a.png')))
    np.testing.assert_array_equal(*saved)
    np.testing.assert_array_equal(saved[0], pred + reduce_zero_label)


def test_built_by_an_evaluator_from_a_config():
    init_default_scope('mmseg')
    evaluator = Evaluator(dict(type='mmseg_uhr.UHRIoUMetric', prefix='x'))
    evaluator.dataset_meta = dict(classes=('a', 'b'))
    data = SegDataSample()
    data.pred_sem_seg = PixelData(
        data=torch.tensor([[[0, 1, 1, 1]]], dtype=torch.uint8)
    )
    data.gt_sem_seg = PixelData(data=torch.tensor([[[0, 0, 1, 255]]]))
    evaluator.process([data])
    assert evaluator.evaluate(1) == pytest.approx(
        {'x/aAcc': 66.67, 'x/mIoU': 50.0, 'x/mAcc': 75.0}
    )


# (images in the data set, images a batch); 2 ranks.
SHARDS = [(1, 1), (2, 1), (4, 2), (5, 1), (5, 2), (7, 3)]


def data_set(size):
    rng = np.random.default_rng(size)
    return [random_pair(rng, (30, 20), 4, 255) for _ in range(size)]


def evaluate_shard(rank, folder):
    """Score data sets as one of two ranks, round-up of the sampler or not."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    metric = make(UHRIoUMetric, 4, iou_metrics=ALL)
    found = []
    for size, batch_size in SHARDS:
        pairs = data_set(size)
        for round_up in (True, False):
            shard = list(
                DefaultSampler(pairs, shuffle=False, round_up=round_up)
            )
            for i in range(0, len(shard), batch_size):
                batch = shard[i : i + batch_size]
                metric.process(None, [sample(*pairs[j]) for j in batch])
            found.append(metric.evaluate(size))
    torch.save(found, f'{folder}/rank{rank}.pth')
    torch.distributed.destroy_process_group()


def test_two_processes_score_as_one(tmp_path):
    path = os.pathsep.join(p for p in sys.path if p)
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env={**os.environ, 'PYTHONPATH': path},
            cwd=tmp_path,  # Ranks exchange files below the current folder.
        )
        for rank in range(2)
    ]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    expected = [
        scores(UHRIoUMetric, data_set(size), 4, iou_metrics=ALL)
        for size, _ in SHARDS
        for _ in (True, False)
    ]
    for rank in range(2):
        found = torch.load(tmp_path / f'rank{rank}.pth', weights_only=False)
        assert found == expected


if __name__ == '__main__':
    evaluate_shard(int(sys.argv[1]), sys.argv[2])

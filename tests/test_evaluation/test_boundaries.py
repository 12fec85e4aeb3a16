import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_uhr.evaluation import boundary_counts, trimap_counts
from mmseg_uhr.evaluation.metrics import BoundaryIoUMetric, TrimapIoUMetric


def blobs(seed, shape, num_classes, ignored=0.0, block=5):
    """Label map and prediction with a few objects and some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, num_classes, [n // block + 1 for n in shape])
    label = coarse.repeat(block, 0).repeat(block, 1)[: shape[0], : shape[1]]
    pred = np.roll(label, rng.integers(-2, 3, 2), (0, 1))
    noise = rng.random(shape) < 0.02
    pred[noise] = rng.integers(0, num_classes, noise.sum())
    label = label.astype(np.uint8)
    holes = rng.random([n // block + 1 for n in shape]) < ignored
    holes = holes.repeat(block, 0).repeat(block, 1)[: shape[0], : shape[1]]
    label[holes] = 255
    return pred.astype(np.uint8), label


def boundary_of(mask, width):
    """Mask minus erosion, the formula of the paper's authors."""
    height, length = mask.shape
    padded = cv2.copyMakeBorder(
        mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    for _ in range(width):
        padded = cv2.erode(padded, np.ones((3, 3), np.uint8))
    return mask & (padded[1 : height + 1, 1 : length + 1] == 0)


def boundaries_by_definition(pred, label, num_classes, widths, ignored):
    counted = ~np.isin(label, ignored)
    expected = np.zeros((len(widths), 3, num_classes), np.int64)
    for i, width in enumerate(widths):
        for c in range(num_classes):
            t = boundary_of((label == c) & counted, width)
            p = boundary_of((pred == c) & counted, width)
            expected[i, :, c] = (t & p).sum(), t.sum(), p.sum()
    return expected


def trimap_by_definition(pred, label, num_classes, widths, ignored):
    height, length = label.shape
    ids = np.where(np.isin(label, ignored), num_classes, label)
    expected = np.zeros((len(widths), num_classes, num_classes), np.int64)
    for i, d in enumerate(widths):
        for y in range(height):
            for x in range(length):
                square = ids[
                    max(y - d, 0) : y + d + 1, max(x - d, 0) : x + d + 1
                ]
                if ids[y, x] < num_classes and (square != ids[y, x]).any():
                    expected[i, ids[y, x], pred[y, x]] += 1
    return expected


CASES = dict(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    num_classes=st.sampled_from([1, 2, 5]),
    widths=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    ignored=st.sampled_from([(255,), (255, 0)]),
    rows=st.one_of(st.none(), st.integers(1, 45)),
)


@settings(max_examples=80, deadline=None)
@given(**CASES)
def test_boundaries_in_stripes_are_those_of_the_paper(
    seed, shape, num_classes, widths, ignored, rows
):
    pred, label = blobs(seed, shape, num_classes, ignored=0.1)
    np.testing.assert_array_equal(
        boundary_counts(pred, label, num_classes, widths, ignored, rows),
        boundaries_by_definition(pred, label, num_classes, widths, ignored),
    )


@settings(max_examples=30, deadline=None)
@given(**{**CASES, 'shape': st.tuples(st.integers(1, 16), st.integers(1, 16))})
def test_trimaps_in_stripes_are_those_by_definition(
    seed, shape, num_classes, widths, ignored, rows
):
    pred, label = blobs(seed, shape, num_classes, ignored=0.1, block=3)
    np.testing.assert_array_equal(
        trimap_counts(pred, label, num_classes, widths, ignored, rows),
        trimap_by_definition(pred, label, num_classes, widths, ignored),
    )


@pytest.mark.parametrize('count', [boundary_counts, trimap_counts])
def test_stripes_of_a_large_map_are_the_whole_map(count):
    pred, label = blobs(0, (900, 1100), 6, ignored=0.05, block=50)
    whole = count(pred, label, 6, (3, 90), rows=900)
    for rows in (None, 1000, 317, 64):
        np.testing.assert_array_equal(
            count(pred, label, 6, (3, 90), rows=rows), whole
        )
    wide = torch.from_numpy(pred).long(), torch.from_numpy(label).int()
    np.testing.assert_array_equal(count(*wide, 6, (3, 90)), whole)


@pytest.mark.parametrize('count', [boundary_counts, trimap_counts])
def test_more_classes_than_bytes_hold(count):
    pred, label = blobs(0, (60, 60), 300)
    pred, label = pred.astype(np.int64) + 44, label.astype(np.int64) + 44
    label[label == 299] = -1
    few = np.where(label < 0, 255, label - 44)
    found = count(pred, label, 300, (2,), (-1,))
    expected = count(pred - 44, few, 256, (2,), (255,))
    found = found[..., 44:]
    if count is trimap_counts:
        found = found[:, 44:]
    np.testing.assert_array_equal(found, expected)


def evaluate(kind, pairs, num_classes, **options):
    metric = kind(**options)
    metric.dataset_meta = dict(classes=[f'c{i}' for i in range(num_classes)])
    for pred, label in pairs:
        metric.process(
            None,
            [
                dict(
                    pred_sem_seg=dict(data=torch.as_tensor(pred)[None]),
                    gt_sem_seg=dict(data=torch.as_tensor(label)[None]),
                )
            ],
        )
    return metric.evaluate(len(pairs))


def test_boundary_iou_of_the_paper():
    """2 % of the diagonal of each image, summed over images, by class."""
    pairs = [
        blobs(seed, shape, 3, 0.05, block=20)
        for seed, shape in enumerate([(150, 200), (60, 80), (200, 480)])
    ]
    total = np.zeros((3, 3), np.int64)
    for (pred, label), width in zip(pairs, (5, 2, 10)):
        total += boundaries_by_definition(pred, label, 3, [width], [255])[0]
    ious = total[0] / (total[1] + total[2] - total[0])
    assert evaluate(BoundaryIoUMetric, pairs, 3) == {
        'mIoU_boundary_2pct': round(100 * ious.mean(), 2)
    }
    one = evaluate(
        BoundaryIoUMetric,
        pairs,
        3,
        widths=(3, 0.005),
        protocol=dict(left_out=['c0', 'c2']),
    )
    assert list(one) == ['mIoU_boundary_3px', 'mIoU_boundary_0.5pct']
    total = sum(
        boundaries_by_definition(*pair, 3, [3], [255])[0] for pair in pairs
    )
    iou = (total[0] / (total[1] + total[2] - total[0]))[1]
    assert one['mIoU_boundary_3px'] == round(100 * iou, 2)


def test_dropped_labels_are_ignored_pixels():
    pred, label = blobs(0, (80, 90), 4)
    ignoring = np.where(label == 2, 255, label).astype(np.uint8)
    for kind in (BoundaryIoUMetric, TrimapIoUMetric):
        dropped = evaluate(
            kind,
            [(pred, label)],
            4,
            widths=(2, 8),
            protocol=dict(dropped=['c2'], left_out=['c2']),
        )
        assert dropped == evaluate(
            kind,
            [(pred, ignoring)],
            4,
            widths=(2, 8),
            protocol=dict(left_out=['c2']),
        )


def test_trimap_iou_counts_only_near_boundaries_of_labels():
    label = np.zeros((20, 40), np.uint8)
    label[:, 20:] = 1
    pred = label.copy()
    pred[:, 18:20] = 1  # Two columns too many, at the boundary ...
    pred[:, :5] = 1  # ... and five that no trimap reaches.
    found = evaluate(TrimapIoUMetric, [(pred, label)], 2)
    assert list(found) == [f'mIoU_trimap_{d}px' for d in (2, 4, 8, 16)]
    for d in (2, 4, 8):
        # Of d columns on either side, two are wrong.
        ious = (d - 2) / d, d / (d + 2)
        assert found[f'mIoU_trimap_{d}px'] == round(100 * np.mean(ious), 2)
    ious = 13 / 16, 16 / 19  # Columns 4 to 35: one of the five.
    assert found['mIoU_trimap_16px'] == round(100 * np.mean(ious), 2)


def test_perfect_prediction_and_absent_class():
    _, label = blobs(0, (50, 60), 3, ignored=0.1)
    pred = np.where(label == 255, 0, label)
    for kind in (BoundaryIoUMetric, TrimapIoUMetric):
        # Class 3 is nowhere, and is left out as stock does.
        found = evaluate(kind, [(pred, label)], 4)
        assert set(found.values()) == {100}


@pytest.mark.parametrize(
    'widths', [(0,), (-2,), (1.5,), (0.0,), (True,), ('2',), ()]
)
def test_widths_that_are_none(widths):
    with pytest.raises(ValueError, match='widths'):
        BoundaryIoUMetric(widths=widths)


@pytest.mark.parametrize('kind', [BoundaryIoUMetric, TrimapIoUMetric])
def test_errors_name_the_files(kind):
    metric = kind(widths=(2,))
    metric.dataset_meta = dict(classes=('a', 'b'))
    data = dict(
        pred_sem_seg=dict(data=torch.zeros(1, 4, 4)),
        gt_sem_seg=dict(data=torch.full((1, 4, 4), 7)),
        seg_map_path='ann/a.png',
        img_path='img/a.tif',
    )
    with pytest.raises(
        ValueError, match='ann/a.png.*img/a.tif.*label ids 7 .*ignore_index'
    ):
        metric.process(None, [data])
    data['gt_sem_seg'] = dict(data=torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r'ann/a.png.*\(4, 4\).*\(4, 5\)'):
        metric.process(None, [data])
    data['gt_sem_seg'] = dict(data=torch.zeros(1, 4, 4))
    data['pred_sem_seg'] = dict(data=torch.full((1, 4, 4), 2))
    with pytest.raises(ValueError, match='predicted ids 2 .*num_classes'):
        metric.process(None, [data])


@pytest.mark.parametrize('count', [boundary_counts, trimap_counts])
def test_memory_does_not_grow_with_the_height(count):
    pred, label = blobs(0, (8000, 1000), 4, block=100)
    tracemalloc.start()
    try:
        count(pred, label, 4, (2, 16))
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < 12  # MiB; a mask of the map has 7.6, distances 30.


def test_beside_each_other_in_an_evaluator():
    init_default_scope('mmseg')
    evaluator = Evaluator(
        [
            dict(type='mmseg_uhr.UHRIoUMetric', protocol='inria-building'),
            dict(type='mmseg_uhr.BoundaryIoUMetric', widths=(2, 4, 8, 16)),
            dict(type='mmseg_uhr.TrimapIoUMetric', prefix='x'),
            dict(type='mmseg_uhr.ObjectSizeIoUMetric', edges=(50,)),
        ]
    )
    evaluator.dataset_meta = dict(classes=('background', 'building'))
    pred, label = blobs(0, (40, 50), 2)
    data = SegDataSample()
    data.pred_sem_seg = PixelData(data=torch.from_numpy(pred)[None])
    data.gt_sem_seg = PixelData(data=torch.from_numpy(label)[None])
    evaluator.process([data])
    found = evaluator.evaluate(1)
    assert len(found) == 3 + 4 + 4 + 6
    assert all(0 < value < 100 for value in found.values())
    assert {
        'mIoU',
        'mIoU_boundary_2px',
        'x/mIoU_trimap_16px',
        'mIoU_objects_1-49px',
        'mPrecision_objects_50px_up',
    } <= set(found)

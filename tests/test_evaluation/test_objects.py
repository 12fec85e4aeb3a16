import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mmseg_uhr.evaluation import confusion_matrix, object_counts
from mmseg_uhr.evaluation.metrics import ObjectSizeIoUMetric


def by_definition(pred, label, num_classes, edges, ignored):
    """Component by component, on the whole map."""
    counted = ~np.isin(label, ignored)
    expected = np.zeros((5, num_classes, len(edges) + 1), np.int64)
    for c in range(num_classes):
        for first, ids, marks in (
            (0, label, pred == c),
            (2, pred, label != c),
        ):
            parts, number = ndimage.label(
                (ids == c) & counted, np.ones((3, 3))
            )
            for i in range(1, number + 1):
                part = parts == i
                size = sum(part.sum() >= edge for edge in edges)
                if first == 0:
                    expected[0, c, size] += 1
                expected[first + 1, c, size] += part.sum()
                expected[first + 2, c, size] += (part & marks).sum()
    return expected


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    num_classes=st.sampled_from([1, 2, 5]),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    edges=st.lists(st.integers(2, 60), max_size=3, unique=True).map(sorted),
    ignored=st.sampled_from([(255,), (255, 0)]),
    rows=st.one_of(st.none(), st.integers(1, 30)),
)
def test_objects_in_stripes_are_those_of_the_whole_map(
    seed, shape, num_classes, share, edges, ignored, rows
):
    """Noise of all densities: snakes, rings, combs and single pixels."""
    rng = np.random.default_rng(seed)
    label, pred = (
        np.where(
            rng.random(shape) < share, 0, rng.integers(0, num_classes, shape)
        ).astype(np.uint8)
        for _ in range(2)
    )
    label[rng.random(shape) < 0.1] = 255
    found = object_counts(pred, label, num_classes, edges, ignored, rows)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(
        found, by_definition(pred, label, num_classes, edges, ignored)
    )


def test_bins_part_the_union_of_each_class():
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 4, (40, 30)), np.ones((9, 9), int))
    pred = np.roll(label, 2, 1)
    label[rng.random(label.shape) < 0.01] = 255
    _, labelled, right, predicted, wrong = object_counts(
        pred, label, 4, (100, 400), rows=50
    )
    counts = confusion_matrix(pred, label, 4)
    np.testing.assert_array_equal(labelled.sum(1), counts.sum(1))
    np.testing.assert_array_equal(predicted.sum(1), counts.sum(0))
    np.testing.assert_array_equal(right.sum(1), counts.diagonal())
    np.testing.assert_array_equal(
        (labelled + wrong).sum(1),
        counts.sum(0) + counts.sum(1) - counts.diagonal(),
    )


def test_memory_does_not_grow_with_the_height():
    label = np.zeros((8000, 1000), np.uint8)
    label[::20] = 1
    label[:, ::20] = 1
    label[1::20, 1::20] = 2
    pred = np.roll(label, 1, 1)
    peaks = []
    for height in (2000, 8000):
        tracemalloc.start()
        try:
            object_counts(pred[:height], label[:height], 3, (4, 40))
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1
    assert peaks[1] < 30  # MiB


def make(**options):
    metric = ObjectSizeIoUMetric(**options)
    metric.dataset_meta = dict(classes=('ground', 'house'))
    return metric


def sample(pred, label):
    return dict(
        pred_sem_seg=dict(data=torch.as_tensor(pred)[None]),
        gt_sem_seg=dict(data=torch.as_tensor(label)[None]),
    )


def test_scores_of_houses_by_size():
    label = np.zeros((40, 40), np.uint8)
    label[2:5, 2:5] = 1  # Small, 9 pixels ...
    label[10:30, 10:30] = 1  # ... and large, 400.
    pred = np.zeros_like(label)
    pred[2:5, 2:4] = 1  # 6 of the small,
    pred[10:30, 10:31] = 1  # all of the large and 20 too many,
    pred[35:37, 2:4] = 1  # and a small house of 4 where none is.
    metric = make(edges=(100,), protocol=dict(left_out=['ground']))
    metric.process(None, [sample(pred, label)])
    found = metric.evaluate(1)
    assert found == {
        'mIoU_objects_1-99px': round(100 * 6 / (9 + 4), 2),
        'mRecall_objects_1-99px': round(100 * 6 / 9, 2),
        'mPrecision_objects_1-99px': round(100 * 6 / 10, 2),
        'mIoU_objects_100px_up': round(100 * 400 / 420, 2),
        'mRecall_objects_100px_up': 100,
        'mPrecision_objects_100px_up': round(100 * 400 / 420, 2),
    }


def test_size_that_no_labelled_object_has():
    """Specks are no IoU of 0 for a class that has no small objects."""
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    pred = label.copy()
    pred[5, 5] = 1
    metric = make(edges=(10,))
    metric.process(None, [sample(pred, label)])
    found = metric.evaluate(1)
    assert np.isnan(found['mIoU_objects_1-9px'])
    assert np.isnan(found['mRecall_objects_1-9px'])
    assert found['mPrecision_objects_1-9px'] == 0
    assert found['mIoU_objects_10px_up'] == round(50 * (1 + 799 / 800), 2)


def test_names_of_the_bins():
    assert make().bins == ['1-1023px', '1024-9215px', '9216px_up']
    assert make(edges=()).bins == ['1px_up']


@pytest.mark.parametrize('edges', [(1,), (5, 5), (9, 4), (2.5,)])
def test_edges_that_do_not_ascend(edges):
    with pytest.raises(ValueError, match='edges=.*ascending'):
        make(edges=edges)

import csv
import logging

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmseg_uhr.datasets import (
    CityscapesUHRDataset,
    DeepGlobeDataset,
    InriaDataset,
    URURDataset,
)
from mmseg_uhr.evaluation import PROTOCOLS
from mmseg_uhr.evaluation.metrics import UHRIoUMetric

DEEPGLOBE = DeepGlobeDataset.METAINFO['classes']
INRIA = InriaDataset.METAINFO['classes']


def sample(pred, label):
    return dict(
        pred_sem_seg=dict(data=torch.as_tensor(pred)[None]),
        gt_sem_seg=dict(data=torch.as_tensor(label)[None]),
    )


def scores(pairs, classes, **options):
    metric = UHRIoUMetric(iou_metrics=['mIoU', 'mFscore'], **options)
    metric.dataset_meta = dict(classes=classes)
    for pair in pairs:
        metric.process(None, [sample(*pair)])
    return metric.evaluate(len(pairs))


def random_pair(seed, num_classes):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, (40, 30), np.uint8)
    pred = label.copy()
    wrong = rng.random(label.shape) < 0.3
    pred[wrong] = rng.integers(0, num_classes, wrong.sum(), np.uint8)
    label[rng.random(label.shape) < 0.1] = 255
    return pred, label


def by_hand(pairs, classes, counted):
    """Means over some classes, mask by mask, and the pixel accuracy."""
    pred, label = (
        np.concatenate([p[i].ravel() for p in pairs]).astype(int)
        for i in (0, 1)
    )
    keep = counted(label) & (label != 255)
    pred, label = pred[keep], label[keep]
    ious, recalls, fscores = [], [], []
    for i in classes:
        p, t = pred == i, label == i
        ious.append((p & t).sum() / (p | t).sum())
        recalls.append((p & t).sum() / t.sum())
        fscores.append(2 * (p & t).sum() / (p.sum() + t.sum()))
    return {
        'aAcc': 100 * (pred == label).mean(),
        'mIoU': 100 * np.mean(ious),
        'mAcc': 100 * np.mean(recalls),
        'mFscore': 100 * np.mean(fscores),
    }


@pytest.mark.parametrize(
    'protocol, classes, mean, counted',
    [
        ('deepglobe-6', DEEPGLOBE, range(1, 7), lambda t: t >= 0),
        ('deepglobe-6-ignore', DEEPGLOBE, range(1, 7), lambda t: t != 0),
        ('inria-building', INRIA, [1], lambda t: t >= 0),
        ('inria-2class', INRIA, [0, 1], lambda t: t >= 0),
        (
            'cityscapes-uhr',
            CityscapesUHRDataset.METAINFO['classes'],
            range(19),
            lambda t: t >= 0,
        ),
        (
            'urur-8',
            URURDataset.METAINFO['classes'],
            range(8),
            lambda t: t >= 0,
        ),
        ('fbp-24', [f'c{i}' for i in range(24)], range(24), lambda t: t >= 0),
        (dict(left_out=['farm']), ['Sea', 'Farm'], [0], lambda t: t >= 0),
    ],
)
def test_means_are_of_the_protocol(protocol, classes, mean, counted):
    pairs = [random_pair(seed, len(classes)) for seed in range(3)]
    found = scores(pairs, classes, protocol=protocol)
    for name, value in by_hand(pairs, mean, counted).items():
        assert found[name] == pytest.approx(value, abs=0.00501), name
    # The keys are stock's, so that save_best and plots go on working.
    assert list(found) == list(scores(pairs, classes))


def test_the_two_protocols_of_deepglobe_differ_as_papers_say():
    label = np.array([[0, 0, 1, 1, 2, 3, 4, 5, 6]], np.uint8)
    pred = np.array([[1, 1, 1, 1, 2, 3, 4, 5, 6]], np.uint8)
    kept = scores([(pred, label)], DEEPGLOBE, protocol='deepglobe-6')
    dropped = scores([(pred, label)], DEEPGLOBE, protocol='deepglobe-6-ignore')
    assert kept['mIoU'] == round(100 * 5.5 / 6, 2)
    assert kept['aAcc'] == round(100 * 7 / 9, 2)
    assert dropped['mIoU'] == dropped['aAcc'] == 100


def test_one_pixel_predicted_unknown_adds_no_seventh_class():
    """``ignore_index=0`` alone means seven classes as soon as one appears."""
    label = np.arange(7, dtype=np.uint8).repeat(100)[None]
    pred = label.copy()
    pred[0, -1] = 0
    stock = scores([(pred, label)], DEEPGLOBE, ignore_index=0)
    ours = scores([(pred, label)], DEEPGLOBE, protocol='deepglobe-6-ignore')
    assert stock['mIoU'] == round(100 * 5.99 / 7, 2)
    assert ours['mIoU'] == round(100 * 5.99 / 6, 2)


def test_another_order_of_classes_changes_nothing():
    pred, label = random_pair(0, 7)
    other = (*DEEPGLOBE[1:], 'Unknown')
    moved = np.arange(256)
    moved[:7] = [6, *range(6)]
    for protocol in ('deepglobe-6', 'deepglobe-6-ignore'):
        assert scores(
            [(moved[pred], moved[label])], other, protocol=protocol
        ) == scores([(pred, label)], DEEPGLOBE, protocol=protocol)


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_log_tells_the_protocol(log):
    scores([random_pair(0, 7)], DEEPGLOBE, protocol='deepglobe-6-ignore')
    assert (
        'protocol deepglobe-6-ignore: means over 6 of 7 classes, without '
        'unknown; pixels labelled unknown do not count'
    ) in log.text
    # Stock's table still has all classes.
    assert all(name in log.text for name in DEEPGLOBE)


def test_mean_of_seven_classes_is_not_silent(log):
    scores([random_pair(0, 7)], DEEPGLOBE)
    assert 'means over all 7 classes' in log.text
    assert 'by deepglobe-6 or deepglobe-6-ignore' in log.text
    log.clear()
    scores([random_pair(0, 2)], ('sea', 'land'))
    assert 'protocol' not in log.text


def test_every_protocol_says_what_tables_print():
    assert all(protocol.tables for protocol in PROTOCOLS.values())


@pytest.mark.parametrize(
    'protocol, classes, parts',
    [
        ('deepglobe', DEEPGLOBE, ["'deepglobe'", 'known: deepglobe-6, ']),
        (dict(leave_out=['a']), DEEPGLOBE, ['no field leave_out', 'left_out']),
        ('deepglobe-6', INRIA, ['is for 7 classes', 'has 2: background, bui']),
        (
            'inria-building',
            ('no', 'yes'),
            ["no class 'background'", 'no, yes'],
        ),
        (dict(dropped=['x']), INRIA, ["no class 'x'"]),
        (dict(left_out=INRIA), INRIA, ['leaves out every class']),
        ('urur-8', None, ['is for 8 classes', 'has 0']),
    ],
)
def test_wrong_protocol_is_found_before_the_first_image(
    protocol, classes, parts
):
    init_default_scope('mmseg')

    def build():
        evaluator = Evaluator(
            dict(type='mmseg_uhr.UHRIoUMetric', protocol=protocol)
        )
        # The loops do this when they are built.
        evaluator.dataset_meta = dict(classes=classes)

    with pytest.raises(ValueError) as error:
        build()
    for part in parts:
        assert part in str(error.value)


def test_confusion_file(tmp_path):
    pairs = [random_pair(seed, 7) for seed in range(2)]
    expected = np.zeros((7, 7), np.int64)
    for pred, label in pairs:
        np.add.at(expected, (label[label < 7], pred[label < 7]), 1)
    for name in ('new/confusion.npy', 'new/confusion.csv'):
        path = tmp_path / name
        options = dict(protocol='deepglobe-6-ignore', confusion_file=str(path))
        found = scores(pairs, DEEPGLOBE, **options)
        # Dropped labels are in the file, not in the scores.
        assert found == scores(pairs, DEEPGLOBE, protocol='deepglobe-6-ignore')
        if path.suffix == '.npy':
            counts = np.load(path)
        else:
            with open(path, newline='') as file:
                header, *rows = csv.reader(file)
            assert header == ['label \\ predicted', *DEEPGLOBE]
            assert [row[0] for row in rows] == list(DEEPGLOBE)
            counts = np.array([row[1:] for row in rows], int)
        np.testing.assert_array_equal(counts, expected)
    assert len(list((tmp_path / 'new').iterdir())) == 2


def test_scores_outlive_a_confusion_file_that_cannot_be_written(tmp_path, log):
    (tmp_path / 'file').touch()
    path = tmp_path / 'file' / 'confusion.csv'
    pairs = [random_pair(0, 2)]
    found = scores(pairs, ('sea', 'land'), confusion_file=str(path))
    assert found == scores(pairs, ('sea', 'land'))
    errors = [r for r in log.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert str(path) in errors[0].message


def test_confusion_file_of_another_format():
    with pytest.raises(ValueError, match=r"'c.xlsx'.*\.csv or \.npy"):
        UHRIoUMetric(confusion_file='c.xlsx')

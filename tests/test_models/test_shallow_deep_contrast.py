import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
import torch.distributed
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_uhr.models.decode_heads import ShallowDeepContrastHead
from mmseg_uhr.models.losses import ShallowDeepContrastLoss
from mmseg_uhr.models.losses.shallow_deep_contrast import majority_labels


@pytest.fixture(autouse=True)
def _setup():
    init_default_scope('mmseg')
    hub = MessageHub.get_instance(f'sdc-{uuid.uuid4()}')
    assert hub is MessageHub.get_current_instance()


def samples(label):
    return [
        SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in label
    ]


def contrast(shallow, deep, labels, num_classes=3, hard=None, **kwargs):
    if hard is None:
        hard = torch.zeros_like(labels, dtype=torch.bool)
    loss = ShallowDeepContrastLoss(**{'loss_weight': 1.0, **kwargs})
    return loss(shallow, deep, labels, labels, hard, num_classes)


def test_majority_labels():
    label = torch.tensor(
        [
            [0, 0, 1, 1, 255, 255],
            [0, 1, 1, 1, 255, 2],
            [2, 2, 0, 1, 3, 3],
            [2, 2, 1, 0, 3, 3],
        ]
    )[None]
    cells = majority_labels(label, (2, 3), 4)
    # 3 of 4 pixels are enough, 2 are not, and ignored ones never win.
    assert cells.tolist() == [[[0, 1, -1], [2, -1, 3]]]
    cells = majority_labels(label.to(torch.uint8), (2, 3), 4, (3,))
    assert cells.tolist() == [[[0, 1, -1], [2, -1, -1]]]


def test_majority_labels_count_ignored_pixels_as_part_of_the_cell():
    label = torch.tensor([[[0, 0], [255, 255]]])
    assert majority_labels(label, (1, 1), 2).item() == -1


def test_majority_labels_of_uneven_cells_match_a_plain_loop():
    label = torch.randint(0, 3, (2, 13, 19))
    label[0, :6, :9] = 1
    cells = majority_labels(label, (4, 5), 3, purity=0.5)
    for n in range(2):
        for i in range(4):
            for j in range(5):
                rows = [y for y in range(13) if y * 4 // 13 == i]
                cols = [x for x in range(19) if x * 5 // 19 == j]
                pixels = label[n][rows][:, cols].flatten()
                counts = pixels.bincount(minlength=3)
                expected = int(counts.argmax())
                if counts.max() < 0.5 * len(pixels):
                    expected = -1
                assert cells[n, i, j] == expected


def test_loss_is_infonce_by_its_definition():
    torch.manual_seed(0)
    shallow, deep = torch.randn(1, 5, 4, 4), torch.randn(1, 5, 4, 4)
    labels = torch.arange(16).view(1, 4, 4) % 3
    loss = contrast(shallow, deep, labels)

    flat = deep[0].flatten(1).T
    targets = flat - flat.mean(dim=0)
    targets = targets / targets.norm(dim=1, keepdim=True)
    y = labels.flatten()
    prototypes = [targets[y == k].mean(dim=0) for k in range(3)]
    prototypes = [p / p.norm() for p in prototypes]
    per_class = []
    for k in range(3):
        terms = []
        for z in shallow[0].flatten(1).T[y == k]:
            z = z / z.norm()
            positive = torch.exp(z @ prototypes[k] / 0.1)
            others = (
                sum(
                    torch.exp(z @ prototypes[j] / 0.1)
                    for j in range(3)
                    if j != k
                )
                + torch.exp(targets[y != k] @ z / 0.1).sum()
            )
            terms.append(-torch.log(positive / (positive + others)))
        per_class.append(torch.stack(terms).mean())
    torch.testing.assert_close(loss, torch.stack(per_class).mean())


def test_loss_falls_as_shallow_features_copy_the_deep_ones():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8))
    deep = torch.randn(3, 16)[labels].permute(0, 3, 1, 2).relu()
    deep = deep + 0.1 * torch.rand_like(deep)
    noise = torch.randn(2, 16, 8, 8)
    target = deep - deep.mean(dim=(0, 2, 3), keepdim=True)
    losses = [
        contrast((1 - t) * noise + t * target, deep, labels).item()
        for t in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1 * losses[0]


def test_gradient_reaches_the_shallow_map_only():
    shallow = torch.randn(1, 4, 4, 4, requires_grad=True)
    deep = torch.randn(1, 4, 4, 4, requires_grad=True)
    labels = torch.arange(16).view(1, 4, 4) % 2
    contrast(shallow, deep, labels).backward()
    assert shallow.grad.any()
    assert deep.grad is None


@pytest.mark.parametrize(
    'labels',
    [
        torch.full((1, 4, 4), -1),
        torch.zeros(1, 4, 4, dtype=torch.long),
    ],
    ids=['all ignored', 'one class'],
)
def test_nothing_to_contrast_is_zero_with_a_graph(labels):
    shallow = torch.randn(1, 4, 4, 4, requires_grad=True)
    loss = contrast(shallow, torch.randn(1, 4, 4, 4), labels)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(shallow.grad, torch.zeros_like(shallow))


def test_shallow_cells_of_no_class_are_zero():
    deep_labels = torch.arange(16).view(1, 4, 4) % 2
    none = torch.full((1, 8, 8), -1)
    loss = ShallowDeepContrastLoss()(
        torch.randn(1, 4, 8, 8),
        torch.randn(1, 4, 4, 4),
        none,
        deep_labels,
        none > 0,
        2,
    )
    assert loss.item() == 0


@pytest.mark.parametrize('scale', [0.0, 1e-20, 1e4])
def test_never_nan(scale):
    labels = torch.arange(16).view(1, 4, 4) % 3
    shallow = (scale * torch.randn(1, 4, 4, 4)).requires_grad_()
    loss = contrast(shallow, scale * torch.ones(1, 4, 4, 4), labels)
    loss.backward()
    assert loss.isfinite()
    assert shallow.grad.isfinite().all()


def test_half_precision_input():
    labels = torch.arange(16).view(1, 4, 4) % 3
    shallow, deep = torch.randn(2, 1, 4, 4, 4).unbind()
    with torch.autocast('cpu', torch.bfloat16):
        loss = contrast(shallow.bfloat16(), deep.bfloat16(), labels)
    assert loss.dtype == torch.float32


def test_anchors_are_half_hard():
    loss = ShallowDeepContrastLoss(max_anchors=8)
    labels = torch.zeros(100, dtype=torch.long)
    labels[80:] = 1

    def count(num_hard):
        hard = torch.zeros(100, dtype=torch.bool)
        hard[:num_hard] = True
        anchors = loss._anchors(labels, hard, 0)
        assert len(anchors.unique()) == len(anchors) == 8
        assert (labels[anchors] == 0).all()
        return int(hard[anchors].sum())

    assert [count(n) for n in (0, 2, 40, 78, 80)] == [0, 2, 4, 6, 8]


def test_weight_rises_over_the_first_twentieth():
    loss = ShallowDeepContrastLoss(loss_weight=0.1)
    assert loss.weight() == 0.1
    hub = MessageHub.get_current_instance()
    hub.update_info('max_iters', 1000)
    weights = []
    for iteration in (0, 24, 49, 50, 999):
        hub.update_info('iter', iteration)
        weights.append(loss.weight())
    assert weights == pytest.approx([0.002, 0.05, 0.1, 0.1, 0.1])


def build_head(**kwargs):
    return ShallowDeepContrastHead(
        **{
            'in_channels': 6,
            'in_index': 1,
            'deep_index': 2,
            'embed_channels': 4,
            'channels': 5,
            'num_convs': 1,
            'concat_input': False,
            'num_classes': 3,
            'norm_cfg': dict(type='BN'),
            'loss_decode': dict(type='CrossEntropyLoss', avg_non_ignore=True),
            'loss_contrast': dict(type='mmseg_uhr.ShallowDeepContrastLoss'),
            **kwargs,
        }
    )


def features():
    return (
        torch.randn(2, 3, 8, 8),
        torch.randn(2, 6, 4, 4),
        torch.randn(2, 4, 2, 2),
    )


@pytest.mark.parametrize('kind', ['three', 'one', 'ignored'])
def test_head_gives_every_parameter_a_gradient(kind):
    label = torch.full((2, 64, 64), 255)
    if kind != 'ignored':
        label[:] = 0
    if kind == 'three':
        label[0, :32], label[1, 32:] = 1, 2
    head = build_head()
    losses = head.loss(features(), samples(label), None)
    assert set(losses) == {'loss_ce', 'loss_sdc', 'acc_seg'}
    assert (losses['loss_sdc'] > 0) == (kind == 'three')
    (losses['loss_ce'] + losses['loss_sdc']).backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_head_excludes_classes():
    label = torch.zeros(2, 64, 64, dtype=torch.long)
    label[:, 32:] = 2
    inputs = features()
    assert build_head().loss(inputs, samples(label), None)['loss_sdc'] > 0
    head = build_head(exclude_classes=(2,))
    assert head.loss(inputs, samples(label), None)['loss_sdc'] == 0


def test_head_with_one_logit():
    label = torch.zeros(2, 64, 64, dtype=torch.long)
    label[:, 32:] = 1
    head = build_head(
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
    )
    assert head.loss(features(), samples(label), None)['loss_sdc'] > 0


def test_head_names_the_wrong_embedding():
    with pytest.raises(ValueError, match='4 channels, embed_channels is 9'):
        build_head(embed_channels=9).loss(
            features(), samples(torch.zeros(2, 64, 64).long()), None
        )


def of_rank(rank, port, path):
    """Be one of two ranks; the second one sees class 1 only."""
    address = f'tcp://127.0.0.1:{port}'
    torch.distributed.init_process_group(
        'gloo', init_method=address, rank=rank, world_size=2
    )
    deep, labels = torch.load(path, weights_only=True)
    deep = deep[rank : rank + 1]
    labels = labels[rank : rank + 1]
    loss = ShallowDeepContrastLoss()
    targets = loss._targets(deep.flatten(2)[0].T)
    prototypes, present = loss._prototypes(targets, labels.flatten(), 3)
    model = nn.parallel.DistributedDataParallel(nn.Conv2d(4, 4, 1))
    value = loss(model(deep), deep, labels, labels, labels < 0, 3)
    value.backward()
    grad = model.module.weight.grad
    torch.save((prototypes, present, value, grad), f'{path}.{rank}')
    torch.distributed.barrier()
    # Like multiprocessing: in an orderly exit gloo's threads were seen to
    # wait for each other.
    os._exit(0)


def test_prototypes_are_those_of_all_ranks(tmp_path):
    deep = torch.randn(2, 4, 4, 4)
    labels = torch.ones(2, 4, 4, dtype=torch.long)
    labels[0, :2] = 0
    path = str(tmp_path / 'batch.pt')
    torch.save((deep, labels), path)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    root = str(Path(__file__).parents[2])
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), port, path],
            env={**os.environ, 'PYTHONPATH': root},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=60) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()

    loss = ShallowDeepContrastLoss()
    targets = loss._targets(deep.flatten(2).transpose(1, 2).flatten(0, 1))
    expected, present = loss._prototypes(targets, labels.flatten(), 3)
    results = [
        torch.load(f'{path}.{rank}', weights_only=True) for rank in range(2)
    ]
    for prototypes, seen, value, _ in results:
        torch.testing.assert_close(prototypes, expected)
        assert torch.equal(seen, present)
        # Also the rank of one class has something to tell it from.
        assert value > 0
    assert torch.equal(results[0][3], results[1][3])


if __name__ == '__main__':
    of_rank(int(sys.argv[1]), *sys.argv[2:])

"""Losses in stripes equal stock's, with their gradients."""

import copy
import itertools

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead, FPNHead, STDCHead
from mmseg.structures import SegDataSample
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmseg_uhr.models.losses import stripe_losses
from mmseg_uhr.registry import MODELS

CLASSES = 4
CE = dict(type='CrossEntropyLoss')
# Both stacks fail on weights of classes with ignored pixels, in other ways.
PIXEL_LOSSES = dict(
    ce=dict(CE),
    ce_valid=dict(CE, avg_non_ignore=True, loss_weight=0.4),
    ce_sum=dict(CE, reduction='sum'),
    bce=dict(CE, use_sigmoid=True),
    bce_valid=dict(CE, use_sigmoid=True, avg_non_ignore=True),
    focal=dict(type='mmseg_uhr.SoftmaxFocalLoss', avg_non_ignore=True),
    focal_all=dict(type='mmseg_uhr.SoftmaxFocalLoss', gamma=2.0),
    dice=dict(type='DiceLoss', use_sigmoid=False),
    dice_sigmoid=dict(type='DiceLoss', naive_dice=True, loss_weight=3.0),
    dice_left_out=dict(type='DiceLoss', ignore_index=1),
    several=[
        dict(CE, avg_non_ignore=True),
        dict(type='DiceLoss', use_sigmoid=False, loss_weight=0.5),
        dict(CE, use_sigmoid=True, loss_weight=2.0),
    ],
)
# To stock, targets of the others are float32 whatever the logits are.
IN_FLOAT64 = ('ce', 'ce_valid', 'ce_sum')
SHAPES = {
    'x4': ((13, 9), (52, 36)),
    'odd': ((7, 11), (50, 61)),
    'smaller': ((23, 19), (17, 30)),
    'same': ((20, 16), (20, 16)),
    'one_row': ((1, 5), (21, 20)),
}


def make_head(
    loss: dict | list,
    align_corners: bool = False,
    classes: int = CLASSES,
    **kw,
) -> FCNHead:
    """A stock head whose logits the tests set."""
    return FCNHead(
        in_channels=2,
        channels=2,
        num_convs=0,
        concat_input=False,
        num_classes=max(classes, 2),
        out_channels=classes,
        align_corners=align_corners,
        loss_decode=loss,
        **kw,
    )


def make_batch(
    small: tuple[int, int],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    batch: int = 2,
    classes: int = CLASSES,
    ignored: float = 0.2,
) -> tuple[torch.Tensor, list[SegDataSample]]:
    """Logits, and labels with ignored pixels and rows."""
    logits = torch.randn(batch, classes, *small, dtype=dtype) * 3
    samples = []
    for _ in range(batch):
        label = torch.randint(0, max(classes, 2), (1, *size))
        label[torch.rand(1, *size) < ignored] = 255
        label[:, : size[0] // 3] = 255 if ignored else 0
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return logits, samples


def run(head, logits, samples):
    """Losses, and gradients of sums that weight them differently."""
    logits = logits.clone().requires_grad_()
    losses = head.loss_by_feat(logits, samples)
    names = [name for name in losses if 'loss' in name]
    total = sum((i + 1) * losses[name] for i, name in enumerate(names))
    # Scaled as by a GradScaler.
    (8 * total).backward()
    return {k: v.detach() for k, v in losses.items()}, logits.grad


def compare(head, logits, samples, rows, tolerance):
    expected, gradient = run(head, logits, samples)
    striped = copy.deepcopy(head)
    stripe_losses(striped, rows)
    # Copies (an averaged model) compute by themselves.
    striped = copy.deepcopy(striped)
    found, found_gradient = run(striped, logits, samples)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        # Stock's accuracy is float32; one rounding may differ.
        nearly = 2e-7 if name == 'acc_seg' else tolerance
        torch.testing.assert_close(
            found[name].to(value), value, rtol=nearly, atol=nearly
        )
    assert found_gradient.dtype == logits.dtype
    scale = gradient.abs().max()
    assert (found_gradient - gradient).abs().max() <= tolerance * scale


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('loss', PIXEL_LOSSES)
def test_equals_stock_in_float64(loss, shape, align_corners):
    head = make_head(PIXEL_LOSSES[loss], align_corners)
    tolerance = 1e-10 if loss in IN_FLOAT64 else 1e-6
    for rows, batch in ((8, 2), (17, 1), (1000, 3)):
        logits, samples = make_batch(*SHAPES[shape], torch.float64, batch)
        compare(head, logits, samples, rows, tolerance)


@pytest.mark.parametrize('loss', PIXEL_LOSSES)
def test_equals_stock_in_float32(loss):
    for (small, size), align_corners in itertools.product(
        [((32, 24), (256, 192)), ((39, 31), (301, 247))], (False, True)
    ):
        head = make_head(PIXEL_LOSSES[loss], align_corners)
        logits, samples = make_batch(small, size)
        compare(head, logits, samples, 33, 1e-6)


@pytest.mark.parametrize('valid', [False, True])
def test_class_weights(valid):
    loss = dict(CE, class_weight=[0.5, 1.0, 2.0, 4.0], avg_non_ignore=False)
    head = make_head(loss)
    logits, samples = make_batch((13, 9), (52, 36), torch.float64, ignored=0)
    compare(head, logits, samples, 8, 1e-10)
    # Stock has no result with ignored pixels on every stack: it is that of
    # PyTorch.
    head = make_head(dict(loss, avg_non_ignore=valid))
    stripe_losses(head, 8)
    logits, samples = make_batch((26, 18), (26, 18), torch.float64)
    found, _ = run(head, logits, samples)
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = torch.nn.functional.cross_entropy(
        logits,
        labels,
        torch.tensor(loss['class_weight'], dtype=torch.float64),
        ignore_index=255,
    )
    torch.testing.assert_close(found['loss_ce'], expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    'loss',
    [
        dict(CE, use_sigmoid=True),
        dict(CE, use_sigmoid=True, avg_non_ignore=True),
        dict(type='DiceLoss'),
    ],
)
def test_single_channel(loss):
    head = make_head(loss, classes=1, threshold=0.5)
    logits, samples = make_batch((13, 9), (52, 36), torch.float64, classes=1)
    compare(head, logits, samples, 8, 1e-6)


def test_single_channel_tells_of_a_third_class():
    head = make_head(dict(CE, use_sigmoid=True), classes=1, threshold=0.5)
    stripe_losses(head, 8)
    logits, samples = make_batch((13, 9), (52, 36), classes=1)
    samples[0].gt_sem_seg.data[0, -1, -1] = 2
    with pytest.raises(ValueError, match='0, 1 and 255; found 2'):
        head.loss_by_feat(logits, samples)


@pytest.mark.parametrize('min_kept', [20, 400, 100000])
@pytest.mark.parametrize('thresh', [None, 0.3, 0.7])
def test_hard_pixels(thresh, min_kept):
    sampler = dict(type='OHEMPixelSampler', thresh=thresh, min_kept=min_kept)
    loss = [
        dict(CE, avg_non_ignore=True, loss_name='loss_a'),
        dict(CE, loss_name='loss_b', loss_weight=0.4),
    ]
    head = make_head(loss, sampler=sampler)
    for shape in SHAPES.values():
        logits, samples = make_batch(*shape, torch.float64)
        compare(head, logits, samples, 8, 1e-10)


def test_nothing_to_learn_from():
    for sampler in (None, dict(type='OHEMPixelSampler', thresh=0.7)):
        head = make_head(dict(CE, avg_non_ignore=True), sampler=sampler)
        logits, samples = make_batch((13, 9), (52, 36))
        for sample in samples:
            sample.gt_sem_seg.data.fill_(255)
        compare(head, logits, samples, 8, 1e-6)


def test_labels_may_be_bytes():
    head = make_head(PIXEL_LOSSES['several'])
    stripe_losses(head, 8)
    logits, samples = make_batch((13, 9), (52, 36))
    expected, gradient = run(head, logits, samples)
    for sample in samples:
        sample.gt_sem_seg.data = sample.gt_sem_seg.data.to(torch.uint8)
    found, found_gradient = run(head, logits, samples)
    assert found == expected
    assert torch.equal(found_gradient, gradient)


def test_without_gradients():
    head = make_head(PIXEL_LOSSES['several'])
    logits, samples = make_batch((13, 9), (52, 36))
    expected = head.loss_by_feat(logits, samples)
    stripe_losses(head, 8)
    with torch.no_grad():
        found = head.loss_by_feat(logits.requires_grad_(), samples)
    for name, value in expected.items():
        assert not found[name].requires_grad
        torch.testing.assert_close(found[name], value)


def test_half_precision_is_enlarged_in_float32():
    head = make_head(dict(CE, avg_non_ignore=True))
    logits, samples = make_batch((13, 9), (52, 36))
    logits = logits.bfloat16()
    expected, gradient = run(head, logits.float(), samples)
    stripe_losses(head, 8)
    with torch.autocast('cpu', torch.bfloat16):
        found, found_gradient = run(head, logits, samples)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert torch.equal(found_gradient, gradient.bfloat16())


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
                self.elements = max(self.elements, leaf.numel())
        return out


def test_no_map_of_all_classes_is_as_large_as_the_labels():
    head = make_head(dict(CE, avg_non_ignore=True))
    logits, samples = make_batch((32, 32), (256, 256))
    with Largest() as plain:
        run(head, logits, samples)
    stripe_losses(head, 16)
    with Largest() as striped:
        run(head, logits, samples)
    assert plain.elements == 2 * CLASSES * 256 * 256
    assert striped.elements == plain.elements // 16


def test_other_heads_stay_as_they_are(capfd):
    from mmengine.logging import MMLogger

    MMLogger.get_instance('striped', log_level='INFO').propagate = False
    options = dict(in_channels=2, channels=2, num_classes=2)
    model = torch.nn.ModuleDict(
        dict(
            fpn=FPNHead(
                in_channels=[2],
                in_index=[0],
                feature_strides=[4],
                channels=2,
                num_classes=2,
            ),
            detail=STDCHead(
                boundary_threshold=0.1,
                num_convs=0,
                concat_input=False,
                **options,
            ),
            lovasz=FCNHead(
                num_convs=0,
                concat_input=False,
                loss_decode=dict(type='LovaszLoss', per_image=True),
                **options,
            ),
        )
    )
    keys = list(model.state_dict())
    stripe_losses(model, 16)
    assert list(model.state_dict()) == keys
    assert 'loss_by_feat' in vars(model['fpn'])
    assert 'loss_by_feat' not in vars(model['detail'])
    assert 'loss_by_feat' not in vars(model['lovasz'])
    message = capfd.readouterr()
    message = message.out + message.err
    assert 'detail (STDCHead has its own loss_by_feat)' in message
    assert 'lovasz (LovaszLoss as configured)' in message
    assert 'fpn' not in message


@pytest.mark.parametrize('rows', [0, -1, 1.5, True, '256'])
def test_bad_rows(rows):
    with pytest.raises(ValueError, match='loss_rows=.*such as 128'):
        stripe_losses(make_head(CE), rows)


def test_heads_with_several_logits():
    head = MODELS.build(
        dict(
            type='mmseg_uhr.SGHRQHead',
            in_channels=(4, 6, 6, 8),
            in_index=(0, 1, 2, 3),
            channels=4,
            class_channels=4,
            compress_channels=4,
            query_channels=(8,),
            num_classes=CLASSES,
            norm_cfg=dict(type='BN'),
        )
    ).double()
    sizes = ((12, 10), (6, 5), (3, 3), (3, 3))
    maps = [
        torch.randn(2, channels, *size, dtype=torch.float64)
        for channels, size in zip((4, 6, 6, 8), sizes)
    ]
    _, samples = make_batch((12, 10), (96, 80))
    results = []
    for rows in (None, 20):
        copied = copy.deepcopy(head)
        if rows:
            stripe_losses(copied, rows)
        losses = copied.loss(maps, samples, {})
        sum(v for k, v in losses.items() if 'loss' in k).backward()
        results.append(
            (losses, [parameter.grad for parameter in copied.parameters()])
        )
    (expected, gradients), (found, found_gradients) = results
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-7, atol=0
        )
    for a, b in zip(found_gradients, gradients):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)

"""Logits refined by pixels and context."""

import json
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

import mmseg_uhr  # noqa: F401
from mmseg_uhr.models.layers.context_fusion import EncodedContext

CONFIG = (
    Path(__file__).parents[2]
    / 'configs'
    / 'fctl'
    / 'fctl-fpn_r18-w16_5min_bluemarble-192x192_refined.py'
)
COARSE = dict(
    type='FPNHead',
    in_channels=(8, 8),
    in_index=(0, 1),
    feature_strides=(4, 8),
    channels=8,
    dropout_ratio=0,
    norm_cfg=dict(type='BN'),
)


@pytest.fixture(autouse=True, scope='module')
def _setup():
    register_all_modules()


def head_of(**options):
    head = dict(
        type='mmseg_uhr.ContextRefinementHead',
        coarse=COARSE,
        in_channels=6,
        channels=8,
        num_classes=3,
        dropout_ratio=0,
    )
    head = MODELS.build({**head, **options})
    head.init_weights()
    return head


def awake(head):
    """As after some steps: nothing is multiplied by zero any more."""
    torch.nn.init.normal_(head.conv_seg.weight, std=0.1)
    torch.nn.init.ones_(head.correlation.gamma)
    return head


def inputs_of(size=(64, 64), contexts=2):
    """Two maps of windows, their context, the windows."""
    fine, deep = ([-(-side // n) for side in size] for n in (4, 8))
    return [
        torch.randn(2, 8, *fine, requires_grad=True),
        torch.randn(2, 8, *deep, requires_grad=True),
        EncodedContext(torch.randn(contexts, 6, 3, 5)),
        torch.randn(2, 3, *size),
    ]


def samples(size=(64, 64), label=None):
    labels = torch.randint(0, 3, (2, size[0] // 16, size[1] // 16))
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    if label is not None:
        labels.fill_(label)
    return [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in labels]


def total(losses):
    return sum(x for name, x in losses.items() if 'loss' in name)


@pytest.mark.parametrize(
    'size', [(64, 64), (52, 77), (33, 18), (4, 4)], ids=str
)
@pytest.mark.parametrize('contexts', [1, 2])
def test_nothing_is_refined_at_first(size, contexts):
    head, inputs = head_of().eval(), inputs_of(size, contexts)
    coarse = head.coarse(inputs)
    assert coarse.abs().max() > 0
    assert torch.equal(head(inputs), coarse)
    refined = awake(head)(inputs)
    assert refined.shape == coarse.shape
    assert (refined - coarse).abs().max() > 0


def test_pixels_and_context_matter():
    head, inputs = awake(head_of()).eval(), inputs_of()
    refined = head(inputs)
    *maps, context, image = inputs
    other = EncodedContext(context.features.flip(1))
    assert not torch.equal(head([*maps, other, image]), refined)
    assert not torch.equal(head([*maps, context, image.flip(2)]), refined)


@pytest.mark.parametrize('label', [None, 255], ids=['all', 'none'])
def test_every_parameter_gets_a_gradient(label):
    """DDP waits for every gradient in every step, the first one too."""
    head, inputs = head_of(), inputs_of()
    for _ in range(2):
        head.zero_grad()
        loss = total(head.loss(inputs, samples(label=label), {}))
        assert loss.isfinite()
        loss.backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # Adding the same to all products of a query changes nothing.
            learns = label is None and name != 'correlation.key.bias'
            if learns and head.conv_seg.weight.any():
                assert parameter.grad.any(), name
        awake(head)
    assert inputs[0].grad.any() == (label is None)


def test_losses():
    weighted = dict(COARSE, loss_decode=dict(type='CrossEntropyLoss'))
    weighted['loss_decode']['loss_weight'] = 0.25
    head, inputs = head_of(coarse=weighted), inputs_of()
    losses = head.loss(inputs, samples(), {})
    assert sorted(losses) == sorted(
        ['loss_ce', 'acc_seg', 'coarse.loss_ce', 'coarse.acc_seg']
    )
    torch.testing.assert_close(
        losses['coarse.loss_ce'], 0.25 * losses['loss_ce']
    )


def test_refined_logits_overfit_below_the_coarse_ones():
    head, inputs = head_of(), inputs_of()
    targets = samples()
    # Only the pixels tell the classes.
    for image, target in zip(inputs[-1], targets):
        image += 3 * target.gt_sem_seg.data
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(60):
        losses = head.loss(inputs, targets, {})
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    assert losses['loss_ce'] < 0.5 * losses['coarse.loss_ce']


def test_two_classes_by_one_logit():
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    head = head_of(
        coarse=dict(COARSE, loss_decode=loss),
        num_classes=2,
        out_channels=1,
        threshold=0.4,
        loss_decode=loss,
    ).eval()
    inputs = inputs_of()
    assert head.coarse.threshold == 0.4
    assert torch.equal(head(inputs), head.coarse(inputs))
    assert awake(head)(inputs).shape[1] == 1


def test_half_precision():
    head, inputs = awake(head_of()), inputs_of()
    expected = head(inputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits = head(inputs)
        loss = total(head.loss(inputs, samples(), {}))
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.2)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_wrong_inputs_are_explained():
    head = head_of()
    *maps, context, image = inputs_of()
    with pytest.raises(ValueError, match=r'a map of 8 channels.*hand_on=True'):
        head([*maps, image])
    with pytest.raises(ValueError, match='missing, expected a context'):
        head([image])
    wide = EncodedContext(torch.randn(2, 7, 3, 5))
    with pytest.raises(ValueError, match='7 channels, in_channels is 6'):
        head([*maps, wide, image])
    with pytest.raises(ValueError, match='a context.*return_image=True'):
        head_of(context_index=2)([*maps, context])
    with pytest.raises(ValueError, match='a map of 8 channels.*image_chann'):
        head_of(context_index=0)([context, *maps])


def small_config():
    config = Config.fromfile(CONFIG)
    config.model.data_preprocessor.size = (64, 64)
    config.model.views = dict(large=dict(region=3, size=(64, 64)))
    config.model.decode_head.num_classes = 3
    config.model.test_cfg.update(
        crop_size=(64, 64), stride=(48, 48), batch_size=2
    )
    return config


def test_config_hands_on_what_the_head_needs():
    model = MODELS.build(small_config().model)
    model.init_weights()
    model.eval()
    assert not model.decode_head.conv_seg.weight.any()
    assert model.decode_head.coarse.conv_seg.weight.any()
    views = dict(
        local=torch.randn(2, 3, 60, 76), large=torch.randn(2, 3, 64, 64)
    )
    with torch.no_grad():
        *maps, context, image = model.extract_feat(views)
        assert image is views['local']
        assert len(maps) == 4
        torch.testing.assert_close(
            context.features,
            model.neck.reduce(model.backbone.local(views['large'])[-1]),
        )
        meta = dict(img_shape=(60, 76), ori_shape=(60, 76))
        logits = model.encode_decode(views, [meta] * 2)
    assert logits.shape == (2, 3, 60, 76)


def test_trains_and_streams_with_the_tools(tiny_cfg, tmp_path, run_tool):
    config = small_config()
    pipeline = config.train_dataloader.dataset.pipeline
    for key in (
        *('train_dataloader', 'val_dataloader', 'test_dataloader'),
        *('val_evaluator', 'test_evaluator', 'param_scheduler'),
    ):
        config[key] = tiny_cfg[key]
    config.train_dataloader.dataset.pipeline = pipeline
    for transform in pipeline:
        if transform.type == 'mmseg_uhr.RandomWindow':
            transform.crop_size = (64, 64)
        if transform.type == 'mmseg_uhr.ReadViews':
            transform.views = config.model.views
    config.custom_hooks = []
    config.train_cfg.update(max_iters=3, val_interval=3)
    config.default_hooks.logger.interval = 1
    path = tmp_path / 'refined.py'
    config.dump(path)
    work_dir = tmp_path / 'train'
    run_tool('train.py', path, '--work-dir', work_dir)
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 3
    assert all(0 < line['loss'] < 100 for line in steps)
    first = steps[0]
    assert first['decode.loss_ce'] == first['decode.coarse.loss_ce']
    assert 0 <= lines[-1]['mIoU'] <= 100

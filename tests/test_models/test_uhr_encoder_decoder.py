import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_uhr.models.data_preprocessors import UHRDataPreProcessor
from mmseg_uhr.models.segmentors import UHREncoderDecoder
from mmseg_uhr.models.segmentors.batch_norms import fold_batch_norms
from mmseg_uhr.models.segmentors.window_predictor import WindowPredictor
from mmseg_uhr.rasters import ArrayRaster, write_geotiff
from mmseg_uhr.streaming import StreamSettings, WindowBatch
from mmseg_uhr.tiling import Window

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def stock_config(test_mode, num_classes=5, out_channels=None, **preprocessor):
    """A tiny stock segmentor."""
    return ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=MEAN,
            std=STD,
            bgr_to_rgb=True,
            **preprocessor,
        ),
        backbone=dict(
            type='ResNetV1c',
            depth=18,
            base_channels=4,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(0, 1),
            norm_cfg=dict(type='BN'),
        ),
        decode_head=dict(
            type='FCNHead',
            in_channels=8,
            in_index=1,
            channels=8,
            num_convs=1,
            concat_input=False,
            num_classes=num_classes,
            out_channels=out_channels,
            norm_cfg=dict(type='BN'),
            align_corners=False,
            loss_decode=dict(
                type='CrossEntropyLoss',
                use_sigmoid=out_channels == 1,
                avg_non_ignore=True,
            ),
        ),
        test_cfg=test_mode,
    )


def build(cfg, seed=0):
    init_default_scope('mmseg')
    torch.manual_seed(seed)
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model.eval()


def cascade_config(test_mode, num_classes=5, out_channels=None):
    """A tiny stock segmentor of two heads, as OCRNet's."""
    cfg = stock_config(test_mode, num_classes, out_channels)
    cfg.type, cfg.num_stages = 'CascadeEncoderDecoder', 2
    object_head = copy.deepcopy(cfg.decode_head)
    object_head.update(type='OCRHead', ocr_channels=4)
    for name in ('num_convs', 'concat_input'):
        object_head.pop(name)
    cfg.decode_head = [cfg.decode_head, object_head]
    return cfg


def ours(cfg, **test_cfg):
    cfg = copy.deepcopy(cfg)
    cfg.type = f'mmseg_uhr.UHR{cfg.type}'
    cfg.test_cfg = ConfigDict(mode='stream', **test_cfg)
    return cfg


def random_image(shape, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (3, shape[0] // 8 + 2, shape[1] // 8 + 2))
    image = coarse.repeat(8, 1).repeat(8, 2)[:, : shape[0], : shape[1]]
    return torch.from_numpy(image.astype(np.uint8))


def batch_of(image):
    shape = tuple(image.shape[1:])
    sample = SegDataSample(
        metainfo=dict(ori_shape=shape, img_shape=shape, pad_shape=shape)
    )
    return dict(inputs=[image], data_samples=[sample])


def agreement(stock, streamed, image):
    """Compare two label maps.

    Returns:
        tuple: Whether they differ in ties only, the share of pixels that
        differ, and the number of classes in the stock one.
    """
    with torch.no_grad():
        expected = stock.test_step(batch_of(image))[0]
        found = streamed.test_step(batch_of(image))[0].pred_sem_seg.data
    assert found.dtype == torch.uint8
    assert found.shape == expected.pred_sem_seg.data.shape
    differs = expected.pred_sem_seg.data != found
    logits = expected.seg_logits.data
    best = logits.max(0, keepdim=True)[0]
    chosen = logits.gather(0, found.long())
    ties = (best - chosen).abs() <= 1e-4 * best.abs().clamp_min(1)
    classes = len(expected.pred_sem_seg.data.unique())
    return bool((~differs | ties).all()), differs.float().mean(), classes


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_stream_equals_stock_slide(data):
    side = st.integers(33, 120)
    shape = data.draw(st.tuples(side, side), 'shape')
    crop = data.draw(st.tuples(*[st.integers(24, 64)] * 2), 'crop')
    stride = tuple(data.draw(st.integers(10, c), 'stride') for c in crop)
    classes = data.draw(st.integers(2, 9), 'classes')
    batch_size = data.draw(st.integers(1, 5), 'batch_size')
    slide = ConfigDict(mode='slide', crop_size=crop, stride=stride)
    cfg = stock_config(slide, classes)
    image = random_image(shape)
    stock = build(cfg)
    streamed = build(
        ours(cfg, crop_size=crop, stride=stride, batch_size=batch_size)
    )
    streamed.load_state_dict(stock.state_dict())
    equal, differing, found = agreement(stock, streamed, image)
    assume(found > 1)
    assert equal
    assert differing < 1e-3


@settings(max_examples=5, deadline=None)
@given(st.integers(40, 90), st.integers(40, 90), st.integers(1, 3))
def test_cascades_stream_as_stock(height, width, batch_size):
    sizes = dict(crop_size=(40, 40), stride=(25, 25))
    cfg = cascade_config(ConfigDict(mode='slide', **sizes))
    image = random_image((height, width))
    stock = build(cfg)
    streamed = build(ours(cfg, batch_size=batch_size, **sizes))
    streamed.load_state_dict(stock.state_dict(), strict=True)
    equal, _, found = agreement(stock, streamed, image)
    assume(found > 1)
    assert equal


@pytest.mark.parametrize('mode', ['slide', 'stream'])
def test_binary_cascades_with_one_channel(mode):
    """Stock looks for the threshold where a cascade does not have it."""
    sizes = dict(crop_size=(40, 40), stride=(25, 25))
    cfg = cascade_config({}, num_classes=2, out_channels=1)
    model = build(ours(cfg, **sizes))
    model.test_cfg.mode = mode
    bias = model.decode_head[-1].conv_seg.bias.data
    for value, expected in ((-9, 0), (9, 1)):
        bias.fill_(value)
        with torch.no_grad():
            found = model.test_step(batch_of(random_image((60, 70))))
        assert (found[0].pred_sem_seg.data == expected).all()


def test_cascades_train():
    cfg = ours(cascade_config({}), crop_size=(32, 32), stride=(32, 32))
    model = build(cfg).train()
    labels = torch.randint(0, 5, (1, 1, 32, 32), dtype=torch.uint8)
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=one),
            metainfo=dict(img_shape=(32, 32)),
        )
        for one in labels.repeat(2, 1, 1, 1)
    ]
    losses = model.loss(torch.randn(2, 3, 32, 32), samples)
    assert {'decode_0.loss_ce', 'decode_1.loss_ce'} <= set(losses)


def test_whole_and_slide_are_stock_with_equal_state_dict_keys():
    image = random_image((70, 90))
    for test_cfg in (
        ConfigDict(mode='whole'),
        ConfigDict(mode='slide', crop_size=(48, 48), stride=(32, 32)),
    ):
        cfg = stock_config(test_cfg)
        stock = build(cfg)
        cfg.type = 'mmseg_uhr.UHREncoderDecoder'
        model = build(cfg)
        assert isinstance(model, UHREncoderDecoder)
        model.load_state_dict(stock.state_dict(), strict=True)
        with torch.no_grad():
            expected = stock.test_step(batch_of(image))[0]
            found = model.test_step(batch_of(image))[0]
            lazy = ArrayRaster(image.permute(1, 2, 0).numpy())
            read = model.test_step(
                dict(
                    inputs=[lazy], data_samples=batch_of(image)['data_samples']
                )
            )[0]
        for result in (found, read):
            torch.testing.assert_close(
                result.seg_logits.data, expected.seg_logits.data
            )


def test_rasters_files_and_tensors_give_one_result(tmp_path):
    image = random_image((100, 140))
    pixels = image.permute(1, 2, 0).numpy()
    write_geotiff(tmp_path / 'scene.tif', pixels)
    model = build(ours(stock_config({}), crop_size=(64, 64), stride=(48, 48)))
    sources = [image, ArrayRaster(pixels), str(tmp_path / 'scene.tif')]
    maps = [
        model.test_step(dict(inputs=[source]))[0].pred_sem_seg.data
        for source in sources
    ]
    assert all(torch.equal(maps[0], other) for other in maps)
    # A tensor that has been preprocessed already, as `predict` takes it.
    batch = model.data_preprocessor(dict(inputs=[image]), False)
    found = model.predict(batch['inputs'])[0].pred_sem_seg.data
    assert torch.equal(maps[0], found)


def test_images_of_different_sizes_in_a_batch():
    model = build(ours(stock_config({}), crop_size=(48, 48), stride=(48, 48)))
    images = [random_image((60, 80)), random_image((90, 50), 1)]
    together = model.test_step(dict(inputs=images))
    for image, sample in zip(images, together, strict=True):
        alone = model.test_step(dict(inputs=[image]))[0]
        assert torch.equal(alone.pred_sem_seg.data, sample.pred_sem_seg.data)


def test_binary_models_with_one_channel():
    slide = ConfigDict(mode='slide', crop_size=(48, 48), stride=(30, 30))
    cfg = stock_config(slide, num_classes=2, out_channels=1)
    image = random_image((80, 100))
    stock = build(cfg)
    streamed = build(ours(cfg, crop_size=(48, 48), stride=(30, 30)))
    for model in (stock, streamed):
        # Just at the default threshold of 0.3.
        model.decode_head.conv_seg.bias.data.fill_(np.log(0.3 / 0.7))
    with torch.no_grad():
        expected = stock.test_step(batch_of(image))[0].pred_sem_seg.data
        found = streamed.test_step(batch_of(image))[0].pred_sem_seg.data
    assert 0 < expected.float().mean() < 1
    # Stock applies the sigmoid to the mean as we do: no tolerance.
    assert torch.equal(expected.to(found), found)


def test_a_preprocessor_that_pads():
    """Windows of odd size are padded to a multiple of 32 and cut again."""
    cfg = stock_config({}, test_cfg=dict(size_divisor=32))
    model = build(ours(cfg, crop_size=(50, 50), stride=(40, 40)))
    image = random_image((70, 50))
    found = model.test_step(dict(inputs=[image]))[0].pred_sem_seg.data
    assert found.shape == (1, 70, 50)


def test_an_image_smaller_than_the_crop_is_one_window():
    cfg = stock_config(ConfigDict(mode='whole'))
    image = random_image((40, 56))
    stock = build(cfg)
    streamed = build(ours(cfg, crop_size=(512, 512), stride=(512, 512)))
    equal, _, found = agreement(stock, streamed, image)
    assert equal
    assert found > 1


def test_gaussian_blending_differs_only_in_overlaps():
    cfg = stock_config({})
    sizes = dict(crop_size=(48, 48), stride=(24, 24))
    image = random_image((48, 120))
    uniform = build(ours(cfg, **sizes)).test_step(dict(inputs=[image]))
    gaussian = build(ours(cfg, blend='gaussian', **sizes)).test_step(
        dict(inputs=[image])
    )
    differs = (uniform[0].pred_sem_seg.data != gaussian[0].pred_sem_seg.data)[
        0
    ]
    assert differs[:, 24:96].any()
    assert not differs[:, :24].any()
    assert not differs[:, 96:].any()


class Spy(UHREncoderDecoder):
    """Records what the network is given."""

    def encode_decode(self, inputs, batch_img_metas):
        self.seen.append((inputs, batch_img_metas))
        local = inputs['local'] if isinstance(inputs, dict) else inputs
        return super().encode_decode(local, batch_img_metas)


def test_views_reach_the_network():
    cfg = ours(
        stock_config({}, num_classes=3),
        crop_size=(32, 32),
        stride=(32, 32),
        batch_size=2,
    )
    cfg.pop('type')
    cfg.data_preprocessor.type = 'mmseg_uhr.UHRDataPreProcessor'
    cfg.views = dict(
        context=dict(region=3, size=(24, 24)),
        scene=dict(region='scene', size=(16, 24)),
    )
    init_default_scope('mmseg')
    model = Spy(**cfg).eval()
    model.seen = []
    image = random_image((64, 96))
    result = model.test_step(dict(inputs=[image]))
    assert result[0].pred_sem_seg.data.shape == (1, 64, 96)
    assert len(model.seen) == 3
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    for inputs, metas in model.seen:
        assert inputs['local'].shape == (2, 3, 32, 32)
        assert inputs['context'].shape == (2, 3, 24, 24)
        assert inputs['scene'].shape == (2, 3, 16, 24)
        for local, meta in zip(inputs['local'], metas, strict=True):
            y, x, h, w = meta['window']
            raw = image[[2, 1, 0], y : y + h, x : x + w].float()
            expected = (raw - mean[:, None, None]) / std[:, None, None]
            torch.testing.assert_close(local, expected)
            box = meta['view_boxes']['scene']
            assert box == pytest.approx((y / 64, x / 96, 32 / 64, 32 / 96))
    first = model.seen[0][0]['scene']
    assert all(torch.equal(s['scene'][0], first[0]) for s, _ in model.seen)


class Scenes(torch.nn.Module):
    """Backbone that encodes contexts: their mean, once per scene."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.boxes = []

    def encode_context(self, name, x):
        self.calls.append((name, len(x)))
        return x.mean(dim=(2, 3), keepdim=True)

    def forward(self, inputs):
        self.boxes.append(inputs['view_boxes'])
        assert inputs['scene'].shape == (1, 3, 1, 1)
        # Of the window only what a turned one has as well.
        return (inputs['local'] + inputs['scene'],)


@pytest.mark.parametrize('scales', [(1.0,), (0.5, 1.0)])
@pytest.mark.parametrize('tta', ['none', 'd4'])
def test_scenes_are_encoded_once(tta, scales):
    cfg = ours(
        stock_config({}, num_classes=3),
        crop_size=(32, 32),
        stride=(32, 32),
        batch_size=2,
        tta=tta,
        tta_scales=scales,
    )
    cfg.pop('type')
    cfg.data_preprocessor.type = 'mmseg_uhr.UHRDataPreProcessor'
    cfg.views = dict(scene=dict(region='scene', size=(16, 24)))
    init_default_scope('mmseg')
    model = UHREncoderDecoder(**cfg).eval()
    model.backbone = Scenes()
    model.decode_head = Mean()
    label = model.test_step(dict(inputs=[random_image((64, 96))]))
    views = len(scales) * (8 if tta == 'd4' else 1)
    assert model.backbone.calls == [('scene', 1)] * views
    # Three batches of two windows, in every orientation and size.
    assert len(model.backbone.boxes) == 3 * views
    first = model.backbone.boxes[0]['scene']
    expected = [[0, 0, 32 / 64, 32 / 96], [0, 32 / 96, 32 / 64, 32 / 96]]
    torch.testing.assert_close(first, torch.tensor(expected))
    assert label[0].pred_sem_seg.data.shape == (1, 64, 96)
    # Another scene is encoded again.
    model.test_step(dict(inputs=[random_image((64, 96), 1)]))
    assert len(model.backbone.calls) == 2 * views


class Mean(BaseDecodeHead):
    """The map itself as logits, at full size."""

    def __init__(self):
        super().__init__(3, 3, num_classes=3)

    def forward(self, inputs):
        return inputs[-1]


def test_augmented_prediction_is_the_mean_of_eight():
    cfg = ours(stock_config({}), crop_size=(40, 40), stride=(40, 40), tta='d4')
    model = build(cfg)
    image = random_image((40, 40)).float()
    meta = dict(img_shape=(40, 40), ori_shape=(40, 40), pad_shape=(40, 40))
    x = model.data_preprocessor(dict(inputs=[image]), False)['inputs']
    logits = 0
    with torch.no_grad():
        for mirror in (False, True):
            for turns in range(4):
                turned = x.flip(-1) if mirror else x
                turned = torch.rot90(turned, turns, (2, 3))
                out = model.encode_decode(turned, [meta])
                out = torch.rot90(out, -turns, (2, 3))
                logits = logits + (out.flip(-1) if mirror else out)
    found = model.test_step(dict(inputs=[image]))[0].pred_sem_seg.data
    assert torch.equal(found[0].long(), logits[0].argmax(dim=0))


def test_augmentation_of_oblong_windows():
    cfg = ours(stock_config({}), crop_size=(32, 48), stride=(24, 40), tta='d4')
    found = build(cfg).test_step(dict(inputs=[random_image((70, 90))]))
    assert found[0].pred_sem_seg.data.shape == (1, 70, 90)


def predict(model, image, **settings):
    """Predict an image (C, h, w) as one window; logits (1, C, h, w)."""
    size = tuple(image.shape[1:])
    settings = StreamSettings(crop_size=size, stride=size, **settings)
    batch = WindowBatch(
        [Window(0, 0, *size)], [dict(local=image)], [dict(local=(0, 0, 1, 1))]
    )
    with torch.no_grad():
        return WindowPredictor(model, settings, preprocess=True)(batch)


def test_scales_and_symmetries_are_averaged_in_pairs():
    model = build(ours(stock_config({}), crop_size=(8, 8), stride=(8, 8)))
    image = random_image((37, 51))
    found = predict(model, image, tta='flip', tta_scales=(0.75, 1.0, 1.5))
    x = model.data_preprocessor(dict(inputs=[image]), False)['inputs']
    total = 0
    for size in ((28, 38), (37, 51), (56, 76)):
        for flipped in (False, True):
            scaled = torch.nn.functional.interpolate(
                x.flip(-1) if flipped else x, size, mode='bilinear'
            )
            meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
            with torch.no_grad():
                logits = model.encode_decode(scaled, [meta])
            logits = logits.flip(-1) if flipped else logits
            total = total + torch.nn.functional.interpolate(
                logits, (37, 51), mode='bilinear'
            )
    torch.testing.assert_close(found, total / 6, rtol=1e-4, atol=1e-6)
    # A mean of one size only would be another one.
    assert not torch.allclose(
        found, predict(model, image, tta='flip'), rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize('tta', ['none', 'd4'])
def test_a_scale_of_one_changes_nothing(tta):
    model = build(ours(stock_config({}), crop_size=(8, 8), stride=(8, 8)))
    image = random_image((37, 51))
    found = predict(model, image, tta=tta, tta_scales=(1.0,))
    assert torch.equal(found, predict(model, image, tta=tta))


def test_scales_of_padded_windows():
    """The padding is scaled, too, and cut off at the end."""
    cfg = stock_config({}, test_cfg=dict(size_divisor=32))
    model = build(ours(cfg, crop_size=(8, 8), stride=(8, 8)))
    image = random_image((37, 51))
    found = predict(model, image, tta_scales=(0.5,))
    sample = SegDataSample()
    x = model.data_preprocessor(
        dict(inputs=[image], data_samples=[sample]), False
    )['inputs']
    assert x.shape == (1, 3, 64, 64)
    small = torch.nn.functional.interpolate(x, (32, 32), mode='bilinear')
    meta = dict(img_shape=small.shape[2:], pad_shape=small.shape[2:])
    with torch.no_grad():
        logits = model.encode_decode(small, [meta])
    expected = torch.nn.functional.interpolate(
        logits, (64, 64), mode='bilinear'
    )
    torch.testing.assert_close(found, expected[..., :37, :51])


def test_a_network_that_hands_out_its_input_is_averaged():
    model = build(ours(stock_config({}), crop_size=(8, 8), stride=(8, 8)))
    model.extract_feat = lambda inputs: (inputs,)
    model.decode_head = Mean()
    image = random_image((24, 24))
    x = model.data_preprocessor(dict(inputs=[image]), False)['inputs']
    torch.testing.assert_close(predict(model, image, tta='d4'), x)


def test_networks_that_draw_numbers_depend_on_windows_only():
    model = build(ours(stock_config({}), crop_size=(8, 8), stride=(8, 8)))
    model.decode_head.register_forward_pre_hook(
        lambda head, inputs: ([x + torch.rand_like(x) for x in inputs[0]],)
    )
    image = random_image((24, 24))
    before = torch.get_rng_state()
    first = predict(model, image)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(predict(model, image), first)


def randomise_norms(model):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)


@pytest.mark.parametrize('fold', [False, True])
@pytest.mark.parametrize(
    'backbone',
    [
        # Convolutions that pad by themselves.
        dict(type='MobileNetV3', arch='small', out_indices=(0, 1)),
        # Norms before the convolutions, and behind those of others.
        dict(type='DDRNet', channels=8, ppm_channels=8),
    ],
    ids=lambda backbone: backbone['type'],
)
def test_batch_norms_are_folded_where_they_follow(backbone, fold):
    cfg = stock_config({})
    cfg.backbone = ConfigDict(**backbone, norm_cfg=dict(type='BN'))
    cfg.decode_head.update(in_channels=8, in_index=0)
    if backbone['type'] == 'MobileNetV3':
        cfg.decode_head.update(in_channels=16)
    stock = build(cfg)
    randomise_norms(stock)
    model = build(ours(cfg, crop_size=(8, 8), stride=(8, 8)))
    model.load_state_dict(stock.state_dict())
    if fold:
        fold_batch_norms(model)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            model.extract_feat(x), stock.extract_feat(x), rtol=1e-3, atol=1e-4
        )


def test_a_scaled_local_view_gives_full_size_labels():
    """The field's protocol of testing at scale 0.8, without a Resize."""
    cfg = ours(stock_config({}), crop_size=(40, 40), stride=(40, 40))
    cfg.pop('type')
    cfg.views = dict(local=dict(scale=0.8))
    init_default_scope('mmseg')
    model = Spy(**cfg).eval()
    model.seen = []
    result = model.test_step(dict(inputs=[random_image((80, 80))]))
    assert model.seen[0][0].shape == (1, 3, 32, 32)
    assert result[0].pred_sem_seg.data.shape == (1, 80, 80)


def test_flips_and_resizes_of_a_stock_pipeline_are_undone():
    model = build(ours(stock_config({}), crop_size=(64, 64), stride=(64, 64)))
    image = random_image((64, 64))
    plain = model.test_step(dict(inputs=[image]))[0].pred_sem_seg.data
    sample = SegDataSample(
        metainfo=dict(
            ori_shape=(128, 128), flip=True, flip_direction='horizontal'
        )
    )
    found = model.test_step(dict(inputs=[image], data_samples=[sample]))
    expected = plain.flip(2).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(found[0].pred_sem_seg.data, expected)


def test_loss_takes_uint8_labels():
    cfg = stock_config(ConfigDict(mode='whole'))
    stock = build(cfg)
    cfg.type = 'mmseg_uhr.UHREncoderDecoder'
    model = build(cfg)
    labels = torch.randint(0, 5, (1, 32, 32))
    labels[:, :4] = 255
    losses = []
    for segmentor, dtype in ((stock, torch.int64), (model, torch.uint8)):
        sample = SegDataSample(
            gt_sem_seg=PixelData(data=labels.to(dtype)),
            metainfo=dict(img_shape=(32, 32)),
        )
        torch.manual_seed(0)
        image = random_image((32, 32)).float()[None]
        losses.append(segmentor.loss(image, [sample])['decode.loss_ce'])
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize(
    'test_cfg, message',
    [
        (dict(mode='tiles'), "mode='tiles': expected one of"),
        (dict(mode='stream', crop_size=(8, 8)), 'lacks stride'),
        (
            dict(mode='stream', crop_size=(8, 8), stride=(9, 9)),
            'larger than crop_size',
        ),
        (
            dict(
                mode='stream', crop_size=(8, 8), stride=(8, 8), blend='sharp'
            ),
            "blend='sharp'",
        ),
        (
            dict(mode='stream', crop_size=(8, 8), stride=(8, 8), batch_size=0),
            'batch_size=0',
        ),
        (
            dict(mode='stream', crop_size=(8, 8), stride=(8, 8), tta='d8'),
            "tta='d8': expected one of",
        ),
        (
            dict(
                mode='stream', crop_size=(8, 8), stride=(8, 8), placement='x'
            ),
            "placement 'x'",
        ),
    ],
)
def test_settings_that_make_no_sense(test_cfg, message):
    cfg = stock_config(ConfigDict(test_cfg))
    cfg.pop('type')
    init_default_scope('mmseg')
    with pytest.raises(ValueError, match=message):
        UHREncoderDecoder(**cfg)


def test_a_model_that_raises_ends_the_stream_with_its_error():
    model = build(ours(stock_config({}), crop_size=(48, 48), stride=(48, 48)))
    four_bands = np.zeros((96, 96, 4), np.uint8)
    with pytest.raises(RuntimeError):
        model.test_step(dict(inputs=[ArrayRaster(four_bands)]))


def test_collated_views_are_stacked():
    """MMEngine's dataloaders turn a list of dicts into a dict of lists."""
    preprocessor = UHRDataPreProcessor(mean=[1] * 3, std=[2] * 3, size=(8, 8))
    views = [
        dict(local=random_image((8, 8), i), far=random_image((4, 6), i + 2))
        for i in range(2)
    ]
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 8, 8)))
        for _ in views
    ]
    batch = pseudo_collate(
        [dict(inputs=v, data_samples=s) for v, s in zip(views, samples)]
    )
    assert isinstance(batch['inputs'], dict)
    found = preprocessor(batch, training=True)['inputs']
    listed = preprocessor(
        dict(inputs=views, data_samples=samples), training=True
    )['inputs']
    for name in ('local', 'far'):
        assert torch.equal(found[name], listed[name])
        expected = (torch.stack([v[name] for v in views]) - 1) / 2
        torch.testing.assert_close(found[name], expected)

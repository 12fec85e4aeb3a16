"""The same windows through another library's sliding windows."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

import mmseg_uhr  # noqa: F401  registers the types
from mmseg_uhr.tiling import blend_weights

inferers = pytest.importorskip('monai.inferers')

CROP = 32


class Moody(nn.Module):
    """Features that depend on all of the window, so blending matters."""

    def __init__(self):
        super().__init__()
        self.near = nn.Conv2d(3, 8, 3, padding=1)
        self.all = nn.Linear(3, 8)

    def forward(self, x):
        mood = self.all(4 * x.mean((2, 3)))
        return (self.near(x) + mood[..., None, None],)


@pytest.fixture(scope='module', autouse=True)
def _registered():
    init_default_scope('mmseg')
    MODELS.register_module(module=Moody)
    yield
    MODELS.module_dict.pop('Moody')


def build(stride, blend, batch_size):
    """Build a network of random weights that streams."""
    return MODELS.build(
        dict(
            type='mmseg_uhr.UHREncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[127.5] * 3, std=[64.0] * 3
            ),
            backbone=dict(type='Moody'),
            decode_head=dict(
                type='FCNHead',
                in_channels=8,
                in_index=0,
                channels=8,
                num_convs=0,
                concat_input=False,
                num_classes=5,
                loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
                align_corners=False,
            ),
            test_cfg=dict(
                mode='stream',
                crop_size=(CROP, CROP),
                stride=(stride, stride),
                batch_size=batch_size,
                blend=blend,
            ),
        )
    ).eval()


def streamed(model, image):
    return torch.cat([rows.labels for rows in model.stream(image)]).long()


@torch.no_grad()
def by_monai(model, image, stride, batch_size, **options):
    """Return blended logits (classes, H, W)."""

    def predict(windows):
        meta = dict(img_shape=windows.shape[2:])
        return model.encode_decode(windows, [meta] * len(windows))

    inputs = (torch.from_numpy(image).permute(2, 0, 1) - 127.5) / 64
    return inferers.sliding_window_inference(
        inputs[None],
        (CROP, CROP),
        batch_size,
        predict,
        # It truncates steps.
        overlap=max(1 - (stride + 0.5) / CROP, 0),
        **options,
    )[0]


def margin(logits):
    """Return by how much the best class leads, (H, W)."""
    best = logits.topk(2, dim=0).values
    return best[0] - best[1]


@pytest.mark.parametrize(
    'shape, stride, batch_size',
    [((75, 90), 21, 1), ((64, 101), 32, 3), ((40, 33), 7, 4)],
)
@pytest.mark.parametrize('blend', ['uniform', 'gaussian'])
def test_labels_are_monais(shape, stride, batch_size, blend):
    image = np.random.randint(0, 256, (*shape, 3), np.uint8)
    model = build(stride, blend, batch_size)
    weights = blend_weights(blend, (CROP, CROP))
    logits = by_monai(model, image, stride, batch_size, roi_weight_map=weights)
    labels = streamed(model, image)
    assert len(labels.unique()) > 2
    differs = labels != logits.argmax(0)
    assert (margin(logits)[differs] < 1e-4).all()


def test_gaussian_weights_are_monais():
    """Inside the scene; at its rim MONAI's floor weighs columns alike."""
    stride = CROP // 2
    image = np.random.randint(0, 256, (112, 112, 3), np.uint8)
    model = build(stride, 'gaussian', 2)
    logits = by_monai(
        model, image, stride, 2, mode='gaussian', sigma_scale=0.125
    )
    inside = (slice(CROP // 4, -CROP // 4),) * 2
    differs = (streamed(model, image) != logits.argmax(0))[inside]
    # Floors of weights differ, and so the logits by a few thousandths.
    assert differs.float().mean() < 1e-3
    assert (margin(logits)[inside][differs] < 5e-3).all()
    # Other weights would be seen.
    other = build(stride, 'uniform', 2)
    other.load_state_dict(model.state_dict())
    differs = (streamed(other, image) != logits.argmax(0))[inside]
    assert differs.float().mean() > 0.02

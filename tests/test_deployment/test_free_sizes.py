"""Stock layers compute the same with sizes that may vary."""

import pytest
import torch
from mmseg.models.backbones import SwinTransformer
from mmseg.models.utils import Upsample
from torch import nn

from mmseg_uhr.deployment.free_sizes import free_sizes


def _swin():
    return SwinTransformer(
        embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2),
        out_indices=(0, 1), window_size=4,
    )  # fmt: skip


@pytest.mark.parametrize(
    'make, channels',
    [
        (lambda: nn.Sequential(Upsample(scale_factor=2, mode='bilinear')), 3),
        (lambda: nn.Sequential(Upsample(size=(5, 7), mode='bilinear')), 3),
        (_swin, 3),
    ],
)
def test_results_stay_and_sizes_are_free(make, channels):
    model = make().requires_grad_(False)
    model.eval()  # returns nothing, of stock's Swin
    x = torch.rand(3, channels, 40, 56)
    expected = model(x)
    free_sizes(model)
    found = model(x)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    vary = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (torch.rand(2, channels, 40, 56),), dynamic_shapes=({0: vary},)
    )
    torch.testing.assert_close(program.module()(x), expected)


def test_enlarged_maps_keep_no_size():
    model = nn.Sequential(Upsample(scale_factor=2, mode='bilinear')).eval()
    free_sizes(model)
    vary = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (torch.rand(1, 3, 8, 12),), dynamic_shapes=({2: vary, 3: vary},)
    )
    x = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(program.module()(x), model(x))

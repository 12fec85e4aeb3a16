import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_uhr.memory import LiveBytes, model_cost
from mmseg_uhr.tiling import parse_views

ROOT = Path(__file__).parents[2]
MIB = 2**20


class Segmentor(nn.Module):
    """``encode_decode`` around a function of the input."""

    def __init__(self, body, auxiliary=None):
        super().__init__()
        self.body = body
        # Device and dtype of the input are those of the first weight.
        self.register_buffer('anchor', torch.zeros(1))
        self.auxiliary_head = auxiliary

    def encode_decode(self, inputs, metas):
        assert len(metas) == len(inputs)
        assert metas[0]['img_shape'] == tuple(inputs.shape[2:])
        return self.body(inputs)


def test_convolution():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    cost = model_cost(Segmentor(conv, nn.Linear(4, 5)), (64, 96), 2)
    pixels = 2 * 64 * 96
    assert cost.gmacs == pytest.approx(pixels * 3 * 8 * 9 / 1e9)
    # Input and output; the weights do not count.
    assert cost.peak_mib == pytest.approx(pixels * (3 + 8) * 4 / MIB)
    assert cost.mparams == pytest.approx((3 * 8 * 9 + 8 + 25) / 1e6)
    assert cost.training_mparams == pytest.approx(25 / 1e6)


def test_released_and_shared_tensors_do_not_count():
    class Body(nn.Module):
        def forward(self, x):
            y = x.repeat(1, 4, 1, 1)  # input + 4
            y = y[:, :4].relu_()  # a view, in place
            z = y + 1  # input + 4 + 4/3, then y goes
            del y
            return z.repeat(1, 2, 1, 1)  # 1 + 4/3 + 8/3

    cost = model_cost(Segmentor(Body()), (128, 128))
    unit = 3 * 128 * 128 * 4 / MIB
    assert cost.peak_mib == pytest.approx((1 + 4 + 4 / 3) * unit)


def test_attention_counts():
    class Attention(nn.Module):
        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return F.scaled_dot_product_attention(tokens, tokens, tokens)

    model = Segmentor(Attention())
    cost = model_cost(model, (32, 32), channels=16)
    assert cost.gmacs == pytest.approx(2 * 1024**2 * 16 / 1e9)


def test_agrees_with_real_tensors():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(8, 4)
    ).eval()
    live = LiveBytes([*model.parameters(), *model.buffers()], workspaces=False)
    with torch.no_grad(), live:
        x = torch.empty(1, 3, 33, 16)
        model(x)
    fake = model_cost(Segmentor(model), (33, 16))
    assert fake.peak_mib == pytest.approx(live.peak / MIB, rel=1e-2)


def test_leaves_the_model_as_it_was():
    model = Segmentor(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model_cost(model, (16, 16))
    assert model.training
    assert model.body[1].training
    for key, value in model.state_dict().items():
        assert type(value) is torch.Tensor
        assert torch.equal(value, before[key])
    assert model.body(torch.randn(2, 3, 4, 4)).shape == (2, 4, 4, 4)


def test_half_precision_halves_the_activations():
    model = Segmentor(nn.Conv2d(3, 8, 1))
    single = model_cost(model, (64, 64))
    half = model_cost(model.bfloat16(), (64, 64))
    assert half.peak_mib == pytest.approx(single.peak_mib / 2)


def test_tool_prints_a_line_per_size(monkeypatch, capsys):
    arguments = [
        'model_cost.py',
        str(ROOT / 'configs/_base_/models/hgn_r18.py'),
        *('--size', '512', '768', '--size', '1024', '1024'),
    ]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(
        str(ROOT / 'tools/analysis_tools/model_cost.py'), run_name='__main__'
    )
    lines = capsys.readouterr().out.splitlines()
    found = [line.split()[1] for line in lines if line.startswith('hgn_r18')]
    assert found == ['512x768', '1024x1024']


class TwoViews(nn.Module):
    """Convolves a window and a context of it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.views = parse_views(
            dict(
                near=dict(region=3, size=(10, 20)),
                far=dict(region='scene', scale=0.5),
            )
        )

    def encode_decode(self, inputs, metas):
        assert metas[0]['view_boxes']['near'] == (1 / 3,) * 4
        assert metas[0]['view_boxes']['far'] == (0, 0, 1, 1)
        for x in inputs.values():
            self.conv(x)
        return inputs['local']


def test_models_with_several_views():
    cost = model_cost(TwoViews(), (30, 40), batch_size=2)
    pixels = 2 * (30 * 40 + 10 * 20 + 15 * 20)
    assert cost.gmacs == pytest.approx(pixels * 3 * 4 / 1e9)

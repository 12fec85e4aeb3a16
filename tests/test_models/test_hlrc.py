import copy
import runpy
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn

import mmseg_uhr  # noqa: F401
from mmseg_uhr.apis.conversion import convert_state
from mmseg_uhr.memory import model_cost
from mmseg_uhr.models.layers.association import conv3x3_assigned
from mmseg_uhr.models.layers.experts import RoutedExperts
from mmseg_uhr.models.layers.local_context import FieldEnrichedContext
from mmseg_uhr.models.layers.upsampled_conv import conv3x3_upsampled
from mmseg_uhr.models.losses import LoadBalanceLoss
from mmseg_uhr.models.necks import UPerNeck

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
BASE = Config.fromfile(CONFIGS / '_base_/models/hlrc_swin-t.py').model
CONVERTER = ROOT / 'tools' / 'model_converters' / 'hlrc.py'
VARIANTS = {
    '': 'hlrc_swin-t_80k_deepglobe-768x768.py',
    '_inria': 'hlrc_swin-t_80k_inria-1024x1024.py',
    '_cityscapes': 'hlrc_swin-t_160k_cityscapes-1024x1024.py',
}


@pytest.fixture(autouse=True)
def _setup():
    register_all_modules()


def build(config):
    return revert_sync_batchnorm(MODELS.build(config))


def tiny(num_classes=3, **head):
    """The same model with a few channels per layer."""
    config = copy.deepcopy(BASE)
    for encoder in config.backbone.shallow.encoders:
        encoder.update(widths=(6, 6, 6, 12), depths=(1, 1, 1), dim=4)
    config.backbone.deep.update(
        embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)
    )
    config.neck.update(in_channels=(8, 16, 32, 64), channels=16)
    config.decode_head.update(
        in_channels=(12, 6, 12, 16),
        channels=8,
        num_experts=4,
        context_channels=6,
    )
    config.decode_head.update(head)
    config.auxiliary_head[0].update(
        in_channels=16, channels=16, reduce_channels=8
    )
    config.auxiliary_head[1].update(in_channels=32, channels=8)
    for one in (config.decode_head, *config.auxiliary_head):
        one.num_classes = num_classes
    return config


def meta(size):
    return dict(img_shape=size, ori_shape=size, pad_shape=size)


def batch(size, n=2, num_classes=3):
    label = torch.randint(0, num_classes, (n, 1, 2, 3)).float()
    label = F.interpolate(label, size).to(torch.uint8)
    label[:, :, :5, :5] = 255
    image = torch.randn(n, 3, *size) + label.clamp(max=num_classes)
    return image, samples(label)


def samples(labels):
    return [
        SegDataSample(
            gt_sem_seg=PixelData(data=one), metainfo=meta(one.shape[1:])
        )
        for one in labels
    ]


def total(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


def reference(golden, variant=''):
    """Weights of the recipe, by the authors' names."""
    state = golden.fill(golden.shapes('hlrc', variant), gain=1.0)
    swin = MODELS.build(BASE.backbone.deep).state_dict()
    for name in state:
        if name.endswith('relative_position_index'):
            state[name] = swin[name.removeprefix('backbone.')]
    return state


def converted(golden, variant=''):
    """The model of a config with those weights, through the converter."""
    config = Config.fromfile(CONFIGS / 'hlrc' / VARIANTS[variant]).model
    model = build(config)
    state = golden.convert('hlrc', reference(golden, variant))
    model.load_state_dict(state, strict=True)
    return model


@contextmanager
def captured(**modules):
    """Outputs of modules, or of bound methods' modules, by keyword."""
    outputs, handles = {}, []
    for name, module in modules.items():
        handles.append(
            module.register_forward_hook(
                lambda _, __, out, name=name: outputs.__setitem__(name, out)
            )
        )
    yield outputs
    for handle in handles:
        handle.remove()


def deviation(ours, golden_array):
    theirs = torch.from_numpy(golden_array)
    assert ours.shape == theirs.shape
    return (ours.double() - theirs.double()).abs().max().item()


def grid(x):
    """(B * h * w, ...) to (B, ..., h, w) for the golden 16 x 16 regions."""
    return x.unflatten(0, (-1, 16, 16)).movedim((1, 2), (-2, -1))


def inside(h, w):
    """Which of 9 neighbours lie within the grid: (9, 1, 1, h, w)."""
    ones = F.unfold(torch.ones(1, 1, h, w), 3, padding=1)
    return ones.view(9, 1, 1, h, w)


@pytest.fixture(scope='module')
def deepglobe(golden):
    register_all_modules()
    return converted(golden)


@pytest.mark.parametrize('striped', [False, True])
def test_evaluation_is_the_authors(golden, deepglobe, striped):
    """Striped as in prediction, and in one piece as in training."""
    model, arrays = deepglobe.eval(), golden.arrays('hlrc')
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert x.sum().item() == pytest.approx(-694.434363, abs=1e-3)
    head = model.decode_head
    with (
        captured(
            maps=model.backbone,
            tokens=model.neck,
            region=head.region,
            router=head.experts.router,
            experts=head.experts,
            felc8=head.contexts[0],
            felc16=head.contexts[1],
            hidden=head.decode.activate,
        ) as out,
        torch.set_grad_enabled(not striped),
    ):
        full = model.encode_decode(x, [meta((256, 256))]).detach()
    association = F.relu(grid(out['experts'][0])).unflatten(1, (9, 4, 4))
    weights, experts = out['router'].softmax(1).topk(2)
    weights = weights / weights.sum(1, keepdim=True)
    assert torch.equal(
        experts.byte(), torch.from_numpy(arrays['eval/router_topk_idx'])
    )
    found = {
        **{f'swin{i}': out['maps'][3 + i] for i in range(4)},
        'rpb_stage3': out['maps'][0][:, ::2],
        'lpb_stage2': out['maps'][1][:, ::6],
        'lpb_stage3': out['maps'][2][:, ::6],
        'uper_feat': out['tokens'][4][:, ::4],
        'aff_feat': out['region'][:, ::2],
        'router_logits': out['router'],
        'router_topk_w': weights,
        'affinity': association * inside(16, 16),
        'felc8': out['felc8'][:, ::6],
        'felc16': out['felc16'][:, ::6],
        'seg_hidden': out['hidden'][:, ::4, ::2, ::2],
        'logits_full': full[..., 3::4, 1::4],
        'uper_logits': model.auxiliary_head[0](out['tokens']),
        'logits_os4_f64': head.conv_seg(out['hidden']),
    }
    # Ten times the difference of the authors' float32 and float64 runs.
    tolerance = dict(
        uper_feat=1.8e-4,
        uper_logits=4.7e-5,
        seg_hidden=4e-5,
        logits_full=2e-5,
        logits_os4_f64=2.4e-5,
    )
    for name, ours in found.items():
        difference = deviation(ours, arrays[f'eval/{name}'])
        assert difference < tolerance.get(name, 1e-5), name
    predicted = full.argmax(1)[0].byte()
    wrong = predicted != torch.from_numpy(arrays['eval/argmax'])
    assert wrong.sum() <= 5
    moments = torch.stack((full.mean(), full.std()))
    assert deviation(moments, arrays['eval/logits_full_moments']) < 1e-5


def test_evaluation_in_double(golden, deepglobe):
    model = copy.deepcopy(deepglobe).double().eval()
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.decode_head(model.extract_feat(x.double()))
    expected = golden.arrays('hlrc')['eval/logits_os4_f64']
    assert deviation(logits, expected) < 1e-12


def test_evaluation_for_inria(golden):
    model = converted(golden, '_inria').eval()
    arrays = golden.arrays('hlrc')
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with (
        torch.no_grad(),
        captured(router=model.decode_head.experts.router) as (out),
    ):
        maps = model.extract_feat(x)
        logits = model.decode_head(maps)
        coarse = model.auxiliary_head[0](maps)
    assert deviation(logits, arrays['eval_ia/logits_os4']) < 3e-5
    assert deviation(coarse, arrays['eval_ia/uper_logits']) < 5e-5
    assert deviation(out['router'], arrays['eval_ia/router_logits']) < 1e-5


def test_weights_for_cityscapes_load(golden):
    model = converted(golden, '_cityscapes')
    assert model.decode_head.conv_seg.out_channels == 19


def gradients(model, golden):
    """Gradient norms by the authors' names."""
    converter = runpy.run_path(str(CONVERTER))
    names = {name: name for name in golden.shapes('hlrc')}
    names, _ = convert_state(names, converter['RULES'], converter['DROPPED'])
    parameters = dict(model.named_parameters())
    norms = {}
    for ours, theirs in names.items():
        if '.experts.' in theirs:
            expert, layer = (int(part) for part in ours.split('.')[2:5:2])
            weight = f'decode_head.experts.layers.{layer // 2}'
            norms[theirs] = parameters[weight].grad[expert].norm().item()
        elif ours in parameters:
            norms[theirs] = parameters[ours].grad.norm().item()
    return norms


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_training_is_the_authors(golden, deepglobe, dtype):
    model = copy.deepcopy(deepglobe).train().to(dtype)
    arrays = golden.arrays('hlrc')
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
        elif hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0
    x = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(0, 7, (2, 1, 256, 256), generator=generator)
    ignored = torch.rand((2, 1, 256, 256), generator=generator) < 0.05
    y[ignored] = 255
    head, (sr, fcn) = model.decode_head, model.auxiliary_head
    with captured(
        tokens=model.neck,
        experts=head.experts,
        hidden=head.decode.activate,
        deep=sr.reduce,
        image=sr.sr_image,
        fcn=fcn.convs,
    ) as out:
        losses = model.loss(x.to(dtype), samples(y))
    names = {
        'decode.loss_ce': 'aux_0.loss_ce',
        'decode.acc_seg': 'aux_0.acc_seg',
        'refine.loss_ce': 'decode.loss_ce',
        'refine.acc_seg': 'decode.acc_seg',
        'cv.cv_loss': 'decode.loss_balance',
        'aux_1.recon_losses': 'aux_0.loss_recon',
        'aux_2.fa_loss': 'aux_0.loss_affinity',
        'aux.loss_ce': 'aux_1.loss_ce',
        'aux.acc_seg': 'aux_1.acc_seg',
    }
    expected = dict(
        zip(arrays['train/loss_names'], arrays['train/loss_values_f64run'])
    )
    assert set(losses) == set(names.values())
    for theirs, ours in names.items():
        accuracy = theirs.endswith('acc_seg')
        assert losses[ours].item() == pytest.approx(
            expected[theirs],
            abs=0.01 if accuracy else 0,
            rel=0 if accuracy else 2e-6,
        ), theirs
    assert total(losses).item() == pytest.approx(expected['loss'], rel=2e-6)

    association = F.relu(grid(out['experts'][0])).unflatten(1, (9, 4, 4))
    association = association * inside(16, 16)
    found = {
        'uper_feat': (out['tokens'][4][:, ::16], 4e-4),
        'aux_logits': (fcn.conv_seg(out['fcn']), 3e-5),
        'router_prob_sum': (out['experts'][1].sum(0), 7e-4),
        'affinity': (association[:, :, 1::3, 2::3], 6e-4),
        'logits_os4': (head.conv_seg(out['hidden'])[:, :, ::2, ::2], 2e-3),
        'deep_feat': (out['deep'][:, ::4], 4e-4),
        'sr_out': (out['image'][..., 1::4, 2::4], 6e-4),
    }
    for name, (ours, tolerance) in found.items():
        assert deviation(ours, arrays[f'train/{name}']) < tolerance, name

    total(losses).backward()
    ours = gradients(model, golden)
    expected = dict(
        zip(arrays['train/grad_names'], arrays['train/grad_l2_f64'])
    )
    expected = {k: v for k, v in expected.items() if v == v}
    assert set(ours) == set(expected)
    largest = max(expected.values())
    # Gradients that are zero but for rounding are compared with the largest.
    floor = 1e-6 if dtype == torch.float64 else 1e-4
    errors = [
        abs(ours[name] - value) / (value + floor * largest)
        for name, value in expected.items()
    ]
    # The authors' own gradients in float32 and in float64 differ by 1e-4 in
    # the median and 3e-3 at most.
    median, worst = (1e-7, 1e-6) if dtype == torch.float64 else (1e-3, 3e-2)
    assert np.median(errors) < median
    assert max(errors) < worst

    converter = runpy.run_path(str(CONVERTER))
    state = model.state_dict()
    for key in arrays.files:
        if key.startswith('train/after/'):
            old = key.removeprefix('train/after/')
            (new,) = convert_state({old: 0}, converter['RULES'])[0]
            assert deviation(state[new], arrays[key]) < 1e-4, key


@pytest.fixture(scope='module')
def naive(golden, build_naive):
    register_all_modules()
    model = build_naive('hlrc')
    model.load_reference(reference(golden))
    return model


@pytest.mark.parametrize('size', [(192, 320), (205, 237), (100, 68), (16, 16)])
def test_any_size_equals_the_naive_build(deepglobe, naive, size):
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = naive.encode_decode(image, [meta(size)] * 2)
        found = deepglobe.eval().encode_decode(image, [meta(size)] * 2)
    assert found.shape == (2, 7, *size)
    assert torch.allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize('size', [(768, 768), (1408, 1408)])
def test_costs_less_than_the_naive_build(deepglobe, naive, size):
    ours, theirs = (model_cost(m, size) for m in (deepglobe, naive))
    assert ours.gmacs < 0.72 * theirs.gmacs
    assert ours.peak_mib < 0.25 * theirs.peak_mib


def test_parameters_are_those_of_the_sheet():
    config = copy.deepcopy(BASE)
    for head in (config.decode_head, *config.auxiliary_head):
        head.num_classes = 7
    model = MODELS.build(config)

    def count(*modules):
        return sum(p.numel() for m in modules for p in m.parameters())

    head, (sr, fcn) = model.decode_head, model.auxiliary_head
    assert count(model.backbone.deep) == 27_520_698
    assert count(model.neck, sr.conv_seg) == 31_424_007
    assert count(fcn) == 887_047
    # Less a layer that the authors' network never uses.
    assert count(head.region, head.experts) == 1_702_855 - 1_351
    assert count(head.contexts[0]) == 21_568
    assert count(head.contexts[1]) == 80_000
    assert count(head.compress) == 27_744
    assert count(head.decode, head.conv_seg) == 175_399
    assert count(sr.reduce) == 65_792
    assert count(sr.sr_decoder, sr.sr_image) == 258_883
    assert count(model) == 67_203_897 - 48 - 1_351


@pytest.mark.parametrize('rows', [None, 1, 2, 7])
@pytest.mark.parametrize('cells', [2, 4])
def test_assigned_convolution_is_its_definition(rows, cells):
    n, c, h, w = 2, 5, 4, 3
    tokens = torch.randn(n, c, h, w).double().requires_grad_()
    shape = (n, 9, cells, cells, h, w)
    association = torch.rand(shape).double().requires_grad_()
    weight = torch.randn(6, c, 3, 3).double().requires_grad_()
    padded = F.pad(tokens, (1, 1, 1, 1))
    assigned = tokens.new_zeros(n, c, cells * h, cells * w)
    for y in range(cells * h):
        for x in range(cells * w):
            top, left = y // cells, x // cells
            near = padded[:, :, top : top + 3, left : left + 3].flatten(2)
            mix = association[:, :, y % cells, x % cells, top, left]
            assigned[:, :, y, x] = (near * mix[:, None]).sum(2)
    expected = F.conv2d(assigned, weight, padding=1)
    found = conv3x3_assigned(tokens, association, weight, rows)
    assert torch.allclose(found, expected)
    inputs = (tokens, association, weight)
    grad = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
    ):
        assert torch.allclose(a, b)


@pytest.mark.parametrize('size', [(8, 10), (9, 7), (3, 4), (31, 5)])
def test_upsampled_convolution_is_its_definition(size):
    x = torch.randn(2, 4, 3, 4).double().requires_grad_()
    weight = torch.randn(5, 4, 3, 3).double().requires_grad_()
    fine = F.interpolate(x, size, mode='bilinear', align_corners=False)
    expected = F.conv2d(fine, weight, padding=1)
    found = conv3x3_upsampled(x, weight, size)
    assert torch.allclose(found, expected)
    grad = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, (x, weight), grad),
        torch.autograd.grad(expected, (x, weight), grad),
    ):
        assert torch.allclose(a, b)


@pytest.mark.parametrize('tokens', [1, 5, 700])
@pytest.mark.parametrize('top_k', [1, 2, 4])
def test_experts_are_visited_one_by_one(tokens, top_k):
    experts = RoutedExperts(6, 3, num_experts=4, top_k=top_k)
    with torch.no_grad():
        for weight in experts.parameters():
            weight.normal_()
    x = torch.randn(tokens, 6)
    found, probabilities = experts(x)
    assert torch.allclose(
        probabilities, (x @ experts.router.weight.T).softmax(1), atol=1e-6
    )
    for i, p in enumerate(probabilities):
        weights, chosen = p.topk(top_k)
        expected = 0
        for weight, e in zip(weights / weights.sum(), chosen):
            y = x[i]
            for j, layer in enumerate(experts.layers):
                y = y @ layer[e] if j == 2 else (y @ layer[e]).relu()
            expected = expected + weight * y
        assert torch.allclose(found[i], expected, rtol=1e-3, atol=1e-4)


def test_idle_experts_have_zero_gradients():
    experts = RoutedExperts(6, 3, num_experts=4, top_k=2)
    x = torch.ones(9, 6)
    found, probabilities = experts(x)
    found.sum().backward()
    chosen = probabilities[0].topk(2).indices.tolist()
    for layer in experts.layers:
        busy = layer.grad.flatten(1).any(1)
        assert [i for i in range(4) if busy[i]] == sorted(chosen)


def test_too_few_experts_are_refused():
    with pytest.raises(ValueError, match='num_experts=1, top_k=1'):
        RoutedExperts(6, 3, num_experts=1, top_k=1)
    with pytest.raises(ValueError, match='top_k=3'):
        RoutedExperts(6, 3, num_experts=2, top_k=3)


def test_load_balance():
    loss = LoadBalanceLoss(loss_weight=2.0)
    assert loss(torch.full((10, 4), 0.25)).item() == 0
    # All tokens to one of two: mean 5, variance 50.
    one = torch.tensor([[1.0, 0.0]]).expand(10, 2)
    assert loss(one).item() == pytest.approx(2 * 50 / 25)


@pytest.mark.parametrize('size', [(65, 99), (81, 50), (64, 80)])
def test_trains_every_parameter(size):
    """Also where a side leaves 1 to 3 pixels when divided by 16."""
    model = build(tiny()).train()
    losses = model.loss(*batch(size))
    assert set(losses) == {
        *('decode.loss_ce', 'decode.acc_seg', 'decode.loss_balance'),
        *('aux_0.loss_ce', 'aux_0.acc_seg'),
        *('aux_0.loss_recon', 'aux_0.loss_affinity'),
        *('aux_1.loss_ce', 'aux_1.acc_seg'),
    }
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_labels_without_a_class_train():
    model = build(tiny()).train()
    image, labelled = batch((64, 64))
    for sample in labelled:
        sample.gt_sem_seg.data.fill_(255)
    losses = model.loss(image, labelled)
    total(losses).backward()
    assert losses['decode.loss_ce'] == 0
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_last_tokens_are_repeated():
    """At 17 pixels there are two regions and one token a side."""
    model = build(tiny()).eval()
    with torch.no_grad():
        maps = model.extract_feat(torch.randn(1, 3, 17, 17))
        found = model.decode_head(maps)
        tokens = F.pad(maps[4], (0, 1, 0, 1), mode='replicate')
        repeated = (*maps[:4], tokens, maps[5])
        expected = model.decode_head(repeated)
    assert maps[0].shape[2:] == (2, 2)
    assert maps[4].shape[2:] == (1, 1)
    assert torch.equal(found, expected)


def test_tiny_windows_are_refused():
    model = build(tiny()).eval()
    with pytest.raises(ValueError, match='3 x 40 pixels'):
        model.extract_feat(torch.randn(1, 3, 3, 40))


def test_initialisation():
    model = build(tiny())
    model.init_weights()
    head = model.decode_head
    for weight in (head.decode.conv.weight, head.decode.norm.weight):
        assert weight.std().item() == pytest.approx(0.01, rel=0.5)
        assert weight.abs().max() < 0.06
    for layer in head.experts.parameters():
        assert layer.std().item() == pytest.approx(0.02, rel=0.3)
    assert head.conv_seg.weight.std() < 0.02
    model = build(tiny(small_init=False))
    model.init_weights()
    assert (model.decode_head.decode.norm.weight == 1).all()
    assert model.decode_head.experts.layers[0].std() > 0.2


def test_errors_name_the_option():
    with pytest.raises(ValueError, match='HLRCHead in_channels=.*four'):
        build(tiny(in_channels=(12, 6, 12), in_index=(0, 1, 2)))
    with pytest.raises(ValueError, match='multiples of 3'):
        FieldEnrichedContext(8, dict(type='BN'))
    with pytest.raises(ValueError, match='needs 4 maps.*returns 2'):
        UPerNeck()([torch.randn(1, 96, 4, 4)] * 2)


@pytest.mark.parametrize('variant', VARIANTS)
def test_learning_rate_is_the_authors(variant):
    """Their warm-up is a factor of the running polynomial rate."""
    config = Config.fromfile(CONFIGS / 'hlrc' / VARIANTS[variant])
    last = config.train_cfg.max_iters
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=6e-5)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(one, optimizer=optimizer))
        for one in config.param_scheduler
    ]
    optimizer.step()
    for t in range(2001):
        warm = 1 - max(1 - t / 1500, 0) * (1 - 1e-6)
        expected = 6e-5 * (1 - t / last) * warm
        rate = optimizer.param_groups[0]['lr']
        assert rate == pytest.approx(expected, rel=1e-9), t
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize('variant', VARIANTS)
def test_training_pipelines_fill_the_crop(variant, scenes):
    config = Config.fromfile(CONFIGS / 'hlrc' / VARIANTS[variant])
    dataset = DATASETS.build(
        dict(
            type='mmseg_uhr.UHRDataset',
            data_root=str(scenes),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            metainfo=dict(classes=('a', 'b', 'c'), palette=[[0] * 3] * 3),
            pipeline=config.train_dataloader.dataset.pipeline,
        )
    )
    found = [dataset[i] for i in range(2)]
    for one in found:
        shape = one['data_samples'].gt_sem_seg.shape
        assert one['inputs'].shape[1:] == shape
        if variant == '_inria':
            # The whole of a small scene (96 x 128), at 0.8.
            assert shape == (77, 102)
    data = {key: [one[key] for one in found] for key in found[0]}
    preprocessor = MODELS.build(config.model.data_preprocessor)
    inputs = preprocessor(data, training=True)['inputs']
    assert inputs.shape[2:] == config.model.data_preprocessor.size


def test_windows_of_inria_are_seen_at_its_scale():
    """1280 pixels at offsets 0, 960, 1920 and 2720 of 4000."""
    config = Config.fromfile(CONFIGS / 'hlrc' / VARIANTS['_inria']).model
    crop, stride = config.test_cfg.crop_size[0], config.test_cfg.stride[0]
    scale = config.views.local.scale
    offsets = [min(i * stride, 5000 - crop) * scale for i in range(4)]
    assert crop * scale == 1280
    assert offsets == [0, 960, 1920, 2720]

"""SGHRQ equals its reference implementation, and what it promises beyond."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn

import mmseg_uhr  # noqa: F401
from mmseg_uhr.memory import model_cost
from mmseg_uhr.models.layers import ClassMemory
from mmseg_uhr.tiling import TilePlan, parse_views

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/sghrq'
DEEPGLOBE = CONFIGS / 'sghrq_r18_80k_deepglobe-1224x1224.py'
INRIA = CONFIGS / 'sghrq_r18_40k_inria-2000x2000.py'
NARROW = CONFIGS / 'sghrq_r18-w16_5min_bluemarble-192x192.py'
SIZE = (256, 320)
# Our names of the losses, and the reference's.
LOSSES = {
    'decode.loss_ce': 'refine.loss_seg',
    'decode.loss_ce_8': 'aux_2.loss_seg',
    'decode.loss_ce_16': 'aux_1.loss_seg',
    'decode.loss_ce_16m': 'aux_5.loss_seg',
    'aux_0.loss_ce': 'decode.loss_seg',
    'aux_0.loss_recon': 'aux_3.recon_losses',
    'aux_0.loss_affinity': 'aux_4.fa_loss',
    'aux_1.loss_ce': 'aux.loss_seg',
}


def meta(size):
    return dict(img_shape=size, ori_shape=size, pad_shape=size)


def close(found, expected, tolerance):
    """Up to ``tolerance`` of the largest value."""
    found = found.detach().numpy()
    assert found.shape == expected.shape
    bound = tolerance * np.abs(expected).max() + 1e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def weights(golden, num_classes):
    """Weights by the authors' names, each tensor under one name."""
    shapes = {
        name: [
            {7: num_classes, 348: 334 + 2 * num_classes}.get(n, n)
            for n in shape
        ]
        for name, shape in golden.shapes('sghrq').items()
        if not name.startswith('refine_head.stdc_net.x')
    }
    state = golden.fill(shapes)
    memory = 'refine_head.memory.memory'
    # The memory has no fan-in, and the codes keep their frequencies.
    state[memory] *= (512 / 2) ** 0.5
    for name in state:
        if name.endswith('.emb'):
            state[name] = torch.from_numpy(
                golden.arrays('sghrq')['emb_default']
            )
    return state


def build(config, state=None):
    """Build a config's model without dropout."""
    register_all_modules()
    config = Config.fromfile(config).model
    for head in config.auxiliary_head:
        head.dropout_ratio = 0.0
    model = MODELS.build(config)
    if state is not None:
        model.load_state_dict(state, strict=True)
    return model


@pytest.fixture(scope='module')
def expected(golden):
    return golden.arrays('sghrq')


@pytest.fixture(scope='module')
def reference(golden):
    return weights(golden, 7)


@pytest.fixture(scope='module')
def converted(golden, reference):
    return golden.convert('sghrq', reference)


@pytest.fixture(scope='module')
def model(converted):
    return build(DEEPGLOBE, converted).eval()


@pytest.fixture(scope='module')
def image():
    x = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    assert x.double().sum().item() == pytest.approx(-911.22009, abs=1e-4)
    return x


def predict(model, x):
    """Return the final logits and the outputs of some modules."""
    seen = {}
    head = model.decode_head
    modules = dict(
        encoder=model.backbone,
        neck=model.neck,
        shallow_in=model.backbone.shallow.input_layer,
        memory=head.memory,
        embed=head.memory.embed,
        compress=head.compress,
        query=head.query,
        a8=head.class_head_8,
        a16=head.class_head_16,
    )
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update(
                {name: output}
            )
        )
        for name, module in modules.items()
    ]
    with torch.no_grad():
        logits = model.encode_decode(x, [meta(tuple(x.shape[2:]))] * len(x))
    for handle in handles:
        handle.remove()
    seen['a16m'] = seen['a16'] * (1 + seen['memory'])
    return logits, seen


def test_prediction(model, image, expected):
    logits, seen = predict(model, image)
    close(logits[..., ::4, ::4], expected['A_final_logits_s4'], 1e-5)
    close(logits[..., 100:132, 140:180], expected['A_final_logits_crop'], 1e-5)
    assert np.array_equal(logits.argmax(dim=1), expected['A_final_argmax'])
    f8, f16, c3, c4, pyramid, window = seen['neck']
    assert window is image
    found = {
        'feat8_c8': f8[:, ::8],
        'feat16_c8': f16[:, ::8],
        'c3_c4': c3[:, ::4],
        'c4_c4': c4[:, ::4],
        'aspp_concat_c4': pyramid[:, ::4],
        'img_down': model.backbone._shrink(image),
        'aux8': seen['a8'],
        'aux16': seen['a16'],
        'mem_S_c8': seen['embed'].flatten(2)[:, ::8],
        'memory_map': seen['memory'],
        'aux16_m': seen['a16m'],
        'query_deep_256_c2': seen['compress'][:, ::2],
        'query_out': seen['query'],
    }
    # Whole, as in training: prediction makes it in stripes.
    shallow = model.backbone.shallow.input_layer(image)
    found['shallow_in_s8'] = shallow[..., ::8, ::8]
    found['shallow_in_br24'] = shallow[..., -24:, -24:]
    coarse = model.auxiliary_head[0]
    found['aspp_bottleneck'] = coarse._forward_feature(seen['neck'])
    found['coarse_logits'] = coarse(seen['neck'])
    for name, value in found.items():
        close(value, expected[f'A_{name}'], 1e-5)


def test_prediction_with_an_empty_memory(converted, image, expected):
    model = build(DEEPGLOBE, converted).eval()
    model.decode_head.memory.memory.zero_()
    _, seen = predict(model, image)
    assert torch.equal(seen['memory'], torch.full_like(seen['memory'], 1 / 7))
    assert np.allclose(expected['Azero_memory_map'], 1 / 7)
    close(seen['a16m'], expected['Azero_aux16_m'], 1e-5)
    close(seen['query'], expected['Azero_query_out'], 1e-5)


def batch():
    """Images and labels of the recipe."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *SIZE, generator=generator)
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(0, 7, (2, 1, *SIZE), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.05] = 255
    assert (y == 255).sum() == 8100
    return x, samples_of(y)


def samples_of(labels):
    return [
        SegDataSample(
            gt_sem_seg=PixelData(data=one), metainfo=meta(one.shape[1:])
        )
        for one in labels
    ]


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


@pytest.mark.parametrize('start', ['filled', 'empty'])
def test_training_step(start, golden, converted, expected):
    """One forward in train mode; batch statistics are updated."""
    model = build(DEEPGLOBE, converted).train()
    memory = model.decode_head.memory.memory
    suffix = ''
    if start == 'empty':
        memory.zero_()
        suffix = '_zero_init'
    seen = {}
    for name, module in dict(
        memory_map=model.decode_head.memory,
        aux8=model.decode_head.class_head_8,
        query_out=model.decode_head.query,
        coarse_logits=model.auxiliary_head[0].conv_seg,
        sr_img=model.auxiliary_head[0].sr_image,
        fcn_aux_logits=model.auxiliary_head[1].conv_seg,
    ).items():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update(
                {name: output}
            )
        )
    losses = model.loss(*batch())
    assert {name for name in losses if 'loss' in name} == set(LOSSES)
    kind = 'T_loss_zero_memory_float64' if suffix else 'T_loss_float64'
    values = dict(zip(expected['T_loss_names'], expected[kind]))
    for ours, theirs in LOSSES.items():
        assert losses[ours].item() == pytest.approx(
            values[theirs], rel=1e-5
        ), ours
    close(memory, expected[f'T_memory_after{suffix}'][:, 0], 1e-5)
    if suffix:
        return
    seen['sr_img_s4'] = seen.pop('sr_img')[..., ::4, ::4]
    for name, value in seen.items():
        close(value, expected[f'T_{name}'], 1.5e-4)
    statistics = {
        name.removeprefix('T_after:'): torch.from_numpy(expected[name])
        for name in expected.files
        if name.startswith('T_after:')
    }
    found = dict(model.named_buffers())
    assert len(statistics) == 26
    for name, value in golden.convert('sghrq', statistics).items():
        close(found[name], value.numpy(), 5e-5)


def test_gradients(golden, converted, expected):
    """In double precision, which the reference's values are of."""
    model = build(DEEPGLOBE, converted).double().train()
    x, samples = batch()
    losses = model.loss(x.double(), samples)
    values = dict(zip(expected['T_loss_names'], expected['T_loss_float64']))
    for ours, theirs in LOSSES.items():
        assert losses[ours].item() == pytest.approx(values[theirs], rel=1e-6)
    total(losses).backward()
    names = [str(name) for name in expected['T_grad_names']]
    norms = torch.from_numpy(expected['T_grad_float64'])
    expected = golden.convert('sghrq', dict(zip(names, norms)))
    parameters = dict(model.named_parameters())
    assert expected.keys() == parameters.keys()
    for name, value in expected.items():
        found = parameters[name].grad.norm().item()
        if value < 1e-9:  # biases in front of a norm
            assert found < 1e-9, name
        else:
            assert found == pytest.approx(value.item(), rel=1e-3), name
    # Offsets within the own grid are zero.
    assert not model.decode_head.query.codes[0].emb.grad.any()


def test_parameters_are_those_of_the_reference(model):
    """Without 903 of a classifier and 24 of a code that it never uses."""
    found = sum(p.numel() for p in model.parameters())
    assert found == 16_775_245 - 903 - 24
    assert model.decode_head.memory.memory.numel() == 3584


def test_converter_takes_either_name(golden, reference, converted):
    """Released files hold the shallow network twice, as slices and whole."""
    trunk = 'refine_head.stdc_net.'
    part = {0: 'x2', 1: 'x4', 2: 'x8', 3: 'x8', 4: 'x16', 5: 'x16'}
    slices, both = {}, dict(reference)
    for name, value in reference.items():
        if name.startswith(f'{trunk}features.'):
            rest = name.removeprefix(f'{trunk}features.')
            name = f'{trunk}{part[int(rest[0])]}.0.{rest}'
        slices[name] = both[name] = value
    assert both.keys() == golden.shapes('sghrq').keys()
    for state in (slices, both):
        found = golden.convert('sghrq', state, '--config', str(DEEPGLOBE))
        assert found.keys() == converted.keys()
        assert all(torch.equal(found[k], converted[k]) for k in found)
    with pytest.raises(SystemExit, match='unknown parameters refine_head.x'):
        golden.convert('sghrq', {**reference, 'refine_head.x': torch.ones(1)})


@pytest.mark.parametrize(
    'size', [(64, 64), (197, 261), (250, 330), (306, 97), (33, 31)]
)
def test_equals_a_plain_build(model, reference, build_naive, size):
    plain = build_naive('sghrq')
    plain.load_reference(reference)
    x = torch.randn(2, 3, *size)
    metas = [meta(size)] * 2
    with torch.no_grad():
        found = model.encode_decode(x, metas)
        close(found, plain.encode_decode(x, metas).numpy(), 1e-5)


def test_two_classes_equal_a_plain_build(golden, build_naive):
    reference = weights(golden, 2)
    state = golden.convert('sghrq', reference, '--config', str(INRIA))
    model = build(INRIA, state).eval()
    plain = build_naive('sghrq', 2)
    plain.load_reference(reference)
    x = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        found = model.encode_decode(x, [meta((128, 160))])
        close(found, plain.encode_decode(x, None).numpy(), 1e-5)


def test_needs_half_of_the_plain_build_s_memory(model, build_naive):
    ours = model_cost(model, (1504, 1504))
    plain = model_cost(build_naive('sghrq'), (1504, 1504))
    assert ours.peak_mib <= 0.5 * plain.peak_mib
    assert ours.gmacs < plain.gmacs
    # 161.7 GFLOPs, two per multiply-accumulate.
    assert plain.gmacs == pytest.approx(161.7 / 2, rel=0.01)


def tiny():
    """The narrow model for CPUs with even fewer channels."""
    config = Config.fromfile(NARROW).model
    config.backbone.shallow.channels = (8, 8, 16, 24)
    config.backbone.deep.update(base_channels=4, stem_channels=4)
    config.neck.update(in_channels=32, channels=4)
    config.decode_head.update(
        in_channels=(16, 24, 32, 16),
        channels=8,
        class_channels=8,
        compress_channels=8,
        query_channels=(16, 8),
        num_classes=3,
    )
    coarse, deep = config.auxiliary_head
    coarse.update(in_channels=16, channels=8, num_classes=3)
    deep.update(in_channels=16, channels=8, num_classes=3)
    return config


def small_batch(size, n=2):
    label = torch.randint(0, 3, (n, 1, 2, 3)).float()
    label = nn.functional.interpolate(label, size).to(torch.uint8)
    label[:, :, :5, :5] = 255
    image = torch.randn(n, 3, *size) + label.clamp(max=3)
    return image, samples_of(label)


@pytest.fixture
def tiny_model():
    register_all_modules()
    return MODELS.build(tiny())


def test_trains_every_parameter_and_takes_any_size(tiny_model):
    losses = tiny_model.train().loss(*small_batch((203, 331)))
    total(losses).backward()
    for name, parameter in tiny_model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert tiny_model.decode_head.memory.memory.any(dim=1).all()
    tiny_model.eval()
    before = tiny_model.decode_head.memory.memory.clone()
    for size in ((101, 67), (32, 48), (9, 8), (5, 5)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            logits = tiny_model.encode_decode(image, [meta(size)])
        assert logits.shape == (1, 3, *size)
        assert logits.isfinite().all()
    # Losses of a validation do not teach.
    tiny_model.loss(*small_batch((64, 64)))
    assert torch.equal(tiny_model.decode_head.memory.memory, before)


def test_labels_without_a_class_train(tiny_model):
    tiny_model.train()
    image, samples = small_batch((64, 96))
    for sample in samples:
        sample.gt_sem_seg.data = torch.full_like(sample.gt_sem_seg.data, 255)
    losses = tiny_model.loss(image, samples)
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    assert losses['decode.loss_ce'] == 0
    assert not tiny_model.decode_head.memory.memory.any()
    for name, parameter in tiny_model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_half_precision(tiny_model):
    tiny_model.train()
    image, samples = small_batch((128, 160))
    with torch.autocast('cpu', torch.bfloat16):
        losses = tiny_model.loss(image, samples)
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in tiny_model.parameters())
    memory = tiny_model.decode_head.memory.memory
    assert memory.dtype == torch.float32
    assert memory.isfinite().all()
    tiny_model.eval()
    metas = [sample.metainfo for sample in samples]
    with torch.no_grad():
        full = tiny_model.encode_decode(image, metas)
        with torch.autocast('cpu', torch.bfloat16):
            cast = tiny_model.encode_decode(image, metas)
        tiny_model.bfloat16()
        half = tiny_model.encode_decode(image.bfloat16(), metas)
    assert half.dtype == torch.bfloat16
    for found in (cast, half):
        torch.testing.assert_close(found.float(), full, rtol=0.1, atol=0.1)


def test_learns(tiny_model):
    tiny_model.train()
    optimizer = torch.optim.AdamW(tiny_model.parameters(), 1e-2)
    image, samples = small_batch((96, 128))
    history = []
    for _ in range(25):
        losses = tiny_model.loss(image, samples)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        history.append({k: float(v.detach()) for k, v in losses.items()})
    for name in LOSSES:
        if 'loss_ce' in name:
            assert history[-1][name] < 0.6 * history[0][name], name


def test_loss_weights(tiny_model):
    config = tiny()
    config.decode_head.aux_loss_weights = (0.5, 1.0, 0.0)
    other = MODELS.build(config)
    other.load_state_dict(tiny_model.state_dict())
    image, samples = small_batch((64, 64))
    one = tiny_model.loss(image, copy.deepcopy(samples))
    other = other.loss(image, samples)
    torch.testing.assert_close(
        other['decode.loss_ce_8'], 0.5 * one['decode.loss_ce_8']
    )
    assert other['decode.loss_ce_16'] == one['decode.loss_ce_16']
    assert other['decode.loss_ce_16m'] == 0


def test_one_channel_for_two_classes_is_refused():
    register_all_modules()
    config = tiny()
    config.decode_head.update(num_classes=2, out_channels=1)
    with pytest.raises(ValueError, match='leave out_channels out'):
        MODELS.build(config)


def test_one_image_cannot_be_learnt_from(tiny_model):
    with pytest.raises(ValueError, match='batch_size to 2'):
        tiny_model.train().loss(*small_batch((64, 64), n=1))


DISTRIBUTED = """
import os
import sys
import torch
import torch.distributed as dist
from mmengine import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
import mmseg_uhr
from mmseg_uhr.models.layers import ClassMemory

register_all_modules()
dist.init_process_group('gloo')
rank = dist.get_rank()
data, out = torch.load(sys.argv[1]), {}
for sync in ('mean', 'seen'):
    memory = ClassMemory(3, 4, 4, sync=sync)
    for features, labels in data[rank]:
        memory.update(features, labels)
    out[sync] = memory.memory
torch.manual_seed(0)
model = MODELS.build(Config.fromfile(sys.argv[2])).train()
ddp = MMDistributedDataParallel(model, find_unused_parameters=False)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for step in range(3):
    torch.manual_seed(10 * step + rank)
    image = torch.randn(2, 3, 64, 64)
    # The second process sees one class, in the last step none.
    label = torch.randint(0, 3 if rank == 0 else 1, (2, 1, 64, 64))
    if rank and step == 2:
        label[:] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in label]
    losses = ddp(image, samples, mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    optimizer.step()
    optimizer.zero_grad()
out['model'] = model.decode_head.memory.memory
out['weight'] = model.decode_head.conv_seg.weight.detach()
torch.save(out, f'{sys.argv[3]}.{rank}')
# The threads of gloo may abort a process that is on its way out.
torch.distributed.barrier()
os._exit(0)
"""


def test_two_processes(tmp_path):
    """Memories are equal afterwards, and what the rule says."""
    # Class 0 on both, 1 on the second only, then on both; 2 on none.
    labels = [
        [torch.tensor([[[[0, 0]]]]), torch.tensor([[[[0, 1]]]])],
        [torch.tensor([[[[0, 1]]]]), torch.tensor([[[[1, 1]]]])],
    ]
    data = [[(torch.randn(1, 4, 1, 2), y) for y in of] for of in labels]
    torch.save(data, tmp_path / 'data.pth')
    script = tmp_path / 'script.py'
    script.write_text(DISTRIBUTED)
    config = tmp_path / 'config.py'
    Config(tiny().to_dict()).dump(config)
    result = subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run'),
            *('--standalone', '--nproc_per_node=2', str(script)),
            *map(str, (tmp_path / 'data.pth', config, tmp_path / 'out')),
        ],
        env=dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            OMP_NUM_THREADS='1',
            CUDA_VISIBLE_DEVICES='',
        ),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    one, other = (torch.load(tmp_path / f'out.{rank}') for rank in (0, 1))
    for key, value in one.items():
        assert torch.equal(value, other[key]), key
        assert value.isfinite().all(), key
    assert one['model'].any(dim=1).all()

    expected = {sync: torch.zeros(3, 4) for sync in ('mean', 'seen')}
    for step in range(2):
        for sync, shared in expected.items():
            found = []
            for rank in range(2):
                memory = ClassMemory(3, 4, 4)
                memory.memory.copy_(shared)
                memory.update(*data[rank][step])
                found.append(memory.memory)
            for c in range(3):
                ranks = [
                    rank
                    for rank in range(2)
                    if sync == 'mean' or (labels[rank][step] == c).any()
                ]
                if ranks:
                    shared[c] = sum(found[rank][c] for rank in ranks)
                    shared[c] /= len(ranks)
    for sync, shared in expected.items():
        torch.testing.assert_close(one[sync], shared)
    assert not one['mean'][2].any()
    assert not torch.allclose(one['mean'], one['seen'])


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem
)
def test_configs_build_and_predict(path):
    register_all_modules()
    config = Config.fromfile(path)
    model = MODELS.build(config.model)
    assert model_cost(model, (512, 512)).gmacs > 0
    classes = {
        head.num_classes for head in (model.decode_head, *model.auxiliary_head)
    }
    assert classes == {
        number
        for data, number in dict(
            deepglobe=7, inria=2, bluemarble=10, cityscapes=19, urur=8
        ).items()
        if data in path.stem
    }
    text = str(config.model)
    # Nothing is fetched when a run starts.
    assert 'open-mmlab' not in text
    assert 'http' not in text


@pytest.mark.parametrize(
    'name, side, windows, seen',
    [
        ('80k_deepglobe-1224x1224', 2448, 4, [0, 944]),
        ('80k_deepglobe-1224x1224_small-memory', 2448, 25, None),
        ('80k_deepglobe-1224x1224_large-memory', 2448, 1, [0]),
        ('40k_inria-2000x2000', 5000, 16, [0, 960, 1920, 2720]),
        ('40k_inria-2000x2000_small-memory', 5000, 64, None),
        ('40k_inria-2000x2000_large-memory', 5000, 1, [0]),
    ],
)
def test_windows(name, side, windows, seen):
    """Those of the reference where it has any."""
    model = Config.fromfile(CONFIGS / f'sghrq_r18_{name}.py').model
    test = model.test_cfg
    plan = list(TilePlan((side, side), test.crop_size, test.stride))
    assert len(plan) == windows
    view = parse_views(model.get('views'))['local']
    scale = view.scale or 1
    if seen is not None:
        assert sorted({round(w.y * scale) for w in plan}) == seen
    size = view.size_of(plan[0])
    # Multiples of 32 have grids that nest.
    assert size[0] == size[1]
    assert size[0] % 32 == 0 or windows == 1

"""FCtL equals its reference implementation, and what it promises beyond."""

import json
import math
import runpy
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from PIL import Image

import mmseg_uhr  # noqa: F401
from mmseg_uhr.evaluation.confusion import confusion_matrix
from mmseg_uhr.models.decode_heads.fcn8s_head import bilinear_kernel
from mmseg_uhr.models.losses import SoftmaxFocalLoss
from mmseg_uhr.tiling import parse_views

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs' / 'fctl'
CONVERTER = ROOT / 'tools' / 'model_converters' / 'fctl.py'
SIZE = (60, 76)
CLASSES = {'inria': 2, 'deepglobe': 7}
PREFIX = {'inria': 'I', 'deepglobe': 'D'}
LOGITS, FEATURES, ATTENTION = 3e-4, 2e-4, 1e-6
# Of maps behind a soft-max of unscaled products, whose rounding counts.
READ = 2e-3


@pytest.fixture(autouse=True, scope='module')
def _setup():
    register_all_modules()


def config_of(data, phase):
    (path,) = CONFIGS.glob(f'fctl_vgg16-{phase}_*_{data}-508x508.py')
    return Config.fromfile(path).model


def seeded(role, network):
    """Weights by the recipe; entries that are stored twice share a tensor."""
    state = {}
    for name, shape in network.items():
        if isinstance(shape, str):
            state[name] = state[shape]
        elif 'classifier' in name:
            state[name] = torch.zeros(1)
        else:
            seed = zlib.crc32(f'{role}.{name}'.encode())
            values = torch.randn(
                shape, generator=torch.Generator().manual_seed(seed)
            )
            if len(shape) > 1:
                values *= math.sqrt(2 / math.prod(shape[1:]))
            elif name.endswith('bias'):
                values *= 0.1
            else:
                values = 1 + 0.1 * values
            state[name] = values
    return state


class Converter:
    """Runs the tool on networks of the recipe."""

    def __init__(self, golden, folder):
        self.networks = golden.shapes('fctl')
        self.folder = folder

    def save(self, role, network):
        path = self.folder / f'{role}.pth'
        state = seeded(role, network)
        torch.save({f'module.{k}': v for k, v in state.items()}, path)
        return path

    def __call__(self, data, *roles, options=()):
        networks = self.networks[data]
        kinds = {
            'ctx_medium': 'context',
            'ctx_large': 'whole' if data == 'deepglobe' else 'context',
        }
        paths = [
            self.save(role, networks[kinds.get(role, role)]) for role in roles
        ]
        target = self.folder / 'converted.pth'
        run_converter(*paths, target, *options)
        return torch.load(target, weights_only=True)['state_dict']


def run_converter(*arguments):
    """Run the tool; the fixture for tools would add options of training."""
    saved = sys.argv
    sys.argv = [str(CONVERTER), *map(str, arguments)]
    try:
        runpy.run_path(str(CONVERTER), run_name='__main__')
    finally:
        sys.argv = saved


@pytest.fixture(scope='module')
def convert(golden, tmp_path_factory):
    return Converter(golden, tmp_path_factory.mktemp('fctl'))


@pytest.fixture(scope='module', params=list(CLASSES))
def data(request):
    return request.param


@pytest.fixture(scope='module')
def arrays(golden, data):
    stored = golden.arrays('fctl')
    prefix = PREFIX[data] + '.'
    return {
        name[len(prefix) :]: stored[name]
        for name in stored.files
        if name.startswith(prefix)
    }


@pytest.fixture(scope='module')
def model(data, convert):
    model = MODELS.build(config_of(data, 'phase3'))
    state = convert(data, 'model', 'ctx_medium', 'ctx_large')
    model.load_state_dict(state, strict=True)
    return model.eval()


def image(seed, n=2, size=SIZE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, *size, generator=generator)


@pytest.fixture(scope='module')
def views(data):
    n = 1 if data == 'deepglobe' else 2
    return dict(local=image(0), medium=image(1), large=image(2, n))


def samples(data, n=2, size=SIZE):
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, CLASSES[data], (n, *size), generator=generator)
    return [
        SegDataSample(
            gt_sem_seg=PixelData(data=label[None]), metainfo=meta(size)
        )
        for label in labels
    ]


def meta(size=SIZE):
    return dict(img_shape=size, ori_shape=size, pad_shape=size)


def close(found, expected, atol, rtol=0):
    found = found.detach().numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def test_inputs_are_those_of_the_recipe(views, arrays, data):
    for view, (total, absolute) in zip(views.values(), arrays['input_check']):
        assert view.double().sum().item() == pytest.approx(total)
        assert view.double().abs().sum().item() == pytest.approx(absolute)
    labels = torch.cat([s.gt_sem_seg.data for s in samples(data)])
    np.testing.assert_array_equal(labels.numpy(), arrays['labels'])


def test_features(model, views, arrays):
    with torch.no_grad():
        pool3, pool4, pool5, medium, large = model.extract_feat(views)
    close(pool3[:, ::16, ::3, ::3], arrays['full.pool3_c16s3'], FEATURES)
    close(pool4[:, ::16, ::2, ::2], arrays['full.pool4_c16s2'], FEATURES)
    close(pool5[:, ::16], arrays['full.pool5_c16'], FEATURES)
    close(medium.features[:, ::16], arrays['ctx_medium.pool5_c16'], FEATURES)
    close(large.features[:, ::16], arrays['ctx_large.pool5_c16'], FEATURES)
    shapes = [list(x.shape) for x in (pool3, pool4, pool5)]
    assert shapes == arrays['full.shapes'][:3].tolist()


def sources(model, maps):
    local, contexts = maps[2], [context.features for context in maps[3:]]
    return zip(
        model.decode_head.fusion.correlations.items(), [local, *contexts]
    )


# The reference's order of the sources.
ORDER = {'inria': [1, 2, 0], 'deepglobe': [0, 1, 2]}


def test_correlation_and_fusion(model, views, arrays, data):
    fusion = model.decode_head.fusion
    with torch.no_grad():
        maps = model.extract_feat(views)
        local = maps[2]
        read = []
        for (name, correlation), source in sources(model, maps):
            query, key = correlation.queries_and_keys(local, source)
            rows = (query[:1] @ key[:1].mT).softmax(dim=-1)[:, ::6]
            close(rows, arrays[f'full.attn_{name}_b0_rows6'], READ)
            read.append(correlation(local, source))
            if data == 'deepglobe':
                expected = arrays[f'full.cc_{name}_c32']
                close(read[-1][:, ::32], expected, READ)
        mixed = {}
        handle = fusion.gate.mix.register_forward_hook(
            lambda *args: mixed.update(out=args[2])
        )
        weights = fusion.gate(read)
        handle.remove()
        enhanced = fusion(local, maps[3:])
    blocks = mixed['out'].chunk(3, dim=1)
    mixed = torch.cat([blocks[i] for i in ORDER[data]], dim=1)
    close(mixed[:, ::96], arrays['full.trans_c96'], READ)
    weights = weights[ORDER[data]][:, :, ::64]
    close(weights, arrays['full.fuse_weights_c64'], READ)
    if data == 'inria':
        close(enhanced[:, ::16], arrays['full.enhanced_c16'], READ)


def test_correlation_alone(model, arrays, data):
    """On small numbers, whose soft-max is not one-hot."""
    fusion = model.decode_head.fusion
    maps = [
        0.15
        * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        for seed, shape in (
            (10, (1, 512, 5, 6)),
            (11, (1, 512, 4, 7)),
            (12, (1, 512, 6, 3)),
        )
    ]
    with torch.no_grad():
        read = []
        for (name, correlation), source in zip(
            fusion.correlations.items(), maps
        ):
            query, key = correlation.queries_and_keys(maps[0], source)
            rows = (query @ key.mT).softmax(dim=-1)
            close(rows, arrays[f'att.map_{name}'], ATTENTION)
            read.append(correlation(maps[0], source))
            if data == 'deepglobe':
                close(read[-1][:, ::4], arrays[f'att.cc_{name}_c4'], ATTENTION)
        if data == 'deepglobe':
            return
        weights = fusion.gate(read)[ORDER[data]]
        close(weights[:, :, ::16], arrays['att.weights_c16'], ATTENTION)
        out = fusion(maps[0], maps[1:])
        close(out[:, ::4], arrays['att.out_c4'], ATTENTION)
        # The network that trains an encoder has the first one and no gate.
        out = maps[0] + read[1]
        close(out[:, ::4], arrays['att.out_two_input_c4'], ATTENTION)


def test_decoder_and_logits(model, views, arrays):
    head = model.decode_head
    seen = {}
    handles = [
        getattr(head, name).register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: out})
        )
        for name in ('conv_seg', 'skip4', 'skip3')
    ]
    with torch.no_grad():
        logits = model.encode_decode(views, [meta()] * 2)
    for handle in handles:
        handle.remove()
    close(seen['conv_seg'], arrays['full.output'], LOGITS)
    close(seen['skip4'], arrays['full.adj_pool4'], LOGITS)
    bias = head.skip3.bias.detach()[:, None, None]
    expected = arrays['full.adj_pool3'] - bias.numpy()
    close(seen['skip3'] - bias, expected, 1e-6)
    close(logits, arrays['full.logits'], LOGITS)
    close(
        logits[:1, :, 1::4, 1::4],
        arrays['full.up_final'][:, :, 8:23, 8:27],
        LOGITS,
    )


def our_names(names):
    """The converter's names of the reference's parameters."""
    tool = runpy.run_path(str(CONVERTER))
    # Numbers in place of weights; the gate's are reordered by blocks.
    state = {
        name: torch.full((3, 3) if 'trans' in name else (1,), index)
        for index, name in enumerate(names)
    }
    converted, left_out = tool['convert_local'](state, 'medium')
    assert not left_out
    return {int(x.flatten()[0]): name for name, x in converted.items()}


def gradient_norms(model, names):
    """L2 norms of gradients in the order of the reference's names."""
    ours = our_names([str(name) for name in names])
    known = dict(model.named_parameters())
    grads = [
        known[ours[i]].grad if ours[i] in known else None
        for i in range(len(names))
    ]
    return np.array(
        [-1 if g is None else g.double().norm().item() for g in grads]
    )


def test_losses_and_gradients(model, views, arrays, data):
    loss = model.loss(views, samples(data))['decode.loss_focal']
    assert loss.item() == pytest.approx(arrays['full.loss_eval'][0], rel=1e-5)
    model.zero_grad()
    loss.backward()
    norms = gradient_norms(model, arrays['full.grad_names'])
    model.zero_grad()
    np.testing.assert_allclose(
        norms, arrays['full.grad_norms'], rtol=1e-3, atol=1e-6
    )


def test_training_loss(model, views, arrays, data):
    """With dropout, in the reference's order of random numbers."""
    model.train()
    try:
        torch.manual_seed(0)
        loss = model.loss(views, samples(data))['decode.loss_focal']
    finally:
        model.eval()
    expected = arrays['full.loss_train_seed0'][0]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_first_phase(data, convert, arrays):
    model = MODELS.build(config_of(data, 'phase1'))
    model.load_state_dict(convert(data, 'phase1'), strict=True)
    model.eval()
    with torch.no_grad():
        logits = model.encode_decode(image(0), [meta()] * 2)
    close(logits, arrays['phase1.logits'], LOGITS)
    loss = model.loss(image(0), samples(data))['decode.loss_focal']
    expected = arrays['phase1.loss_eval'][0]
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    norms = gradient_norms(model, arrays['phase1.grad_names'])
    expected = arrays['phase1.grad_norms']
    np.testing.assert_allclose(norms, expected, rtol=1e-3, atol=1e-6)


def naive_of(build_naive, data, networks):
    """The plain build with the fixture's weights."""
    naive = build_naive('fctl', data)
    whole = networks['whole' if data == 'deepglobe' else 'context']
    naive.load_reference(
        seeded('model', networks['model']),
        seeded('ctx_medium', networks['context']),
        seeded('ctx_large', whole),
    )
    return naive


@pytest.fixture(scope='module')
def naive(data, convert, build_naive):
    return naive_of(build_naive, data, convert.networks[data])


@pytest.mark.parametrize('size', [(60, 76), (93, 65)])
def test_naive_build_agrees(model, naive, size):
    views = dict(local=image(4, 2, size), medium=image(5), large=image(6, 1))
    with torch.no_grad():
        found = model.encode_decode(views, [meta(size)] * 2)
        expected = naive(**views)
    torch.testing.assert_close(found, expected, rtol=0, atol=LOGITS)


def patches(image, corners, side, factors):
    """Views of an RGB image, cut and shrunk as the authors do."""
    views = {name: [] for name in ('local', *factors)}
    for y, x in corners:
        views['local'].append(image[y : y + side, x : x + side])
        for name, factor in factors.items():
            pad = (factor - 1) * side // 2
            padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
            view = padded[y : y + factor * side, x : x + factor * side]
            view = Image.fromarray(view).resize((side, side), Image.BILINEAR)
            views[name].append(np.asarray(view))
    return views


def merged_logits(model, views, corners, shape):
    """Sum the logits of a list of windows, preprocessed by the model."""
    side = views['local'][0].shape[0]
    canvas = torch.zeros(model.decode_head.num_classes, *shape).double()
    for index, (y, x) in enumerate(corners):
        # The preprocessor wants blue first, as pipelines read it.
        pixels = {
            name: torch.from_numpy(view[index][..., ::-1].copy())
            for name, view in views.items()
        }
        inputs = {name: x.permute(2, 0, 1) for name, x in pixels.items()}
        batch = dict(inputs=[inputs], data_samples=[SegDataSample()])
        inputs = model.data_preprocessor(batch)['inputs']
        size = (side, side)
        with torch.no_grad():
            logits = model.encode_decode(inputs, [meta(size)])
        canvas[:, y : y + side, x : x + side] += logits[0]
    return canvas


def test_merged_image(model, arrays, data):
    """A whole image as the authors' evaluator does it."""
    if data == 'deepglobe':
        pytest.skip('the stored image is of the other network')
    image = arrays['pipe.image_80x72']
    corners = arrays['pipe.grid_80x72_p64'].tolist()
    factors = dict(medium=2, large=3)
    views = patches(image, corners, 64, factors)
    for name, factor in factors.items():
        stored = arrays[f'pipe.context_x{factor}_patches_0_3_5']
        found = np.stack([views[name][i] for i in (0, 3, 5)])
        assert abs(found.astype(int) - stored).max() <= 1
    logits = merged_logits(model, views, corners, image.shape[:2])
    close(logits, arrays['pipe.merged_logits_80x72'], LOGITS)
    labels = logits.argmax(dim=0).numpy()
    np.testing.assert_array_equal(labels, arrays['pipe.pred_80x72'])
    counts = confusion_matrix(labels, image_labels(), 2)
    np.testing.assert_array_equal(counts, arrays['pipe.confusion_80x72'])


def image_labels():
    """Labels of the stored image, by the recipe."""
    seeded = torch.Generator().manual_seed(31)
    return torch.randint(0, 2, (80, 72), generator=seeded)


@pytest.mark.slow
def test_training_step_of_an_image(model, arrays, data):
    """Gradients of batches of four and two windows, added up.

    In float64: in float32, rounding of the unscaled products moves four of
    the norms by up to 0.4 percent.
    """
    if data == 'deepglobe':
        pytest.skip('the stored image is of the other network')
    image, side = arrays['pipe.image_80x72'], 64
    corners = arrays['pipe.grid_80x72_p64'].tolist()
    views = patches(image, corners, side, dict(medium=2, large=3))
    views = {
        name: torch.from_numpy(np.stack(view)).permute(0, 3, 1, 2).double()
        for name, view in views.items()
    }
    labels = image_labels()
    dropout = model.decode_head.dropout
    model.zero_grad()
    model.double().train()
    dropout.p = 0.0
    losses = []
    try:
        for part in (slice(0, 4), slice(4, 6)):
            batch = [
                SegDataSample(
                    gt_sem_seg=PixelData(
                        data=labels[None, y : y + side, x : x + side]
                    )
                )
                for y, x in corners[part]
            ]
            inputs = {name: view[part] / 255 for name, view in views.items()}
            loss = model.loss(inputs, batch)['decode.loss_focal']
            loss.backward()
            losses.append(loss.item())
        norms = gradient_norms(model, arrays['pipe.train_grad_names'])
    finally:
        model.zero_grad()
        dropout.p = 0.5
        model.float().eval()
    np.testing.assert_allclose(
        losses, arrays['pipe.train_sub_losses'], rtol=1e-5
    )
    np.testing.assert_allclose(
        norms, arrays['pipe.train_grad_norms'], rtol=1e-3, atol=1e-6
    )


def test_streamed_image(model, arrays, data):
    """The same from a raster: windows, contexts and sums of the tile loop."""
    if data == 'deepglobe':
        pytest.skip('the stored image is of the other network')
    side = (64, 64)
    image = arrays['pipe.image_80x72'][..., ::-1].copy()
    windows = dict(crop_size=side, stride=(14, 14), batch_size=4)
    views, test_cfg = model.views, model.test_cfg
    model.views = {
        name: view if name == 'local' else replace(view, size=side)
        for name, view in views.items()
    }
    model.test_cfg = dict(test_cfg, **windows)
    try:
        rows = [rows.labels for rows in model.stream(image)]
    finally:
        model.views, model.test_cfg = views, test_cfg
    expected = arrays['pipe.pred_80x72']
    np.testing.assert_array_equal(torch.cat(rows).numpy(), expected)


def test_naive_build_of_an_image(naive, arrays, data):
    if data == 'deepglobe':
        pytest.skip('the stored image is of the other network')
    found = naive.predict_logits(arrays['pipe.image_80x72'], patch=64)
    expected = arrays['pipe.merged_logits_80x72']
    np.testing.assert_allclose(found, expected, rtol=0, atol=LOGITS)
    starts = sys.modules[type(naive).__module__].starts
    for name in arrays:
        if name.startswith('pipe.grid_'):
            shape, patch = name.split('_')[1:]
            height, width = map(int, shape.split('x'))
            found = [
                (y, x)
                for y in starts(height, int(patch[1:]))
                for x in starts(width, int(patch[1:]))
            ]
            np.testing.assert_array_equal(found, arrays[name])


@pytest.mark.parametrize('gamma', [0, 2, 3])
def test_focal_loss(arrays, data, gamma):
    shape = (2, CLASSES[data], 4, 5)
    seeded = torch.Generator().manual_seed
    logits = 3 * torch.randn(shape, generator=seeded(20))
    labels = torch.randint(0, shape[1], (2, 4, 5), generator=seeded(21))
    loss = SoftmaxFocalLoss(gamma=gamma)(logits, labels)
    expected = arrays[f'focal_g{gamma}'][0]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_bilinear_kernels(golden):
    arrays = golden.arrays('fctl')
    for size in (4, 16):
        kernel = bilinear_kernel(2, size)
        np.testing.assert_array_equal(
            kernel[0, 0].numpy(), arrays[f'I.bilinear_k{size}']
        )
        assert kernel[0, 1].abs().max() == 0


# What follows needs no weights of the reference.


def tiny_encoder(width=4, **options):
    return dict(type='mmseg_uhr.VGGFCN', channels=(width,) * 5, **options)


@pytest.mark.parametrize(
    'size', [(60, 76), (33, 200), (300, 31), (257, 509)], ids=str
)
def test_borders_that_are_not_computed(size):
    """Predictions leave out what no window changes; training does not."""
    model = MODELS.build(tiny_encoder()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x = image(0, 2, size)
    expected = model(x)
    with torch.no_grad():
        found = model(x)
    for a, b in zip(found, expected):
        scale = b.abs().max().item()
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * scale)


def test_torchvision_weights_load_as_they_are(tmp_path):
    """Named and shaped as torchvision's VGG-16, with fewer channels."""
    head = dict(
        type='mmseg_uhr.FCN8sHead',
        in_channels=(4, 4, 4),
        channels=6,
        num_classes=3,
    )
    encoder = MODELS.build(tiny_encoder())
    state = {}
    index = 0
    for stage in encoder.stages:
        for conv in stage:
            for leaf, value in conv.named_parameters():
                state[f'features.{index}.{leaf}'] = torch.randn_like(value)
            index += 2
        index += 1
    state['classifier.0.weight'] = torch.randn(6, 4 * 49)
    state['classifier.3.weight'] = torch.randn(6, 6)
    for layer in (0, 3):
        state[f'classifier.{layer}.bias'] = torch.randn(6)
    path = tmp_path / 'vgg16.pth'
    torch.save(state, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    encoder = MODELS.build(tiny_encoder(init_cfg=init_cfg))
    encoder.init_weights()
    head = MODELS.build(dict(head, init_cfg=init_cfg))
    head.init_weights()
    torch.testing.assert_close(
        encoder.stages[4][2].weight.detach(), state['features.28.weight']
    )
    torch.testing.assert_close(
        head.conv6.weight.detach().flatten(1), state['classifier.0.weight']
    )
    torch.testing.assert_close(
        head.conv7.bias.detach(), state['classifier.3.bias']
    )


def encoder_of(**options):
    return MODELS.build(
        dict(
            type='mmseg_uhr.LocalContextEncoder',
            local=tiny_encoder(),
            **options,
        )
    )


def test_contexts_are_encoded_once():
    encoder = encoder_of(contexts=dict(scene=tiny_encoder()), frozen=True)
    calls = []
    encoder.contexts['scene'].register_forward_hook(
        lambda module, args, out: calls.append(len(args[0]))
    )
    local, scene = image(0, 3, (40, 40)), image(1, 1, (40, 40))
    with torch.no_grad():
        *_, first = encoder(dict(local=local, scene=scene))
        *_, expanded = encoder(
            dict(local=local, scene=scene.expand(3, -1, -1, -1))
        )
        assert calls == [1, 1]
        encoded = encoder.encode_context('scene', scene)
        *_, last = encoder(dict(local=local, scene=encoded))
    assert calls == [1, 1, 1]
    assert torch.equal(first.features, last.features)
    assert torch.equal(first.features, expanded.features)
    boxes = torch.rand(3, 4)
    inputs = dict(local=local, scene=encoded, view_boxes=dict(scene=boxes))
    *_, placed = encoder(inputs)
    assert placed.box is boxes
    assert placed.features is encoded.features


def test_frozen_contexts_stay_as_they_are():
    encoder = encoder_of(contexts=dict(medium=tiny_encoder()), frozen=True)
    encoder.train()
    assert encoder.local.training
    assert not encoder.contexts['medium'].training
    views = dict(local=image(0, 1, (40, 40)), medium=image(1, 1, (40, 40)))
    *maps, context = encoder(views)
    assert all(x.requires_grad for x in maps)
    assert not context.features.requires_grad
    trained = [n for n, p in encoder.named_parameters() if p.requires_grad]
    assert all(name.startswith('local.') for name in trained)


def test_shared_encoder_gives_the_same_together_and_alone():
    encoder = encoder_of(contexts=('medium',), share=True)
    assert not list(encoder.contexts.parameters())
    views = dict(local=image(0, 2, (40, 40)), medium=image(1, 2, (40, 40)))
    together = encoder.train()(views)
    alone = encoder.eval()(views)
    torch.testing.assert_close(together[2], alone[2])
    torch.testing.assert_close(together[3].features, alone[3].features)


def test_wrong_encoders_are_explained():
    with pytest.raises(ValueError, match='choose one of the two'):
        encoder_of(contexts=('medium',), share=True, frozen=True)
    with pytest.raises(ValueError, match='expected names with share=True'):
        encoder_of(contexts=('medium',))
    with pytest.raises(ValueError, match='rename the context'):
        encoder_of(contexts=('local',), share=True)
    encoder = encoder_of(contexts=('medium',), share=True)
    with pytest.raises(ValueError, match=r"not \['medium'\]"):
        encoder(image(0))


def test_converter_tells_what_is_wrong(tmp_path, convert):
    network = convert.networks['inria']['phase1']
    state = seeded('phase1', network)
    state['pool4.2.bias'] = state['pool4.2.bias'] + 1
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(state, source)
    with pytest.raises(SystemExit, match='has been changed'):
        run_converter(source, target)
    torch.save(dict(backbone=torch.zeros(1)), source)
    with pytest.raises(SystemExit, match='unknown parameters backbone'):
        run_converter(source, target)
    assert not target.exists()


@pytest.mark.parametrize('context', ['medium', 'large'])
def test_second_phase(data, convert, context):
    if context == 'large' and data == 'deepglobe':
        return
    config = config_of(data, f'phase2-{context}')
    state = convert(data, 'phase2', options=('--context', context))
    model = MODELS.build(config)
    model.load_state_dict(state, strict=True)
    model.eval()
    views = dict(local=image(0, 1), **{context: image(1, 1)})
    with torch.no_grad():
        pool3, pool4, pool5, there = model.extract_feat(views)
        fusion = model.decode_head.fusion
        read = fusion.correlations[context](pool5, there.features)
        torch.testing.assert_close(fusion(pool5, [there]), pool5 + read)
        torch.testing.assert_close(
            there.features, model.backbone.local(views[context])[2]
        )


def test_phases_hand_on_their_weights(tmp_path):
    """Prefixes and names by which a phase loads the one before."""
    first = encoder_of()
    path = tmp_path / 'phase2.pth'
    weights = {f'backbone.{k}': v for k, v in first.state_dict().items()}
    torch.save(dict(state_dict=weights), path)
    init_cfg = dict(
        type='Pretrained', prefix='backbone.local.', checkpoint=str(path)
    )
    third = encoder_of(
        contexts=dict(medium=tiny_encoder(init_cfg=init_cfg)), frozen=True
    )
    third.init_weights()
    for a, b in zip(
        first.local.parameters(), third.contexts['medium'].parameters()
    ):
        assert torch.equal(a, b)


def test_configs_build_and_agree_on_views():
    for path in sorted(CONFIGS.glob('*.py')):
        config = Config.fromfile(path)
        with torch.device('meta'):
            model = MODELS.build(config.model)
        assert tuple(model.views) == ('local', *model.backbone.names), path
        pipeline = config.train_dataloader.dataset.pipeline
        (read,) = [t for t in pipeline if t.type == 'mmseg_uhr.ReadViews']
        assert parse_views(read.get('views')) == model.views, path
        size = config.model.data_preprocessor.size
        assert f'{size[0]}x{size[1]}' in path.stem


@pytest.fixture
def trainable(tiny_cfg, tmp_path):
    """Path: the narrow network on the tests' own scenes, a few steps."""
    name = 'fctl-fpn_r18-w16_5min_bluemarble-192x192.py'
    config = Config.fromfile(CONFIGS / name)
    for key in (
        *('val_dataloader', 'test_dataloader', 'val_evaluator'),
        *('test_evaluator', 'param_scheduler'),
    ):
        config[key] = tiny_cfg[key]
    pipeline = config.train_dataloader.dataset.pipeline
    config.train_dataloader = tiny_cfg.train_dataloader
    config.train_dataloader.dataset.pipeline = pipeline
    views = dict(
        large=dict(region=3, size=(64, 64)),
        scene=dict(region='scene', size=(64, 96)),
    )
    for transform in pipeline:
        if transform.type == 'mmseg_uhr.RandomWindow':
            transform.crop_size = (64, 64)
        if transform.type == 'mmseg_uhr.ReadViews':
            transform.views = views
    model = config.model
    model.data_preprocessor.size = (64, 64)
    model.views = views
    model.backbone.contexts = model.neck.fusion.contexts = tuple(views)
    model.decode_head.num_classes = 3
    model.test_cfg = dict(
        mode='stream', crop_size=(64, 64), stride=(48, 48), batch_size=2
    )
    config.custom_hooks = []
    config.train_cfg.update(max_iters=4, val_interval=4)
    config.default_hooks.logger.interval = 1
    path = tmp_path / 'fctl.py'
    config.dump(path)
    return path


def check_run(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 4
    assert all(loss == loss and loss < 100 for loss in losses)
    assert 0 <= lines[-1]['mIoU'] <= 100


def test_trains_and_tests_with_the_tools(trainable, tmp_path, run_tool):
    work_dir = tmp_path / 'train'
    run_tool('train.py', trainable, '--work-dir', work_dir)
    check_run(work_dir)
    run_tool(
        *('test.py', trainable, work_dir / 'iter_4.pth'),
        *('--work-dir', tmp_path / 'test'),
    )
    (scores,) = (tmp_path / 'test').glob('*/*.json')
    assert 0 <= json.loads(scores.read_text())['mIoU'] <= 100


def test_two_processes_train(trainable, tmp_path, run_script):
    work_dir = tmp_path / 'two'
    run_script(
        *('dist_train.sh', trainable, 2, '--work-dir', work_dir),
        cwd=tmp_path,
    )
    check_run(work_dir)


@pytest.mark.parametrize('label', [None, 255], ids=['all', 'none'])
def test_every_trained_parameter_gets_a_gradient(data, label):
    """DDP waits for every gradient in every step."""
    config = config_of(data, 'phase3')
    config.backbone.local = tiny_encoder()
    for name in config.backbone.contexts:
        config.backbone.contexts[name] = tiny_encoder()
    config.decode_head.update(in_channels=(4, 4, 4), channels=8)
    config.decode_head.fusion.channels = 4
    model = MODELS.build(config).train()
    views = dict(local=image(0), medium=image(1), large=image(2))
    targets = samples(data)
    if label is not None:
        for target in targets:
            target.gt_sem_seg.data.fill_(label)
    loss = model.loss(views, targets)['decode.loss_focal']
    assert loss.isfinite()
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        else:
            assert name.startswith('backbone.contexts.')

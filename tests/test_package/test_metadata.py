"""What the distribution says about itself."""

import ast
from pathlib import Path

import pytest

import mmseg_uhr

ROOT = Path(__file__).resolve().parents[2]

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = pytest.importorskip('pip._vendor.tomli')


@pytest.fixture(scope='module')
def project():
    with open(ROOT / 'pyproject.toml', 'rb') as file:
        return tomllib.load(file)['project']


def test_distribution_is_not_named_like_the_module(project):
    # MMEngine would look for configs beside the distribution, not the module.
    assert project['name'] == 'mmsegmentation-uhr'
    assert project['name'].replace('-', '_') != mmseg_uhr.__name__


def test_extras_choose_the_stack(project):
    core = ' '.join(project['dependencies'])
    assert 'mmseg' not in core
    assert 'mmcv' not in core
    extras = project['optional-dependencies']
    assert {'onedl', 'openmmlab', 'tests', 'docs', 'tracking'} <= set(extras)
    assert any(r.startswith('onedl-mmsegmentation') for r in extras['onedl'])
    assert not any('onedl' in r for r in extras['openmmlab'])
    assert 'setuptools<82' in extras['openmmlab']


def test_importing_registers_every_kind_of_type():
    from mmseg_uhr import registry

    assert 'UHREncoderDecoder' in registry.MODELS
    assert 'LoadRaster' in registry.TRANSFORMS
    assert 'UHRDataset' in registry.DATASETS
    assert 'UHRIoUMetric' in registry.METRICS
    assert 'UHRVisualizationHook' in registry.HOOKS
    kinds = ('MODELS', 'TRANSFORMS', 'DATASETS', 'METRICS', 'HOOKS')
    assert all(getattr(registry, k).scope == 'mmseg_uhr' for k in kinds)


def test_rasters_and_tiling_know_nothing_of_mmseg():
    for package in ('rasters', 'tiling'):
        for path in (ROOT / 'mmseg_uhr' / package).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    modules = [node.module or '']
                else:
                    continue
                roots = {module.split('.')[0] for module in modules}
                assert not roots & {'mmseg', 'mmengine', 'mmcv'}, path


def test_no_config_depends_on_the_stack_s_configs():
    configs = list((ROOT / 'configs').rglob('*.py'))
    assert configs
    for path in configs:
        assert 'mmseg::' not in path.read_text(), path

"""What the distribution says about itself."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from mmengine.fileio import load

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
    extras = project['optional-dependencies']
    # What runs exported networks needs no stack, and no PyTorch.
    for name in ('mmseg', 'mmcv', 'mmengine', 'torch'):
        assert name not in core
        assert name not in ' '.join(extras['onnx'])
        assert name in ' '.join(extras['onedl'])
    assert {'onedl', 'openmmlab', 'tests', 'docs', 'tracking'} <= set(extras)
    assert any(r.startswith('onedl-mmsegmentation') for r in extras['onedl'])
    assert not any('onedl' in r for r in extras['openmmlab'])
    assert 'setuptools<82' in extras['openmmlab']


def test_the_command_is_the_tool(project):
    module, name = project['scripts']['mmseg-uhr-segment'].split(':')
    main = getattr(importlib.import_module(module), name)
    tool = (ROOT / 'tools' / 'segment.py').read_text()
    assert f'from {main.__module__} import {name}' in tool


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


DATA_SETS = {
    'deepglobe': 'DeepGlobe',
    'inria': 'Inria Aerial',
    'cityscapes': 'Cityscapes',
    'urur': 'URUR',
    'bluemarble': 'Blue Marble',
}
# Stock's names, the field's single class, and what tables print beside them.
METRICS = {
    'mIoU',
    'mFscore',
    'aAcc',
    'IoU (building)',
    'IoU (background)',
    'FPS',
    'Memory (MB)',
}


@pytest.fixture(scope='module')
def metafiles():
    paths = load(ROOT / 'model-index.yml')['Import']
    return {path: load(ROOT / path) for path in paths}


def check_results(results):
    """Results are complete, and no number is without a source."""
    for result in results:
        assert result['Task'] == 'Semantic Segmentation'
        assert result['Dataset'] in DATA_SETS.values()
        assert set(result['Metrics']) <= METRICS
        assert all(value > 0 for value in result['Metrics'].values())
        assert result['Protocol']
        assert result['Source']
        if 'Config' in result:
            assert (ROOT / result['Config']).is_file()


def test_metafiles_name_collections_and_configs(metafiles):
    for path, metafile in metafiles.items():
        names = [one['Name'] for one in metafile['Collections']]
        assert len(set(names)) == len(names)
        used = {model['In Collection'] for model in metafile['Models']}
        assert used == set(names), path
        for collection in metafile['Collections']:
            assert (ROOT / collection['README']).is_file()
            assert collection['Paper']['Title']
        for model in metafile['Models']:
            config = ROOT / model['Config']
            assert config.is_file()
            assert config.stem == model['Name']
            assert config.parent == (ROOT / path).parent
            data = re.search(r'_([a-z]+)-\d+x\d+', config.stem)[1]
            assert model['Metadata']['Training Data'] == DATA_SETS[data]


def test_published_numbers_are_marked_and_have_a_source(metafiles):
    """They stand beside the method, never as results of a config of ours."""
    for metafile in metafiles.values():
        for collection in metafile['Collections']:
            assert 'Results' not in collection
            published = collection.get('Published Results', [])
            check_results(published)
            for result in published:
                kind = result['Read In'].split(':')[0]
                assert kind in ('the primary source', 'a secondary source')


def test_our_numbers_are_those_of_our_pages(metafiles):
    for metafile in metafiles.values():
        for model in metafile['Models']:
            results = model.get('Results', [])
            check_results(results)
            for result in results:
                assert result['Protocol'].startswith('ours: ')
                page = (ROOT / result['Source']).read_text(encoding='utf-8')
                for number in result['Metrics'].values():
                    pattern = rf'(?<![\d.]){re.escape(str(number))}(?!\.?\d)'
                    assert re.search(pattern, page), (model['Name'], number)


def test_model_index_loads_with_its_package(metafiles):
    index = pytest.importorskip('modelindex').load(
        str(ROOT / 'model-index.yml')
    )
    models = [one for file in metafiles.values() for one in file['Models']]
    assert [model.name for model in index.models] == [
        model['Name'] for model in models
    ]
    for model, written in zip(index.models, models, strict=True):
        results = written.get('Results', [])
        assert [dict(one.metrics) for one in model.results or []] == [
            one['Metrics'] for one in results
        ]
    # Like stock's, paths of READMEs start at the root, where MIM looks for
    # them; the package looks beside the metafile.
    problems = index.check(silent=True)
    assert all('Path to README file' in problem for problem in problems)

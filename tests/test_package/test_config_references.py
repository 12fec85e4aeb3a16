"""``mmseg_uhr::`` references, however the package is installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.hub import get_config

import mmseg_uhr

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = 'mmseg_uhr::_base_/default_runtime.py'
# Puts a folder before all others and heeds its editable installs, which Python
# does not do for PYTHONPATH. This tree's own, if there is one, is forgotten.
ENTER = """
import site, sys
for name in [name for name in sys.modules if name.startswith('__editable__')]:
    del sys.modules[name]
    sys.meta_path[:] = [
        f for f in sys.meta_path if getattr(f, '__module__', '') != name]
sys.path.insert(0, sys.argv[1])
site.addsitedir(sys.argv[1])
"""
# Prints where the package is and resolves a reference, from anywhere.
PROBE = f"""
import mmseg_uhr
from mmengine.hub import get_config
assert get_config({REFERENCE!r}).default_scope == 'mmseg'
print(mmseg_uhr.__path__[0])
"""


def test_links_lead_to_the_tree():
    package = Path(mmseg_uhr.__path__[0])
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (package / '.mim' / name).exists()
    if package.parent == ROOT:
        for name in ('configs', 'tools', 'model-index.yml'):
            link = package / '.mim' / name
            assert link.is_symlink()
            assert not os.path.isabs(os.readlink(link))


def test_reference_works_as_base(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = [{REFERENCE!r}]\nlog_level = "ERROR"\n')
    cfg = Config.fromfile(path)
    assert cfg.default_scope == 'mmseg'
    assert cfg.log_level == 'ERROR'


def test_every_config_loads():
    configs = sorted(
        path
        for path in (ROOT / 'configs').rglob('*.py')
        if '_base_' not in path.parts
    )
    for path in configs:
        name = path.relative_to(ROOT / 'configs').as_posix()
        cfg = get_config(f'mmseg_uhr::{name}')
        assert cfg.default_scope == 'mmseg', name
        assert cfg.custom_imports['imports'] == ['mmseg_uhr'], name
        # MMEngine cuts the name of a reference at its first dot.
        assert '.' not in path.stem, name


def test_index_names_every_metafile_and_config():
    index = load(ROOT / 'model-index.yml')['Import']
    metafiles = (ROOT / 'configs').rglob('metafile.y*ml')
    assert index == sorted(p.relative_to(ROOT).as_posix() for p in metafiles)
    named = [m['Config'] for i in index for m in load(ROOT / i)['Models']]
    configs = (
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / 'configs').rglob('*.py')
        if '_base_' not in path.parts
    )
    assert sorted(named) == sorted(configs)


def run_probe(site, cwd):
    """Run PROBE as if ``site`` were the site-packages; returns its answer."""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', ENTER + PROBE, str(site)],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip().splitlines()[-1])


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """A copy of what a clone has, to build from without a trace."""
    folder = tmp_path_factory.mktemp('sources')
    for name in ('mmseg_uhr', 'configs', 'tools'):
        shutil.copytree(
            ROOT / name,
            folder / name,
            symlinks=True,
            ignore=shutil.ignore_patterns('__pycache__'),
        )
    for name in (
        'setup.py',
        'pyproject.toml',
        'MANIFEST.in',
        'model-index.yml',
        'README.md',
        'LICENSE',
        'CHANGELOG.md',
    ):
        shutil.copy(ROOT / name, folder)
    return folder


def pip(*arguments):
    result = subprocess.run(
        [sys.executable, '-m', 'pip', '--disable-pip-version-check']
        + [str(a) for a in arguments],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_wheel(sources, tmp_path):
    pip(
        *('wheel', '--no-deps', '--no-build-isolation', '--no-index'),
        *('--wheel-dir', tmp_path, sources),
    )
    (wheel,) = tmp_path.glob('mmsegmentation_uhr-*.whl')
    target = tmp_path / 'site'
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(target)
    assert 'mmseg_uhr/.mim/tools/train.py' in names
    assert 'mmseg_uhr/.mim/tools/dist_train.sh' in names
    splits = ROOT / 'mmseg_uhr' / 'datasets' / 'splits'
    for path in splits.glob('*.txt'):
        assert f'mmseg_uhr/datasets/splits/{path.name}' in names
    for path in (ROOT / 'configs').rglob('*.py'):
        inside = path.relative_to(ROOT).as_posix()
        assert f'mmseg_uhr/.mim/{inside}' in names
    assert not any('__pycache__' in name for name in names)
    assert run_probe(target, tmp_path) == target / 'mmseg_uhr'


def test_editable(sources, tmp_path):
    pip(
        *('install', '--no-deps', '--no-build-isolation', '--no-index'),
        *('--target', tmp_path / 'site', '--editable', sources),
    )
    found = run_probe(tmp_path / 'site', tmp_path)
    assert found == sources / 'mmseg_uhr'


def test_source_tree(sources, tmp_path):
    assert run_probe(sources, tmp_path) == sources / 'mmseg_uhr'

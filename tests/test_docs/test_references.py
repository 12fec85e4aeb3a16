"""What the documentation names exists, and figures are up to date."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import mmseg.registry
import pytest
from mmengine.registry import Registry

import mmseg_uhr  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r'`([^`\n]+)`')
FILE = re.compile(r'(?:configs|tools|tests|docs|mmseg_uhr)/[\w./*-]*')
NAME = re.compile(r'mmseg_uhr(?:\.\w+)+')


def names_type(name: str) -> bool:
    """Whether a dotted name is a registered type, or a module's attribute."""
    registries = (
        value
        for value in vars(mmseg.registry).values()
        if isinstance(value, Registry)
    )
    if any(registry.get(name) is not None for registry in registries):
        return True
    module, _, attribute = name.rpartition('.')
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return hasattr(found, attribute)


def test_files_exist(page):
    text = re.sub(r'```.*?```', '', page.path.read_text(), flags=re.DOTALL)
    words = (word for code in CODE.findall(text) for word in code.split())
    for word in words:
        # Capitals stand for what the reader puts there.
        placeholder = re.search('[A-Z]{4}', word.replace('README', ''))
        if FILE.fullmatch(word) and not placeholder:
            assert list(ROOT.glob(word.rstrip('/'))), word


def test_names_exist(page):
    # Names of methods of types are checked up to the type.
    for name in set(NAME.findall(page.path.read_text())):
        assert names_type(name) or names_type(name.rpartition('.')[0]), name


def test_figures_are_up_to_date(monkeypatch):
    folder = ROOT / 'docs' / 'figures'
    monkeypatch.syspath_prepend(folder)
    drawing = runpy.run_path(str(folder / 'draw.py'))
    for name, figure in drawing['FIGURES'].items():
        file = drawing['OUT'] / f'{name}.svg'
        assert file.read_text() == drawing['draw'](*figure), (
            f'{file} is old: run python docs/figures/draw.py'
        )
    sys.modules.pop('figures', None)


def test_pages_are_in_the_navigation(pages):
    navigation = (ROOT / 'mkdocs.yml').read_text()
    docs = ROOT / 'docs' / 'en'
    for page in pages:
        if page.path.suffix == '.md' and docs in page.path.parents:
            name = page.path.relative_to(docs).as_posix()
            assert f': {name}\n' in navigation, name


@pytest.mark.parametrize(
    'name, exists',
    [
        ('mmseg_uhr.HGNHead', True),
        ('mmseg_uhr.apis.init_segmentor', True),
        ('mmseg_uhr.NoSuchHead', False),
    ],
)
def test_names_are_told_apart(name, exists):
    assert names_type(name) is exists

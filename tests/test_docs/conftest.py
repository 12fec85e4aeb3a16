"""Pages of the documentation, taken apart into blocks of code.

HTML comments before a block say what the tests do with it; readers do not
see them:

``<!-- not run: reason -->``
    The block is left alone.
``<!-- run -->`` or ``<!-- run: --cfg-options train_cfg.max_iters=2 -->``
    The commands of a shell block are run, with these options added.
``<!-- config: configs/hgn/X.py -->``
    A config snippet is merged onto this config instead of the tiny one.

``<!-- setup: code -->`` runs Python code that the reader need not see. A
Python block with ``title="FILE.py"`` is written to that file.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs' / 'en'
PARTS = re.compile(
    r'^<!-- setup:\n(?P<setup>.*?)-->$'
    r'|(?:^<!-- (?P<mark>not run|run|config)(?::\s(?P<note>[^>]*?))?\s-->\n+)?'
    r'^(?P<indent> *)```(?P<language>\w+)(?P<options>[^\n]*)\n'
    r'(?P<code>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Block:
    """A block of code.

    Args:
        language (str): ``'python'``, ``'bash'``, ...
        code (str): Without indentation.
        line (int): Of the page, of the code's first line.
        mark (str, optional): ``'not run'``, ``'run'`` or ``'config'``.
        note (str): What the mark says.
        title (str, optional): File that the block is.
    """

    language: str
    code: str
    line: int
    mark: str | None = None
    note: str = ''
    title: str | None = None


@dataclass
class Page:
    """A page: where it is and its blocks, in order."""

    path: Path
    blocks: list[Block]


def blocks_of_text(text: str) -> list[Block]:
    """Take a Markdown text apart."""
    blocks = []
    for found in PARTS.finditer(text):
        if found['setup']:
            line = text.count('\n', 0, found.start('setup')) + 1
            blocks.append(Block('setup', found['setup'], line))
            continue
        indent = len(found['indent'])
        lines = found['code'].splitlines()
        title = re.search(r'title="([^"]+)"', found['options'])
        blocks.append(
            Block(
                found['language'],
                '\n'.join(line[indent:] for line in lines) + '\n',
                text.count('\n', 0, found.start('code')) + 1,
                found['mark'],
                ' '.join((found['note'] or '').split()),
                title and title[1],
            )
        )
    return blocks


def blocks_of_notebook(text: str) -> list[Block]:
    """Take the cells of a notebook."""
    return [
        Block('cell', ''.join(cell['source']) + '\n', 1)
        for cell in json.loads(text)['cells']
        if cell['cell_type'] == 'code'
    ]


def read_page(path: Path) -> Page:
    """Read a page or a notebook."""
    text = path.read_text()
    if path.suffix == '.ipynb':
        return Page(path, blocks_of_notebook(text))
    return Page(path, blocks_of_text(text))


PAGES = [
    ROOT / 'README.md',
    *sorted(DOCS.rglob('*.md')),
    *sorted(DOCS.rglob('*.ipynb')),
    *sorted((ROOT / 'configs').rglob('README.md')),
]


@pytest.fixture(
    params=PAGES, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def page(request):
    """Page: each page of the documentation in turn."""
    return read_page(request.param)


@pytest.fixture(scope='session')
def pages():
    """list[Page]: all pages."""
    return list(map(read_page, PAGES))


@pytest.fixture(scope='session')
def page_of():
    """Callable: ``page_of(text)`` makes a page of a Markdown text."""
    return lambda text: Page(ROOT / 'none.md', blocks_of_text(text))

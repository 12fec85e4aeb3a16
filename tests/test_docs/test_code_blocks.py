"""Code in the documentation does what the pages say.

The blocks of a page run in order, in one namespace and one folder. The folder
has ``scene.tif``, ``scenes/`` and the clone's ``configs`` and ``tools``;
``config`` and ``checkpoint`` are a tiny trained network.
"""

import argparse
import ast
import inspect
import re
import runpy
import shlex
import sys
from pathlib import Path

import mmseg.registry
import pytest
from mmengine.config import Config
from mmengine.registry import Registry, init_default_scope
from mmseg.registry import HOOKS, METRICS, MODELS, TRANSFORMS

from mmseg_uhr.memory import WithoutValues

ROOT = Path(__file__).resolve().parents[2]
REGISTRIES = [
    value
    for value in vars(mmseg.registry).values()
    if isinstance(value, Registry)
]
# Keys that registries and ``build_norm_layer`` take for themselves.
BUILDERS_KEYS = {'type', '_delete_', '_scope_', 'requires_grad'}
# How many arguments of a shell script stand before those of the Python tool,
# and where the number of processes stands among the latter.
SCRIPTS = {
    'dist_train.sh': ('train.py', 0, 1),
    'dist_test.sh': ('test.py', 0, 2),
    'dist_segment.sh': ('segment.py', 0, 2),
    'slurm_train.sh': ('train.py', 2, None),
    'slurm_test.sh': ('test.py', 2, None),
}


class ParsedError(Exception):
    """A tool has understood its arguments."""


def type_of(name: str) -> type | None:
    """Find a registered type as a config of ours would."""
    for registry in REGISTRIES:
        found = registry.get(name)
        if found is not None:
            return found
    return None


def typed_dicts(value):
    """Yield all dicts with a type, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield value
        value = value.values()
    if not isinstance(value, str) and hasattr(value, '__iter__'):
        for item in value:
            yield from typed_dicts(item)


def check_arguments(typed: dict) -> None:
    """A type exists and it, or a base, takes the arguments of a config."""
    kind = type_of(typed['type'])
    assert kind is not None, f'no type {typed["type"]}'
    bases = kind.__mro__ if inspect.isclass(kind) else [kind]
    parameters = {
        name for base in bases for name in inspect.signature(base).parameters
    }
    unknown = set(typed) - parameters - BUILDERS_KEYS
    assert not unknown, f'{typed["type"]} does not take {sorted(unknown)}'


def check_config(cfg: Config, snippet: dict) -> None:
    """What a snippet names in a whole config exists and can be built."""
    init_default_scope('mmseg')
    for key, value in snippet.items():
        if key == 'model':
            with WithoutValues():
                MODELS.build(cfg.model)
            continue
        for typed in typed_dicts(value):
            check_arguments(typed)
        if key.endswith('_pipeline'):
            for transform in value:
                TRANSFORMS.build(transform)
        elif key.endswith('_evaluator'):
            for metric in value if isinstance(value, list) else [value]:
                METRICS.build(metric)
        elif key == 'custom_hooks':
            for hook in value:
                HOOKS.build(hook)


def is_config(code: str) -> bool:
    """Whether Python code only assigns data, as configs do."""
    tree = ast.parse(code)
    return all(isinstance(n, ast.Assign) for n in tree.body) and all(
        isinstance(n.func, ast.Name) and n.func.id == 'dict'
        for n in ast.walk(tree)
        if isinstance(n, ast.Call)
    )


def names(code: str, context: type) -> set[str]:
    """Names that are stored, or loaded, by Python code."""
    return {
        node.id
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Name) and isinstance(node.ctx, context)
    }


def commands(code: str) -> list[list[str]]:
    """Split a shell block into commands and their words."""
    lines = code.replace('\\\n', ' ').splitlines()
    words = (shlex.split(line, comments=True) for line in lines)
    return [command for command in words if command]


def call_tool(script: Path, arguments: list[str]) -> None:
    """Run a Python tool in this process."""
    saved = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))  # as Python does
    try:
        runpy.run_path(str(script), run_name='__main__')
    except SystemExit as error:
        if error.code:
            raise RuntimeError(f'{sys.argv} ends: {error}') from error
    finally:
        sys.argv, sys.path[:] = saved


class Runner:
    """Runs the blocks of a page in order.

    Args:
        config (Path): Of the tiny network.
        checkpoint (Path): Of the tiny network.
        scenes (Path): Folder of images and labels.
        monkeypatch: pytest's.
    """

    def __init__(
        self, config: Path, checkpoint: Path, scenes: Path, monkeypatch
    ) -> None:
        self.config = config
        self.monkeypatch = monkeypatch
        self.namespace = {
            '__name__': 'page',
            'config': str(config),
            'checkpoint': str(checkpoint),
            'scenes': scenes,
        }
        self.snippets: list[str] = []

    def run(self, block, page) -> None:
        """Run or check one block."""
        if block.mark == 'not run':
            return
        if block.title:
            path = Path(block.title)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
        if block.language in ('bash', 'shell'):
            for command in commands(block.code):
                self.check_command(command)
                if block.mark == 'run':
                    self.run_command(command + block.note.split())
        elif block.language == 'python' and is_config(block.code):
            self.run_config(block)
        elif block.language in ('setup', 'cell') or (
            block.language == 'python' and not block.title
        ):
            self.execute(block, page)

    def execute(self, block, page) -> None:
        """Run Python code; errors point into the page."""
        lines = '\n' * (block.line - 1)
        code = compile(lines + block.code, str(page.path), 'exec')
        exec(code, self.namespace)

    def run_config(self, block) -> None:
        """Parse a config snippet, merge it, check what becomes of it."""
        source = block.code
        base = block.note if block.mark == 'config' else str(self.config)
        wanted = names(source, ast.Load)
        for earlier in reversed(self.snippets):
            if names(earlier, ast.Store) & wanted:
                source = earlier + source
        self.snippets.append(block.code)
        if '_base_' in wanted - names(source, ast.Store):
            source = f'_base_ = [{base!r}]\n' + source
        path = Path(block.title or 'snippet.py')
        path.write_text(source)
        snippet = cfg = Config.fromfile(path)
        if '_base_' not in names(source, ast.Store):
            cfg = Config.fromfile(base)
            cfg.merge_from_dict(snippet._cfg_dict.to_dict())
        stored = names(source, ast.Store) & set(snippet)
        check_config(cfg, {key: snippet[key] for key in sorted(stored)})

    def check_command(self, command: list[str]) -> None:
        """A command can be given as it stands on the page."""
        while re.match(r'\w+=', command[0]):
            del command[0]
        program, *words = command
        if program == 'pip':
            self.check_pip(words)
            return
        if program == 'export':
            return
        assert words, f'what does {command} do? Mark the block "not run"'
        path = Path(words[0])
        ours = program in ('python', 'bash') and path.suffix in ('.py', '.sh')
        assert ours, f'{command} cannot be checked: mark it "not run"'
        assert path.is_file(), f'there is no {path}'
        for word in words:
            word = word.partition('@')[0]
            if word.startswith(('configs/', 'tools/')) and not re.search(
                '[A-Z]{4}', word
            ):
                assert Path(word).exists(), f'there is no {word}'
        if path.name in SCRIPTS:
            tool, skipped, processes = SCRIPTS[path.name]
            words = words[1 + skipped :]
            if processes is not None:
                del words[processes]
            words = [str(path.with_name(tool)), *words]
        elif program == 'bash' or path.parts[0] != 'tools':
            return
        self.parse(Path(words[0]), words[1:])

    def parse(self, script: Path, arguments: list[str]) -> None:
        """A tool's own parser takes the arguments."""
        parse = argparse.ArgumentParser.parse_args

        def parse_and_stop(*args, **kwargs):
            parse(*args, **kwargs)
            raise ParsedError

        with self.monkeypatch.context() as patch:
            patch.setattr(
                argparse.ArgumentParser, 'parse_args', parse_and_stop
            )
            with pytest.raises(ParsedError):
                call_tool(script, arguments)

    def check_pip(self, words: list[str]) -> None:
        """Extras that are installed exist."""
        project = (ROOT / 'pyproject.toml').read_text()
        for word in words:
            for extras in re.findall(
                r'^(?:mmsegmentation-uhr|\.)\[(.+)\]', word
            ):
                for extra in extras.split(','):
                    assert f'\n{extra} = [' in project, word

    def run_command(self, command: list[str]) -> None:
        """Run a Python script for real; ``$(cat FILE)`` is replaced."""
        program, script, *arguments = (
            re.sub(
                r'\$\(cat (.+)\)', lambda m: Path(m[1]).read_text(), word
            ).strip()
            for word in command
        )
        assert program == 'python', command
        call_tool(Path(script), arguments)


@pytest.fixture
def runner(tmp_path, tiny_config, trained, scenes, monkeypatch):
    """Runner: in a folder of its own."""
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'scenes').symlink_to(scenes / 'images')
    (tmp_path / 'scene.tif').symlink_to(scenes / 'images' / 'a.tif')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return Runner(tiny_config, trained / 'iter_40.pth', scenes, monkeypatch)


def test_blocks_run(page, runner):
    for block in page.blocks:
        try:
            runner.run(block, page)
        except Exception as error:
            place = f'{page.path.relative_to(ROOT)}:{block.line}'
            raise AssertionError(f'{place}: {error}') from error


def test_blocks_left_alone_have_reasons(pages):
    reasons = {
        f'{page.path.name}:{block.line}': block.note
        for page in pages
        for block in page.blocks
        if block.mark == 'not run'
    }
    assert all(len(reason.split()) > 2 for reason in reasons.values()), reasons
    assert len(reasons) <= 12, reasons


def test_blocks_have_languages_that_are_known(page):
    known = {'python', 'bash', 'shell', 'text', 'mermaid', 'setup', 'cell'}
    assert {block.language for block in page.blocks} <= known


@pytest.mark.parametrize(
    'language, code',
    [
        ('bash', 'python tools/train.py CONFIG --no-such-option'),
        ('bash', 'python tools/train.py configs/hgn/no_such_config.py'),
        ('bash', 'python tools/no_such_tool.py'),
        ('bash', 'bash tools/dist_train.sh CONFIG 2 --no-such-option'),
        ('bash', 'pip install "mmsegmentation-uhr[no_such_extra]"'),
        ('bash', 'ls'),
        ('python', "model = dict(test_cfg=dict(mode='stream', blend='no'))"),
        ('python', "custom_hooks = [dict(type='mmseg_uhr.NoSuchHook')]"),
        ('python', "test_evaluator = dict(type='IoUMetric', metrics=3)"),
        ('python', "x = dict(sampler=dict(type='InfiniteSampler', y=1))"),
        ('python', "import mmseg_uhr\nassert mmseg_uhr.__name__ == 'x'"),
    ],
)
def test_wrong_blocks_are_found(language, code, page_of, runner):
    page = page_of(f'```{language}\n{code}\n```\n')
    (block,) = page.blocks
    with pytest.raises((Exception, pytest.fail.Exception)):
        runner.run(block, page)


def test_blocks_are_read_as_marked(page_of):
    first, second, third = page_of(
        '<!-- run: --x 1\n--y 2 -->\n```bash\na \\\n  b\n```\n'
        '    ```python title="f.py"\n    x = 1\n    ```\n'
        '<!-- setup:\ny = 2\n-->\n'
    ).blocks
    assert (first.mark, first.note, first.line) == ('run', '--x 1 --y 2', 4)
    assert commands(first.code) == [['a', 'b']]
    assert (second.code, second.title) == ('x = 1\n', 'f.py')
    assert (third.language, third.code) == ('setup', 'y = 2\n')

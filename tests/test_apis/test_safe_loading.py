"""Checkpoints that carry code, offered to everything that loads one."""

import contextlib
import http.server
import io
import os
import struct
import threading
import zipfile
from functools import partial

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmseg_uhr.apis.checkpoint import CheckpointError, read_checkpoint
from mmseg_uhr.apis.safe_loading import safe_loading
from mmseg_uhr.compat import register_safe_globals

REFUSED = r'carries Python objects.*os\.makedirs.*none was run.*--trust'


class Attack:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.makedirs, (str(self.folder), 0o777, True)


@pytest.fixture
def proof(tmp_path):
    """Path: what exists once an attack has succeeded."""
    return tmp_path / 'proof'


@pytest.fixture
def attack(trained, tmp_path, proof):
    """Path: a checkpoint that fits the tiny config, and attacks."""
    register_safe_globals()
    checkpoint = torch.load(trained / 'iter_20.pth', weights_only=True)
    path = tmp_path / 'iter_20.pth'
    torch.save(dict(checkpoint, gift=Attack(proof)), path)
    return path


def resume(attack):
    (attack.parent / 'last_checkpoint').write_text(str(attack))
    return ['--resume']


def load_from(attack):
    return ['--cfg-options', f'load_from={attack}']


def pretrained(attack):
    return [
        '--cfg-options',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={attack}',
    ]


@pytest.mark.parametrize('way', [resume, load_from, pretrained])
def test_training_runs_no_code(
    way, attack, proof, tiny_config, tmp_path, run_tool
):
    arguments = ['train.py', tiny_config, '--work-dir', tmp_path, *way(attack)]
    with pytest.raises(SystemExit, match=f'train.py: {attack}: .*{REFUSED}'):
        run_tool(*arguments)
    assert not proof.exists()


def test_testing_runs_no_code(attack, proof, tiny_config, tmp_path, run_tool):
    arguments = ['test.py', tiny_config, attack, '--work-dir', tmp_path]
    with pytest.raises(SystemExit, match=f'test.py: {attack}: .*{REFUSED}'):
        run_tool(*arguments)
    assert not proof.exists()
    run_tool(*arguments, '--trust')
    assert proof.exists()


def test_trusted_checkpoints_are_resumed(
    attack, proof, tiny_config, tmp_path, run_tool
):
    run_tool(
        *('train.py', tiny_config, '--work-dir', tmp_path, '--trust'),
        *resume(attack),
        *('--cfg-options', 'train_cfg.max_iters=22'),
    )
    assert proof.exists()
    assert (tmp_path / 'iter_22.pth').exists()


def test_runs_leave_mmengine_as_it_was(monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    schemes, environment = dict(CheckpointLoader._schemes), dict(os.environ)
    with contextlib.suppress(ZeroDivisionError), safe_loading():
        assert CheckpointLoader._schemes != schemes
        raise ZeroDivisionError
    assert CheckpointLoader._schemes == schemes
    assert dict(os.environ) == environment


def test_no_caller_gets_around_it(attack, proof, monkeypatch):
    # Of those who were told to set it when PyTorch became careful.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with safe_loading(), pytest.raises(Exception, match='(?i)weights.only'):
        torch.load(attack, weights_only=False)
    assert not proof.exists()


@pytest.fixture
def address(attack, monkeypatch, tmp_path):
    """str: where the attack can be downloaded."""
    for name in ('TORCH_HOME', 'MMENGINE_HOME', 'XDG_CACHE_HOME'):
        monkeypatch.setenv(name, str(tmp_path / 'cache'))
    handler = partial(
        http.server.SimpleHTTPRequestHandler, directory=str(attack.parent)
    )
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/{attack.name}'
        server.shutdown()


def test_downloads_run_no_code(address, proof):
    with pytest.raises(CheckpointError, match=f'{address}: .*could run any'):
        read_checkpoint(address)
    with safe_loading(), pytest.raises(CheckpointError, match=REFUSED):
        load_checkpoint(nn.Linear(1, 1), address)
    assert not proof.exists()


def crafted(path, code):
    """Write a pickle that reaches ``exec`` through attributes alone.

    It puts an object of its own in the place of ``torch`` in a module whose
    function it may call, and lets that function call ``exec``.
    """

    def text(string):
        data = string.encode()
        return b'X' + struct.pack('<I', len(data)) + data

    def name(module, member):
        return b'c' + f'{module}\n{member}\n'.encode()

    def attribute(owner, member):
        return name('builtins', 'getattr') + owner + text(member) + b'\x86R'

    def holder(member, value):
        buffer = name('mmengine.logging.history_buffer', 'HistoryBuffer')
        return buffer + b')R}(' + text(member) + value + b'ub'

    rebuild = name('torch._utils', '_rebuild_parameter')
    builtins = attribute(name('builtins', 'getattr'), '__self__')
    fake = holder('nn', holder('Parameter', attribute(builtins, 'exec')))
    program = (
        b'\x80\x02'
        + (attribute(rebuild, '__globals__') + text('torch') + fake + b's')
        + (rebuild + text(code) + b'}}\x87R')
        + b'\x86.'
    )
    content = io.BytesIO()
    torch.save({}, content)
    with (
        zipfile.ZipFile(content) as source,
        zipfile.ZipFile(path, 'w') as target,
    ):
        for member in source.namelist():
            is_program = member.endswith('data.pkl')
            target.writestr(
                member, program if is_program else source.read(member)
            )


def test_logged_values_open_no_back_door(tmp_path, proof):
    path = tmp_path / 'crafted.pth'
    crafted(path, f'import os; os.mkdir({str(proof)!r})')
    with pytest.raises(CheckpointError, match='methods of HistoryBuffer are'):
        read_checkpoint(path)
    assert not proof.exists()

import runpy
import sys
from pathlib import Path

import pytest
import torch

from mmseg_uhr.apis.checkpoint import CheckpointError
from mmseg_uhr.apis.conversion import convert, convert_state

RULES = [
    (r'net\.b(\d)\.', r'ours.\1.'),
    (r'net\.a\.', 'ours.0.'),
    (r'head\.', 'classifier.'),
]
STATE = {
    'net.a.weight': torch.zeros(2),
    'net.b0.weight': torch.ones(2),
    'net.b1.weight': torch.full((2,), 2.0),
    'head.bias': torch.full((1,), 3.0),
    'unused.x': torch.ones(1),
}


class Trap:
    """Does something when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_rules():
    converted, left_out = convert_state(STATE, RULES, ['unused'])
    assert set(converted) == {
        *('ours.0.weight', 'ours.1.weight', 'classifier.bias'),
    }
    # Stored under two names: the earlier rule wins, in any order of names.
    assert torch.equal(converted['ours.0.weight'], STATE['net.b0.weight'])
    assert sorted(left_out) == ['net.a.weight', 'unused.x']
    backwards = dict(reversed(STATE.items()))
    again, left_out = convert_state(backwards, RULES, ['unused'])
    assert torch.equal(again['ours.0.weight'], STATE['net.b0.weight'])
    assert sorted(left_out) == ['net.a.weight', 'unused.x']
    with pytest.raises(CheckpointError, match=r'unknown parameters unused\.x'):
        convert_state(STATE, RULES)


def test_file(tmp_path):
    source, target = tmp_path / 'old.pth', tmp_path / 'new' / 'ours.pth'
    state = {f'module.{name}': value for name, value in STATE.items()}
    meta = dict(CLASSES=('sea', 'land'), PALETTE=[[0, 0, 9], [0, 9, 0]])
    # As old mmcv wrote: not a zip file.
    torch.save(
        dict(state_dict=state, meta=meta, optimizer=dict(lr=1)),
        source,
        _use_new_zipfile_serialization=False,
    )
    left_out = convert(
        *(source, target, RULES, ['unused']),
        finish=lambda state: {k: v * 2 for k, v in state.items()},
    )
    assert sorted(left_out) == ['net.a.weight', 'unused.x']
    written = torch.load(target, weights_only=True)
    assert set(written) == {'meta', 'state_dict'}
    assert written['state_dict']['classifier.bias'] == 6
    assert written['meta']['converted_from'] == 'old.pth'
    assert written['meta']['dataset_meta']['classes'] == ('sea', 'land')


def test_refuses_code_unless_trusted(tmp_path):
    source, target = tmp_path / 'old.pth', tmp_path / 'ours.pth'
    mark = tmp_path / 'code was run'
    torch.save(dict(state_dict=STATE, meta=Trap(str(mark))), source)
    with pytest.raises(CheckpointError, match='old.pth.*--trust'):
        convert(source, target, RULES, ['unused'])
    assert not mark.exists()
    assert not target.exists()
    convert(source, target, RULES, ['unused'], trust=True)
    assert mark.exists()
    assert 'state_dict' in torch.load(target, weights_only=True)


def test_errors_name_the_file_and_write_nothing(tmp_path, tiny_config):
    source, target = tmp_path / 'old.pth', tmp_path / 'ours.pth'
    with pytest.raises(CheckpointError, match='old.pth: no such file'):
        convert(source, target, RULES)
    torch.save(dict(state_dict=STATE), source)
    with pytest.raises(CheckpointError, match='old.pth: unknown parameters'):
        convert(source, target, RULES)
    with pytest.raises(CheckpointError, match=r'old.pth: does not fit.*tiny'):
        convert(source, target, RULES, ['unused'], config=tiny_config)
    torch.save(dict(meta={}), source)
    with pytest.raises(CheckpointError, match='has no weights'):
        convert(source, target, RULES)
    assert not target.exists()


def test_command_line(tmp_path, monkeypatch, capsys):
    script = Path(__file__).parents[2] / 'tools/model_converters/isdnet.py'
    source = tmp_path / 'old.pth'
    torch.save({'decode_head.conv_seg.bias': torch.ones(7)}, source)
    arguments = [str(script), str(source), str(tmp_path / 'ours.pth')]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(script), run_name='__main__')
    assert 'ours.pth (0 names dropped)' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', [*arguments[:1], 'no.pth', 'x.pth'])
    with pytest.raises(SystemExit, match='no.pth: no such file'):
        runpy.run_path(str(script), run_name='__main__')

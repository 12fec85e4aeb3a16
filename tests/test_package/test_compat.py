"""Both stacks: what is wrong with them, and loading their checkpoints."""

import builtins
import sys
import warnings

import numpy as np
import pytest
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from mmseg_uhr import compat


def fake_import(monkeypatch, name, error):
    """Let the import of one module of the stack fail."""

    def import_module(wanted):
        if wanted == name:
            raise error
        return sys.modules[wanted]

    monkeypatch.setattr(compat, 'import_module', import_module)


def sentence(monkeypatch, name, error):
    fake_import(monkeypatch, name, error)
    with pytest.raises(ImportError) as raised:
        compat.check_stack()
    text = str(raised.value)
    assert '\n' not in text
    assert 'mmsegmentation-uhr[onedl]' in text
    assert 'mmsegmentation-uhr[openmmlab]' in text
    return text


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmseg'])
def test_missing_module_is_named(monkeypatch, name):
    error = ModuleNotFoundError(f'No module named {name!r}', name=name)
    text = sentence(monkeypatch, name, error)
    assert f'needs {name}, which is not installed' in text


def test_missing_dependency_of_the_stack_is_named(monkeypatch):
    error = ModuleNotFoundError("No module named 'ftfy'", name='ftfy')
    text = sentence(monkeypatch, 'mmseg.models', error)
    assert 'cannot import mmseg.models, because ftfy is missing' in text


def test_clash_of_versions_lists_what_is_installed(monkeypatch):
    error = AssertionError('MMCV==2.3.6 is used but incompatible.')
    text = sentence(monkeypatch, 'mmseg', error)
    assert 'MMCV==2.3.6 is used but incompatible' in text
    assert 'mmengine' in text.split('installed: ')[1]


def test_old_version_is_refused(monkeypatch):
    monkeypatch.setattr('mmseg.__version__', '0.30.0')
    with pytest.raises(ImportError, match=r'mmseg>=1\.2\.2.*mmseg 0\.30\.0'):
        compat.check_stack()


def test_new_version_only_warns(monkeypatch):
    monkeypatch.setattr('mmseg.__version__', '2.1.0')
    with pytest.warns(UserWarning, match=r'not been tested with mmseg 2\.1'):
        compat.check_stack()


def test_this_stack_is_fine():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        compat.check_stack()
    assert all(len(v) == 1 for v in compat.installed_stacks().values())


def test_two_stacks_in_one_environment_warn(monkeypatch):
    both = {'mmseg': {'onedl': '1.4.2', 'openmmlab': '1.2.2'}}
    with pytest.warns(
        UserWarning,
        match=r'onedl-mmsegmentation 1\.4\.2, mmsegmentation 1\.2\.2',
    ):
        compat._check_mixture(both)


def test_openmmlab_needs_mmcv_s_operators(monkeypatch):
    monkeypatch.setattr(compat, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='without its compiled operators'):
        compat._check_openmmlab({'mmseg': {'openmmlab': '1.2.2'}})
    with pytest.warns(UserWarning, match='setuptools<82'):
        compat._check_openmmlab({'mmengine': {'openmmlab': '0.10.7'}})


def test_mmengine_never_installs_another_mmseg():
    # It would, if the distribution in its table were not installed.
    stacks = compat.installed_stacks()['mmseg']
    (stack,) = stacks
    assert MODULE2PACKAGE['mmseg'] == compat.STACKS[stack]['mmseg']


@pytest.mark.parametrize('dtype', ['f4', 'f8', 'i8', 'u1', '?'])
def test_logged_numbers_load_safely(tmp_path, dtype):
    buffer = HistoryBuffer([np.dtype(dtype).type(1)], [1])
    path = tmp_path / 'checkpoint.pth'
    logged = dict(best=np.dtype(dtype).type(1), loss=buffer)
    torch.save(dict(state_dict={}, message_hub=logged), path)
    # MMEngine's loading in other tests has made PyTorch forget them.
    compat.register_safe_globals()
    loaded = torch.load(path, weights_only=True)['message_hub']
    assert loaded['best'] == 1
    assert loaded['loss'].current() == 1


def test_crafted_checkpoints_still_run_no_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return builtins.eval, ('1/0',)

    path = tmp_path / 'attack.pth'
    torch.save(dict(state_dict={}, meta=Attack()), path)
    with pytest.raises(Exception, match='(?i)weights.only'):
        torch.load(path, weights_only=True)


def test_trained_checkpoint_loads_without_fallback(trained, capsys):
    # After a validation: its scores are NumPy numbers in the message hub.
    path = str(trained / 'iter_40.pth')
    checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu')
    assert 'weights_only=False' not in ''.join(capsys.readouterr())
    assert checkpoint['message_hub']['log_scalars']
    compat.register_safe_globals()
    assert torch.load(path, weights_only=True)['meta']['iter'] == 40

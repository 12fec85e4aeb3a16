import pytest
import torch
from torch import nn

from mmseg_uhr.apis.checkpoint import CheckpointError, load_weights


def model(width=4, head='decode_head'):
    net = nn.Module()
    net.backbone = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
    setattr(net, head, nn.Conv2d(width, 2, 1))
    return net


def save(path, net, **meta):
    torch.save(dict(state_dict=net.state_dict(), meta=meta), path)
    return path


def test_weights_and_meta_are_loaded(tmp_path):
    source, target = model(), model()
    path = save(tmp_path / 'a.pth', source, dataset_meta=dict(classes=['x']))
    meta = load_weights(target, path)
    assert meta['dataset_meta'] == dict(classes=['x'])
    for name, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[name])


def test_bare_and_wrapped_state_dicts_load(tmp_path):
    source, target = model(), model()
    wrapped = {f'module.{k}': v for k, v in source.state_dict().items()}
    torch.save(wrapped, tmp_path / 'a.pth')
    assert load_weights(target, tmp_path / 'a.pth') == {}
    assert torch.equal(source.decode_head.weight, target.decode_head.weight)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r'none\.pth: no such file'):
        load_weights(model(), tmp_path / 'none.pth')


@pytest.mark.parametrize('content', [b'', b'text, no checkpoint', b'PK\3\4'])
def test_other_files_are_no_checkpoints(tmp_path, content):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r'a\.pth: not a checkpoint'):
        load_weights(model(), path)


def test_truncated_checkpoint_is_refused(tmp_path):
    path = save(tmp_path / 'a.pth', model())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r'a\.pth: not a checkpoint'):
        load_weights(model(), path)


@pytest.mark.parametrize('content', [[1, 2], {}, {'state_dict': {'a': 1}}])
def test_checkpoint_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'a\.pth: (holds|has no weig)'):
        load_weights(model(), tmp_path / 'a.pth')


def test_python_objects_are_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return eval, ('1/0',)

    torch.save(dict(state_dict={}, meta=Attack()), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='Python objects'):
        load_weights(model(), tmp_path / 'a.pth')


def test_other_shapes_name_the_parameters(tmp_path):
    path = save(tmp_path / 'a.pth', model(width=8))
    with pytest.raises(
        CheckpointError,
        match=r'a\.pth: does not fit.*backbone\.0\.weight is \(8, 3, 1, 1\), '
        r'expected \(4, 3, 1, 1\).* and \d+ more',
    ):
        load_weights(model(), path)


def test_other_model_names_the_parameters(tmp_path):
    path = save(tmp_path / 'a.pth', model(head='other_head'))
    with pytest.raises(
        CheckpointError, match=r'2 of its .*\(decode_head\.weight, decode_h'
    ):
        load_weights(model(), path)


def test_auxiliary_heads_may_differ(tmp_path, caplog):
    path = save(tmp_path / 'a.pth', model())
    target = model()
    target.auxiliary_head = nn.Conv2d(4, 2, 1)
    load_weights(target, path)
    path = save(tmp_path / 'b.pth', target)
    load_weights(model(), path)

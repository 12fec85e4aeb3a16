"""Compiled networks compute what PyTorch does."""

import pytest
import torch

from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.deployment import (
    ExportError,
    Program,
    WindowNetwork,
    export_program,
    random_windows,
)


def test_other_suffixes_are_refused(tiny_config, trained, tmp_path):
    model = init_segmentor(tiny_config, trained / 'iter_40.pth', 'cpu')
    with pytest.raises(ExportError, match='ends in .pt2'):
        export_program(model, tmp_path / 'net.onnx')


@pytest.mark.slow
def test_compiled_network_computes_the_same(
    tiny_config, trained, scenes, tmp_path
):
    model = init_segmentor(tiny_config, trained / 'iter_40.pth', 'cpu')
    path = tmp_path / 'net.pt2'
    scene = scenes / 'images' / 'a.tif'
    result = export_program(model, path, dynamic=True, uint8=True, scene=scene)
    assert result.axes == ('batch', 'height', 'width')
    assert [one.name for one in tmp_path.iterdir()] == ['net.pt2']
    program = Program(path)
    assert program.properties['mmseg_uhr.window'] == '[32, 32]'
    assert [one.type for one in program.get_inputs()] == ['tensor(uint8)']
    network = WindowNetwork(model)
    (x,) = random_windows(model, network, (64, 40), 2)
    (found,) = program.run(None, {'local': x.byte().numpy()})
    torch.testing.assert_close(
        torch.from_numpy(found), network(x), atol=1e-4, rtol=0
    )

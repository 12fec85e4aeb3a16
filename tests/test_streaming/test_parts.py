"""Parts of a map on disk."""

import json
import resource

import numpy as np
import pytest
import torch

from mmseg_uhr.rasters import RasterError
from mmseg_uhr.streaming import FinishedRows, Outputs
from mmseg_uhr.streaming.layers import layers_of
from mmseg_uhr.streaming.parts import PartStore

SHAPE = (1200, 30)
IDENTITY = dict(image=dict(name='a.tif', bytes=5), stream=dict(stride=(9, 9)))


def make_store(folder, identity=IDENTITY, **options):
    layers = layers_of(3, Outputs((2, 0), confidence=True))
    return PartStore(folder / 'parts', SHAPE, layers, identity, **options)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return dict(
        labels=rng.integers(0, 3, SHAPE, np.uint8),
        probabilities=rng.integers(0, 256, (2, *SHAPE), np.uint8),
        confidence=rng.integers(0, 256, SHAPE, np.uint8),
    )


def rows_of(arrays, heights):
    y = 0
    for height in heights:
        found = {k: v[..., y : y + height, :] for k, v in arrays.items()}
        yield FinishedRows(
            y, **{k: torch.from_numpy(v) for k, v in found.items()}
        )
        y += height


def fill(store, arrays, skip=()):
    for start, part in store.regroup(rows_of(arrays, [500, 1, 600, 99])):
        if start not in skip:
            store.write(start, part)


def read(store):
    parts = [part for _, part in store.read()]
    return {
        name: np.concatenate([part[name] for part in parts], axis=-2)
        for name in parts[0]
    }


def test_rows_come_back_as_they_were(tmp_path, arrays):
    store = make_store(tmp_path)
    store.open()
    assert store.missing() == [(0, 1200)]
    fill(store, arrays)
    assert [y for y, _ in store.read()] == [0, 512, 1024]
    assert store.missing() == []
    assert store.kept() == 1
    found = read(store)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    store.remove()
    assert not list(tmp_path.iterdir())


def test_going_on_with_what_is_there(tmp_path, arrays):
    store = make_store(tmp_path)
    store.open()
    fill(store, arrays, skip=(512,))
    with pytest.raises(RasterError, match='parts: holds 57% of an inter.*--r'):
        make_store(tmp_path).open()
    again = make_store(tmp_path)
    again.open(resume=True)
    assert again.missing() == [(512, 1024)]
    fill(again, arrays, skip=(0, 1024))
    np.testing.assert_array_equal(read(again)['labels'], arrays['labels'])
    again.open(overwrite=True)
    assert again.kept() == 0


def test_parts_of_another_run_are_refused(tmp_path, arrays):
    store = make_store(tmp_path)
    store.open()
    fill(store, arrays)
    other = dict(
        image=dict(name='a.tif', bytes=6),
        stream=dict(stride=(9, 9), blend='hann'),
    )
    with pytest.raises(
        RasterError,
        match='image.bytes was 5, is 6; stream.blend was null, is "hann"',
    ):
        make_store(tmp_path, other).open(resume=True)
    make_store(tmp_path).open(resume=True)
    (tmp_path / 'parts' / 'run.json').write_text('{')
    with pytest.raises(RasterError, match=r'run\.json: cannot be read'):
        make_store(tmp_path).open(resume=True)


@pytest.mark.parametrize('damage', ['cut', 'changed', 'empty', 'other shape'])
def test_damaged_parts_count_as_missing(tmp_path, arrays, damage):
    store = make_store(tmp_path)
    store.open()
    fill(store, arrays)
    path = tmp_path / 'parts' / 'rows-00000512.npz'
    data = bytearray(path.read_bytes())
    if damage == 'cut':
        path.write_bytes(data[:-400])
    elif damage == 'changed':
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    elif damage == 'empty':
        path.write_bytes(b'')
    else:
        np.savez(path, **{k: v[..., :9, :] for k, v in arrays.items()})
    again = make_store(tmp_path)
    again.open(resume=True)
    assert again.missing() == [(512, 1024)]
    assert again.missing(check=False) == []
    if damage != 'other shape':
        with pytest.raises(RasterError, match=r'00000512\.npz: cannot be r'):
            list(again.read())
    fill(again, arrays)
    assert make_store(tmp_path).missing() == []


def test_parts_without_a_journal_are_thrown_away(tmp_path, arrays):
    """Such as a removal leaves that was interrupted."""
    store = make_store(tmp_path)
    store.open()
    fill(store, arrays)
    (tmp_path / 'parts' / 'run.json').unlink()
    again = make_store(tmp_path)
    again.open()
    assert again.kept() == 0
    assert json.loads((tmp_path / 'parts' / 'run.json').read_text())


def test_a_full_disk_leaves_whole_parts(tmp_path, arrays):
    """A limit of file sizes fails like a full disk, in the same call."""
    store = make_store(tmp_path)
    store.open()
    parts = list(store.regroup(rows_of(arrays, [1200])))
    store.write(*parts[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(
            RasterError, match='cannot be written .*MiB .*free.*--resume'
        ):
            store.write(*parts[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    names = sorted(path.name for path in (tmp_path / 'parts').iterdir())
    assert names == ['rows-00000000.npz', 'run.json']
    assert store.missing() == [(512, 1200)]


def test_layers():
    assert layers_of(256, Outputs())['labels'].dtype == 'uint8'
    assert layers_of(257, Outputs())['labels'].dtype == 'int16'
    layers = layers_of(9, Outputs((4, 5, 6)))
    assert list(layers) == ['labels', 'probabilities']
    assert layers['probabilities'].shape(2, 7) == (3, 2, 7)

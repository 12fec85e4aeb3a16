"""Settings and parts that nobody meant to write."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict

from mmseg_uhr.models.segmentors import StreamingSegmentor, streaming_config
from mmseg_uhr.rasters import RasterError
from mmseg_uhr.streaming import StreamSettings
from mmseg_uhr.streaming.layers import Layer
from mmseg_uhr.streaming.parts import PartStore

# Machines that test may be busy.
PATIENT = settings(deadline=None)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**40),
    st.floats(),
    st.sampled_from(
        ['uniform', 'flip', 'even', 'float16', 'host', '', '512', 'stream']
    ),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
)
TEST_CFG = st.fixed_dictionaries(
    {},
    optional={name: VALUES for name in StreamSettings.__dataclass_fields__},
)


def attempt(function, *arguments):
    """Return a result, or what the error says."""
    try:
        return function(*arguments), ''
    except ValueError as error:
        return None, str(error)


@PATIENT
@given(test_cfg=TEST_CFG)
def test_settings_are_understood_or_the_field_is_named(test_cfg):
    found, problem = attempt(StreamSettings.from_test_cfg, test_cfg)
    if problem:
        assert any(name in problem for name in ('test_cfg', *test_cfg))
    else:
        height, width = found.crop_size
        assert height >= 1
        assert width >= 1
        assert found.batch_size >= 1
        found.shrunk()


@PATIENT
@given(test_cfg=st.one_of(st.none(), TEST_CFG))
def test_models_stream_or_the_field_is_named(test_cfg):
    model = ConfigDict(type='EncoderDecoder', test_cfg=test_cfg)
    found, problem = attempt(streaming_config, model)
    if problem:
        assert 'crop_size' in problem
    else:
        assert issubclass(found.type, StreamingSegmentor)
        assert found.test_cfg.mode == 'stream'


@pytest.mark.parametrize('value', [512, '512', (512,), (512.5, 512), 'ab'])
@pytest.mark.parametrize('name', ['crop_size', 'stride'])
def test_sides_are_two_numbers(name, value):
    test_cfg = {'crop_size': (512, 512), 'stride': (256, 256), name: value}
    with pytest.raises(ValueError, match=rf'test_cfg\.{name}=.*expected \(he'):
        StreamSettings.from_test_cfg(test_cfg)


def store_of(folder):
    return PartStore(
        folder / 'parts', (700, 40), {'labels': Layer('uint8')}, {'a': 1}
    )


@pytest.fixture
def store(tmp_path):
    """PartStore: with both of its parts."""
    store = store_of(tmp_path)
    store.open()
    for start, rows in ((0, 512), (512, 188)):
        store.write(start, {'labels': np.ones((rows, 40), np.uint8)})
    assert store_of(tmp_path).missing() == []
    return store


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'[' * 100000,
        b'null',
        b'[1, 2]',
        b'{"a": 2}',
        b'{"a": {"b": [1]}}',
        b'\xff\xfe\0',
        b'9' * 10000,
    ],
)
def test_journals_of_no_run_are_refused(store, tmp_path, content):
    (store.folder / 'run.json').write_bytes(content)
    with pytest.raises(RasterError, match=r'parts.*--overwrite'):
        store_of(tmp_path).open(resume=True)
    # Nothing that was computed is lost by asking.
    assert store_of(tmp_path).kept() == 1


def test_damaged_parts_are_missing_or_whole(store, tmp_path):
    path = store.folder / 'rows-00000000.npz'
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in range(0, len(whole), 9)]
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 2):
            content[place] ^= rng.integers(1, 256)
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        found = store_of(tmp_path)
        if found.missing() == [(0, 512)]:
            continue
        # Where nobody looks, such as its date.
        (_, part), _ = found.read()
        assert (part['labels'] == 1).all()


def archive(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as file:
        for name, data in members.items():
            file.writestr(name, data)
    return content.getvalue()


def header(text):
    text = text.encode().ljust(118)[:117] + b'\n'
    return b'\x93NUMPY\1\0' + len(text).to_bytes(2, 'little') + text


@pytest.mark.parametrize(
    'part',
    [
        archive({}),
        archive({'labels.npy': b''}),
        archive({'../labels.npy': b'x', 'labels.npy': b'\x93NUMPY\1\0'}),
        archive({'labels.npy': header("{'descr': '|O', 'shape': (1,)}")}),
        archive({'labels.npy': header('(' * 110)}),
        archive(
            {
                'labels.npy': header(
                    "{'descr': '|u1', 'fortran_order': False, "
                    "'shape': (512, 40000000000)}"
                )
            }
        ),
    ],
)
def test_parts_of_another_make_are_missing(store, tmp_path, part):
    (store.folder / 'rows-00000000.npz').write_bytes(part)
    assert store_of(tmp_path).missing() == [(0, 512)]
    assert json.loads((store.folder / 'run.json').read_text()) == {'a': 1}

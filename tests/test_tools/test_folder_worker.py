"""A folder of scenes as a job: killed, resumed, with scenes that fail."""

import multiprocessing
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest

from mmseg_uhr.apis import UHRInferencer
from mmseg_uhr.rasters import RasterError, open_raster

PATIENCE = 120


@pytest.fixture(scope='module')
def model(tiny_config, trained):
    return tiny_config, trained / 'iter_40.pth'


@pytest.fixture(scope='module')
def expected(model, scenes, run_tool, tmp_path_factory):
    """Path: the maps of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp('expected')
    run_tool(
        *('segment.py', *model, scenes / 'images', '--out', out, '--quiet')
    )
    return out


@pytest.fixture
def inbox(scenes, tmp_path):
    """Path: a folder of scenes, one of which has half arrived."""
    folder = tmp_path / 'inbox'
    shutil.copytree(scenes / 'images', folder)
    data = (folder / 'b.tif').read_bytes()
    (folder / 'b.tif').write_bytes(data[: len(data) // 2])
    return folder


@pytest.fixture
def start(run_tool, model, tmp_path):
    """Start the tool on a folder, in a process of its own."""

    def start(folder, *options):
        def work():
            with open(tmp_path / 'log', 'w', buffering=1) as sys.stdout:
                sys.stderr = sys.stdout
                run_tool(
                    *('segment.py', *model, folder, '--quiet', *options),
                    *('--out', tmp_path / 'maps'),
                )

        process = multiprocessing.get_context('fork').Process(target=work)
        process.start()
        return process

    return start


def finish(process, tmp_path):
    process.join(PATIENCE)
    return process.exitcode, (tmp_path / 'log').read_text()


def same(folder, expected):
    """Tell whether maps are equal; their digests name other folders."""
    names = sorted(path.name for path in folder.iterdir())
    return names == sorted(path.name for path in expected.iterdir()) and all(
        np.array_equal(
            open_raster(folder / name).read(),
            open_raster(expected / name).read(),
        )
        for name in names
    )


def test_killed_and_resumed(start, scenes, tmp_path, expected):
    """What is finished is not made again."""
    out = tmp_path / 'maps'
    process = start(scenes / 'images')
    end = time.monotonic() + PATIENCE
    while not (out / 'a.tif').exists() and time.monotonic() < end:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process, tmp_path)[0] == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in out.glob('*.tif')}
    assert out / 'a.tif' in done
    code, text = finish(start(scenes / 'images', '--resume'), tmp_path)
    assert code == 0, text
    assert text.count('finished already') == len(done)
    assert all(path.stat().st_mtime_ns == t for path, t in done.items())
    assert same(out, expected)


def test_a_scene_that_fails(start, inbox, scenes, tmp_path, expected):
    """The others are done; it is named, and done once it is whole."""
    out = tmp_path / 'maps'
    code, text = finish(start(inbox, '--retries', 2), tmp_path)
    assert code == 1
    assert f'segment.py: {inbox / "b.tif"}: ' in text
    assert sorted(path.name for path in out.iterdir()) == ['a.tif', 'c.tif']
    shutil.copy(scenes / 'images' / 'b.tif', inbox)
    code, text = finish(start(inbox, '--resume'), tmp_path)
    assert (code, text.count('finished already')) == (0, 2)
    assert same(out, expected)


@pytest.mark.parametrize('half', ['header', 'blocks'])
def test_a_scene_that_arrives_late(
    model, inbox, scenes, tmp_path, expected, half
):
    """It is tried again when the others are done."""
    whole = scenes / 'images' / 'b.tif'
    if half == 'blocks':
        data = bytearray(whole.read_bytes())
        data[2000:-2000] = bytes(len(data) - 4000)
        (inbox / 'b.tif').write_bytes(data)
    inferencer = UHRInferencer(*model, device='cpu')
    with pytest.raises(RasterError, match=r'b\.tif: '):
        inferencer(inbox, tmp_path / 'failing', progress=False, retries=1)

    def progress(done, total):
        # While the others are made.
        if (tmp_path / 'maps' / 'a.tif').exists():
            shutil.copy(whole, inbox)

    results = inferencer(
        inbox, tmp_path / 'maps', progress=progress, retries=1
    )
    assert [result.skipped for result in results] == [False] * 3
    assert all(0 < r.predicted <= r.megapixels for r in results)
    assert same(tmp_path / 'maps', expected)
    with pytest.raises(ValueError, match='retries=-1: expected 0'):
        inferencer(inbox, tmp_path / 'maps', retries=-1)

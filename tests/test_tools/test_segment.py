"""Runs of the segmentation tool that are disturbed, and survive.

Each run is a real process: a fork of this one, which spares the imports.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mmseg.models.decode_heads import FCNHead

from mmseg_uhr.rasters import open_raster, write_geotiff
from mmseg_uhr.registry import MODELS
from mmseg_uhr.streaming import parts as streaming_parts
from mmseg_uhr.streaming.part_file import write_arrays

# Of the scene; eight parts.
SHAPE = (4096, 64)
PATIENCE = 60


@MODELS.register_module()
class ExplodingHead(FCNHead):
    """Raises an error once it has seen a few batches."""

    batches = 0

    def forward(self, inputs):
        self.batches += 1
        if self.batches > 90:
            raise KeyError('exploded')
        return super().forward(inputs)


class Run:
    """The tool in a process of its own."""

    def __init__(
        self, run_tool, log, *arguments, limit=None, slow=0, **environment
    ):
        def write_slowly(*args):
            time.sleep(slow)
            write_arrays(*args)

        def work():
            os.environ.update(environment)
            # Jobs in the background of a shell ignore it, and their children.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # So that there is time to end it half-way on a busy machine.
            streaming_parts.write_arrays = write_slowly
            if limit is not None:
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            # In place of what pytest captures.
            with open(log, 'w', buffering=1) as sys.stdout:
                sys.stderr = sys.stdout
                run_tool('segment.py', '--quiet', *arguments)

        self.log = log
        self.process = multiprocessing.get_context('fork').Process(target=work)
        self.process.start()

    def wait(self):
        """Exit code and output; a run that hangs is a failure."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            pytest.fail(f'hangs: {self.log.read_text()}')
        return self.process.exitcode, self.log.read_text()

    def kill(self, number=signal.SIGKILL):
        os.kill(self.process.pid, number)
        return self.wait()


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    """Coloured blobs; above row 2048 one colour, which compresses well."""
    path = tmp_path_factory.mktemp('tall') / 'scene.tif'
    rng = np.random.default_rng(0)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    coarse = rng.integers(0, 3, (SHAPE[0] // 4, SHAPE[1] // 4))
    image = colours[np.kron(coarse, np.ones((4, 4), int))]
    image = image + rng.integers(0, 50, image.shape)
    image[:2048] = colours[1]
    write_geotiff(path, image.astype(np.uint8))
    return path


@pytest.fixture(scope='module')
def model(tiny_config, trained):
    return tiny_config, trained / 'iter_40.pth'


@pytest.fixture(scope='module')
def expected(run_tool, model, scene, tmp_path_factory):
    """The bytes of the map of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp('expected') / 'map.tif'
    run_tool('segment.py', *model, scene, '--out', out, '--quiet')
    assert set(np.unique(open_raster(out).read())) == {0, 1, 2}
    return out.read_bytes()


@pytest.fixture
def start(run_tool, model, scene, tmp_path):
    """Start the tool on the scene, writing ``map.tif``."""

    def start(*options, image=scene, name='log', **kwargs):
        out = '' if '--out' in options else tmp_path / 'map.tif'
        return Run(
            run_tool,
            tmp_path / name,
            *model,
            image,
            *(('--out', out) if out else ()),
            *options,
            **kwargs,
        )

    return start


def parts(out):
    return sorted(Path(f'{out}.parts').glob('rows-*.npz'))


def wait_for_parts(run, out, count):
    """Wait until so many parts are there, or the run is over."""
    end = time.monotonic() + PATIENCE
    while len(parts(out)) < count and run.process.is_alive():
        assert time.monotonic() < end, run.log.read_text()
        time.sleep(0.002)


def corrupted(scene, folder, where):
    """A copy of the scene, a quarter of which is zeros."""
    data = bytearray(scene.read_bytes())
    begin, length = int(where * len(data)), len(data) // 4
    data[begin : begin + length] = bytes(length)
    path = folder / 'corrupt.tif'
    path.write_bytes(data)
    return path


def test_killed_at_any_moment(start, tmp_path, expected):
    rng = np.random.default_rng(os.getpid())
    out, kills = tmp_path / 'map.tif', 0
    run = start(slow=0.1)
    while True:
        wait_for_parts(run, out, len(parts(out)) + 1)
        time.sleep(rng.uniform(0, 0.05))
        if not run.process.is_alive():
            break
        run.kill()
        kills += 1
        # Nothing that looks finished.
        assert not out.exists() or out.read_bytes() == expected
        run = start('--resume', slow=0.1)
    assert run.wait()[0] == 0
    assert kills >= 2
    assert out.read_bytes() == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ['log', 'map.tif']


def test_killed_while_the_map_is_put_together(start, tmp_path, expected):
    out = tmp_path / 'map.tif'
    run = start()
    wait_for_parts(run, out, 8)
    run.kill()
    assert not out.exists() or out.read_bytes() == expected
    code, text = start('--resume').wait()
    assert code == 0, text
    assert out.read_bytes() == expected
    code, text = start('--resume').wait()
    assert (code, text.count('map.tif: finished already')) == (0, 1)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_hand(start, tmp_path, expected, number):
    out = tmp_path / 'map.tif'
    run = start(slow=0.5)
    wait_for_parts(run, out, 3)
    code, text = run.kill(number)
    assert code == 130
    assert 'segment.py: stopped; ' in text
    assert f'% in {out}.parts is kept; go on with --resume' in text
    code, text = start().wait()
    assert code == 1
    assert '% of an interrupted run: add --resume' in text
    assert start('--resume').wait()[0] == 0
    assert out.read_bytes() == expected


def test_another_run_is_refused(
    start, tmp_path, scene, trained, tiny_config, expected, run_tool
):
    out = tmp_path / 'map.tif'
    run = start(slow=0.5)
    wait_for_parts(run, out, 2)
    run.kill()
    code, text = start('--resume', '--stride', 20, 24).wait()
    assert code == 1
    assert 'stream.stride was [24, 24], is [20, 24]' in text
    other = Run(
        run_tool,
        tmp_path / 'log',
        *(tiny_config, trained / 'iter_20.pth', scene),
        *('--out', out, '--resume'),
    )
    code, text = other.wait()
    assert code == 1
    assert 'checkpoint.name was "iter_40.pth", is "iter_20.pth"' in text
    before = scene.stat()
    os.utime(scene)
    try:
        code, text = start('--resume').wait()
    finally:
        os.utime(scene, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert code == 1
    assert 'image.mtime_ns was' in text
    # What the result does not depend on may change.
    assert start('--resume', '--batch-size', 2).wait()[0] == 0
    assert out.read_bytes() == expected


def test_a_full_disk(start, tmp_path):
    """A limit of file sizes fails like a full disk, in the same call."""
    out = tmp_path / 'map.tif'
    # Which does not compress below row 2048.
    code, text = start('--confidence', limit=6000).wait()
    assert code == 1
    assert 'cannot be written (File too large; ' in text
    assert 0 < len(parts(out)) < 8
    code, text = start('--confidence', '--resume').wait()
    assert code == 0, text
    assert 'MP were there' in text
    undisturbed = tmp_path / 'undisturbed' / 'map.tif'
    assert start('--confidence', '--out', undisturbed).wait()[0] == 0
    for name in ('map.tif', 'map.confidence.tif'):
        found = (tmp_path / name).read_bytes()
        assert found == undisturbed.with_name(name).read_bytes()


def test_a_corrupt_block(start, scene, tmp_path, expected):
    (tmp_path / 'expected.tif').write_bytes(expected)
    labels = open_raster(tmp_path / 'expected.tif').read()[..., 0]
    corrupt = corrupted(scene, tmp_path, 0.7)
    out = tmp_path / 'map.tif'
    code, text = start(image=corrupt).wait()
    assert code == 1
    assert 'corrupt.tif: rows ' in text
    assert f'% in {out}.parts is kept; go on with --resume' in text
    kept = [np.load(path)['labels'] for path in parts(out)]
    assert len(kept) >= 4
    found = np.concatenate(kept)
    np.testing.assert_array_equal(found, labels[: len(found)])
    assert not out.exists()


def test_an_error_of_the_model(start, tmp_path):
    type_ = 'model.decode_head.type=mmseg_uhr.ExplodingHead'
    code, text = start('--cfg-options', type_).wait()
    assert code == 1
    assert "KeyError: 'exploded'" in text
    assert 'segment.py: failed, see above; ' in text
    assert 'map.tif.parts is kept; go on with --resume' in text


def start_ranks(start, *options, **kwargs):
    """Start two processes that share the scene."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    return [
        start(
            *('--launcher', 'pytorch', *options),
            name=f'log{rank}',
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE='2',
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=port,
            **kwargs,
        )
        for rank in range(2)
    ]


def test_two_processes_make_the_same_map(start, tmp_path, expected):
    runs = start_ranks(start)
    assert [run.wait() for run in runs][1] == (0, '')
    assert (tmp_path / 'map.tif').read_bytes() == expected
    assert not (tmp_path / 'map.tif.parts').exists()


def test_two_processes_share_a_folder(
    start, scene, scenes, tmp_path, expected, run_tool, model
):
    """Some scenes are of one process, the tall one is of both."""
    folder, out = tmp_path / 'scenes', tmp_path / 'maps'
    shutil.copytree(scenes / 'images', folder)
    shutil.copy(scene, folder / 'a_tall.tif')
    runs = start_ranks(start, '--out', out, image=folder)
    for run in runs:
        code, text = run.wait()
        assert code == 0, text
    run_tool('segment.py', *model, folder, '--out', tmp_path / 'one')
    names = sorted(path.name for path in out.iterdir())
    assert names == ['a.tif', 'a_tall.tif', 'b.tif', 'c.tif']
    for name in names:
        one = tmp_path / 'one' / name
        assert (out / name).read_bytes() == one.read_bytes()
    first, second = start_ranks(start, '--out', out, '--resume', image=folder)
    assert first.wait()[1].count('finished already') == len(names)
    assert second.wait() == (0, '')


def test_a_process_that_vanishes(start, tmp_path, expected):
    out = tmp_path / 'map.tif'
    first, second = start_ranks(start, slow=0.5)
    below = Path(f'{out}.parts') / 'rows-00002048.npz'
    while not below.exists() and second.process.is_alive():
        time.sleep(0.002)
    second.kill()
    code, text = first.wait()
    assert code == 1
    assert 'segment.py: no answer from rank 1 of 2' in text
    assert 5 <= len(parts(out)) < 8
    assert not out.exists()
    assert start('--resume').wait()[0] == 0
    assert out.read_bytes() == expected


def test_a_process_that_fails(start, scene, tmp_path):
    """The other one's work is done all the same."""
    scene = corrupted(scene, tmp_path, 0.7)
    runs = start_ranks(start, image=scene)
    (code, text), (other, other_text) = (run.wait() for run in runs)
    assert (code, other) == (1, 1)
    for found in (text, other_text):
        assert f'rank 1 of 2: {scene}: rows ' in found
    assert f'-4096 of {scene} stay missing' in text
    starts = [int(p.stem.split('-')[1]) for p in parts(tmp_path / 'map.tif')]
    assert starts[:4] == [0, 512, 1024, 1536]


@pytest.mark.slow
def test_two_processes_of_torchrun(
    model, scene, tmp_path, expected, run_script
):
    out = tmp_path / 'the map.tif'
    run_script('dist_segment.sh', *model, 2, scene, '--out', out, cwd=tmp_path)
    assert out.read_bytes() == expected


def test_a_launcher_without_its_environment(start):
    code, text = start('--launcher', 'pytorch').wait()
    assert code == 1
    assert 'segment.py: --launcher pytorch needs the environment' in text


def test_the_report(start, tmp_path):
    path = tmp_path / 'new' / 'report.json'
    code, text = start('--report', path).wait()
    assert code == 0, text
    report = json.loads(path.read_text())
    (found,) = report['scenes']
    assert found['megapixels'] == found['predicted'] == 4096 * 64 / 1e6
    assert found['seconds_per_megapixel'] > 0
    assert report['process_mib'] > 0

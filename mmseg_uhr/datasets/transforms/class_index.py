"""Where the classes of a scene lie: counted once, kept beside the labels."""

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.dist import barrier, get_dist_info
from mmengine.logging import print_log
from tqdm import tqdm

from ...rasters import RowBuffer
from ...rasters.cache import ArrayCache
from ...rasters.file import file_version
from ...streaming.part_file import replacing, write_arrays
from ...tiling import Window
from .labels import read_labels
from .loading import open_labels

# Side of a block in pixels; the 4096 pixels of one fit 16 bits.
_BLOCK = 64
# Columns that are counted at a time: whole blocks.
_COLUMNS = 128 * _BLOCK
_IDS = 256
# Changes with the layout of the files.
_VERSION = 1
_FOLDER = '.class_index'
_ELSEWHERE = 'MMSEG_UHR_INDEX_DIR'
_MAX_THREADS = 8
_OPENING = threading.Lock()
# The scenes used last, per process.
_KEPT = ArrayCache(64 * 2**20)
# Scenes whose index could not be stored, and the folders that were named.
_NOT_STORED: dict[str, 'ClassIndex'] = {}
_NAMED: set[Path] = set()


@dataclass(frozen=True)
class ClassIndex:
    """How many pixels of each class lie in which blocks of a scene.

    Blocks have 64 x 64 pixels, fewer at the lower and right rim, and are
    numbered row by row. Ignored pixels are in none.

    Args:
        shape (tuple[int]): ``(H, W)`` of the label map in pixels.
        starts (np.ndarray): int64 (257,): entries ``starts[i]`` to
            ``starts[i + 1]`` of the next two are those of class i.
        blocks (np.ndarray): uint32 (n,), numbers of blocks.
        counts (np.ndarray): uint16 (n,), pixels of the class in the block.
    """

    shape: tuple[int, int]
    starts: np.ndarray
    blocks: np.ndarray
    counts: np.ndarray

    @property
    def nbytes(self) -> int:
        """int: Bytes in memory."""
        return self.starts.nbytes + self.blocks.nbytes + self.counts.nbytes

    @property
    def pixels(self) -> np.ndarray:
        """np.ndarray: int64 (256,), pixels of each class."""
        sums = np.zeros(len(self.counts) + 1, np.int64)
        np.cumsum(self.counts, out=sums[1:])
        return np.diff(sums[self.starts])

    def draw_block(self, class_id: int, rng: np.random.Generator) -> Window:
        """Draw a block with a chance proportional to its pixels of a class.

        Args:
            class_id (int): A class that the scene has.
            rng (np.random.Generator): Source of the random number.

        Returns:
            Window: The block.
        """
        entries = slice(*self.starts[class_id : class_id + 2])
        sums = np.cumsum(self.counts[entries], dtype=np.int64)
        chosen = np.searchsorted(sums, rng.integers(sums[-1]), side='right')
        height, width = self.shape
        row, column = divmod(
            int(self.blocks[entries][chosen]), -(-width // _BLOCK)
        )
        y, x = row * _BLOCK, column * _BLOCK
        return Window(y, x, min(_BLOCK, height - y), min(_BLOCK, width - x))


def class_index(results: dict) -> ClassIndex:
    """Return the class index of a scene: kept, stored, or counted now.

    An index counted now is stored in the folder ``.class_index`` beside the
    label map (environment variable ``MMSEG_UHR_INDEX_DIR``: somewhere else),
    under a name that depends on how ids are mapped, and bound to the label
    map's bytes and time of change. Processes that count the same scene at
    the same time do no harm: files appear whole, and the last one stays.
    Where nothing can be written, the index is kept in memory.

    Args:
        results (dict): As of
            :func:`~mmseg_uhr.datasets.transforms.labels.read_labels`.

    Returns:
        ClassIndex: The index.

    Raises:
        RasterError: If the labels cannot be read, or an id is no class.
    """
    identity = _identity(results)
    return _KEPT.get(identity, lambda: _load_or_count(results, identity))


def count_classes(results: dict) -> ClassIndex:
    """Count the classes of a scene, in stripes of 64 rows.

    Args:
        results (dict): See :func:`class_index`.

    Returns:
        ClassIndex: The index.

    Raises:
        RasterError: If the labels cannot be read, or an id is no class.
    """
    raster = RowBuffer(results['label_raster'], _BLOCK)
    results = dict(results, label_raster=raster)
    height, width = raster.shape
    in_row = -(-width // _BLOCK)
    found = []
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _COLUMNS):
            window = (y, x, min(_BLOCK, height - y), min(_COLUMNS, width - x))
            ids, columns, counts = _count(read_labels(results, window))
            first = y // _BLOCK * in_row + x // _BLOCK
            found.append((ids, first + columns, counts))
    ids, blocks, counts = (
        np.concatenate(parts) for parts in zip(*found, strict=True)
    )
    kept = ids != results.get('ignore_index', 255)
    ids, blocks, counts = ids[kept], blocks[kept], counts[kept]
    order = np.argsort(ids, kind='stable')
    return ClassIndex(
        raster.shape,
        np.searchsorted(ids[order], np.arange(_IDS + 1)),
        blocks[order].astype(np.uint32),
        counts[order].astype(np.uint16),
    )


def pixel_of_class(
    results: dict, class_id: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw a pixel of a class; all of the scene's have equal chances.

    Args:
        results (dict): See :func:`class_index`.
        class_id (int): A class that the scene has.
        rng (np.random.Generator): Source of the random numbers.

    Returns:
        tuple[int]: Row and column.

    Raises:
        RasterError: If the labels cannot be read, or an id is no class.
    """
    block = class_index(results).draw_block(class_id, rng)
    labels = read_labels(results, block)
    pixels = np.flatnonzero(labels == class_id)
    row, column = divmod(int(rng.choice(pixels)), block.w)
    return block.y + row, block.x + column


def class_pixels(infos: Sequence[dict]) -> np.ndarray:
    """Count the pixels of each class in each scene of a data set.

    Scenes that have no index yet are counted in threads, each rank a share
    of them, with a progress bar.

    Args:
        infos (Sequence[dict]): Data infos with ``seg_map_path``.

    Returns:
        np.ndarray: int64 (scenes, 256).

    Raises:
        RasterError: If labels cannot be read, or an id is no class.
    """
    rank, world_size = get_dist_info()
    share = infos[rank::world_size]
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        counted = tqdm(
            pool.map(_pixels_of, share),
            desc='Class index',
            total=len(share),
            unit='scene',
            disable=None if rank == 0 else True,
        )
        own = list(counted)
        if world_size == 1:
            return np.stack(own)
        # The others' are stored by now, or counted once more.
        barrier()
        return np.stack(list(pool.map(_pixels_of, infos)))


def _pixels_of(info: dict) -> np.ndarray:
    """Return the pixels (256,) of each class in a scene."""
    # Opening silences a warning, which Python cannot do by thread.
    with _OPENING:
        raster = open_labels(info['seg_map_path'])
    results = dict(info, label_raster=raster)
    # Not kept: thousands of scenes, of which only these sums are used.
    return _load_or_count(results, _identity(results)).pixels


def _count(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count ids in a row of blocks: ids, columns of blocks, and counts."""
    width = labels.shape[1]
    places = np.arange(width) // _BLOCK * _IDS
    columns = -(-width // _BLOCK)
    counts = np.bincount(
        (places + labels).reshape(-1), minlength=columns * _IDS
    ).reshape(columns, _IDS)
    found, ids = np.nonzero(counts)
    return ids, found, counts[found, ids]


def _identity(results: dict) -> str:
    """Tell, as JSON, what an index depends on."""
    name = results['label_raster'].name
    return json.dumps(
        [_VERSION, _BLOCK, name, *file_version(name), _mapping_of(results)]
    )


def _mapping_of(results: dict) -> str:
    """Tell how ids are mapped: one file may serve several data sets."""
    label_map = results.get('label_map') or {}
    return repr(
        (
            sorted((int(old), int(new)) for old, new in label_map.items()),
            bool(results.get('reduce_zero_label')),
            results.get('ignore_index', 255),
            results.get('num_classes'),
        )
    )


def _load_or_count(results: dict, identity: str) -> ClassIndex:
    """Take an index from its file, or count and store it."""
    if identity in _NOT_STORED:
        return _NOT_STORED[identity]
    name = results['label_raster'].name
    if not file_version(name):
        # Not local: nobody could tell when it changes.
        return _NOT_STORED.setdefault(identity, count_classes(results))
    path = _path_of(name, results)
    index = _load(path, identity)
    if index is None:
        index = count_classes(results)
        try:
            _store(path, identity, index)
        except OSError as error:
            _NOT_STORED[identity] = index
            _tell_not_stored(path.parent, error)
    return index


def _path_of(name: str, results: dict) -> Path:
    """Return where the index of a label map is stored."""
    labels = Path(name).resolve()
    folder = labels.parent / _FOLDER
    if _ELSEWHERE in os.environ:
        place = hashlib.sha1(str(labels.parent).encode()).hexdigest()[:12]
        folder = Path(os.environ[_ELSEWHERE]) / place
    mapping = hashlib.sha1(_mapping_of(results).encode()).hexdigest()[:8]
    return folder / f'{labels.name}.{mapping}.npz'


def _load(path: Path, identity: str) -> ClassIndex | None:
    """Read an index; None if it is missing, damaged, or of other labels."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if _bound_to(str(arrays['identity'])) != _bound_to(identity):
                return None
            return ClassIndex(
                tuple(arrays['shape'].tolist()),
                arrays['starts'],
                arrays['blocks'],
                arrays['counts'],
            )
    except Exception:
        # A damaged file raises anything, from zlib's to NumPy's.
        return None


def _bound_to(identity: str) -> list:
    """Leave the path out of an identity: data sets are moved."""
    version, block, _, *rest = json.loads(identity)
    return [version, block, *rest]


def _store(path: Path, identity: str, index: ClassIndex) -> None:
    """Write an index; raises ``OSError`` if the disk does not take it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = dict(
        identity=np.array(identity),
        shape=np.array(index.shape),
        starts=index.starts,
        blocks=index.blocks,
        counts=index.counts,
    )
    with replacing(path) as partial:
        write_arrays(partial, arrays)


def _tell_not_stored(folder: Path, error: OSError) -> None:
    """Log once per folder that indexes stay in memory."""
    if folder in _NAMED:
        return
    _NAMED.add(folder)
    print_log(
        f'The class index of the label maps cannot be stored in {folder} '
        f'({error}): it is kept in memory and counted again in the next run. '
        f'Set the environment variable {_ELSEWHERE} to a folder that can be '
        'written.',
        logger='current',
    )

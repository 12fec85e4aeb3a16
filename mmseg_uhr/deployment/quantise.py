"""From a float32 network to one of bytes, by what it sees of real scenes."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..rasters import RasterError, open_raster
from ..streaming.loop import read_batches
from ..streaming.part_file import replacing
from ..streaming.rows import decide
from ..tiling import TilePlan, Window
from .packages import foreign_operators, import_onnx
from .runtime import OnnxSegmentor
from .runtime_session import Session

# Share of pixels that have to keep their class, unless told otherwise.
KEEP = 0.95
# What computes in bytes. Sums, products and resizing stay in float32: they
# are cheap, and rounding them is what costs accuracy.
_OPERATORS = ('Conv', 'Relu', 'Clip', 'MaxPool', 'Gemm', 'MatMul')
_WITH_WEIGHTS = ('Conv', 'Gemm', 'MatMul')


class QuantisationError(ValueError):
    """A network that cannot be quantised, or that lost too much by it."""


@dataclass(frozen=True)
class Quantised:
    """What became of a network, on windows that did not calibrate it.

    Args:
        path (Path): The file.
        calibrated (int): Windows that the ranges were taken from.
        checked (int): Windows that the two were compared on.
        kept (float): Share of their pixels that kept the class.
        float_bytes (int): Size of the float32 file.
        int8_bytes (int): Size of the other.
        float_seconds (float): CPU time of a window in float32, the median.
        int8_seconds (float): Of the other, likewise.
        scores (tuple[float], optional): mIoU in percent of float32 and of
            the other; None without labels.
    """

    path: Path
    calibrated: int
    checked: int
    kept: float
    float_bytes: int
    int8_bytes: int
    float_seconds: float
    int8_seconds: float
    scores: tuple[float, float] | None = None

    def __str__(self) -> str:
        text = (
            f'int8: {self.int8_bytes / 2**20:.1f} MiB '
            f'(float32 {self.float_bytes / 2**20:.1f}), same class '
            f'{self.kept:.2%} in {self.checked} windows, CPU s '
            f'{self.int8_seconds:.3f} (float32 {self.float_seconds:.3f})'
        )
        if self.scores is not None:
            before, after = self.scores
            text += f', mIoU {after:.2f} (float32 {before:.2f})'
        return text


def quantise_onnx(
    source: str | Path,
    path: str | Path,
    scenes: Sequence[str | Path],
    scene: str | Path | None = None,
    labels: str | Path | None = None,
    windows: int = 64,
    keep: float = KEEP,
    force: bool = False,
) -> Quantised:
    """Write a network whose convolutions compute in bytes, and check it.

    Static: ranges of activations are the extremes over windows of
    ``scenes``. Weights have a scale per channel; convolutions and products
    with weights compute in bytes, except those that make the logits; all
    else stays as it is. The file appears once it has passed the check.

    Args:
        source (str | Path): Of ``export_onnx``, float32.
        path (str | Path): File to write.
        scenes (Sequence[str | Path]): Files that calibrate; of the training
            set.
        scene (str | Path, optional): File that the two are compared on;
            better another one. Defaults to other windows of ``scenes``.
        labels (str | Path, optional): Label map of ``scene``, class ids; 255
            does not count. For the scores.
        windows (int): To calibrate on, and at most to compare on.
        keep (float): Share of pixels that have to keep their class.
        force (bool): Whether to write the file even if they do not.

    Returns:
        Quantised: What was written, and how it compares.

    Raises:
        QuantisationError: If too few pixels keep their class, or options make
            no sense.
        ImportError: If a package of the extra ``onnx`` is missing.
        RasterError: If a scene cannot be read or is smaller than a window.
    """
    source, path = Path(source), Path(path)
    _check_options(path, scenes, scene, labels, windows)
    segmentor = OnnxSegmentor(source)
    share = -(-windows // len(scenes))
    session = Session(source)
    feeds = chain.from_iterable(
        spread_windows(segmentor, one, share, 0.25) for one in scenes
    )
    reader = _Reader(session, feeds)
    with replacing(path) as partial:
        _quantise(source, partial, reader)
        found = _compare(
            segmentor,
            (session, Session(partial)),
            path,
            [scene] if scene is not None else scenes,
            labels,
            windows,
            reader.count,
        )
        if found.kept < keep and not force:
            raise QuantisationError(
                f'{path} was not written: in int8 only {found.kept:.2%} of '
                f'the pixels keep their class, {keep:.2%} are wanted; '
                'calibrate on more windows or on scenes more like these, '
                'keep float32 or --fp16, or force it'
            )
    return found


def spread_windows(
    segmentor: OnnxSegmentor, scene: str | Path, count: int, phase: float
) -> Iterator[tuple[Window, dict[str, np.ndarray]]]:
    """Read windows from all over a scene, which do not overlap.

    Args:
        segmentor (OnnxSegmentor): Tells size and views of windows.
        scene (str | Path): A file.
        count (int): At most.
        phase (float): From 0 to 1; other windows with another one, as long
            as there are many more than ``count``.

    Yields:
        tuple[Window, dict[str, np.ndarray]]: Where it lies, and inputs of the
        network by name, a batch of one.

    Raises:
        RasterError: If the scene cannot be read or is smaller than a window.
    """
    raster = segmentor.loader().open(str(scene))
    size = segmentor.settings.crop_size
    plan = TilePlan(raster.shape, size, size)
    if tuple(plan.window_size) != tuple(size):
        raise RasterError(
            raster.name,
            f'is {raster.shape[0]} x {raster.shape[1]} pixels, smaller than '
            f'a window of {size[0]} x {size[1]}; give a larger scene',
        )
    count = min(count, len(plan))
    chosen = {int((i + phase) * len(plan) / count) for i in range(count)}
    batches = read_batches(
        raster,
        plan,
        segmentor.views,
        1,
        (0, raster.shape[0]),
        tensors=False,
    )
    for i, batch in enumerate(batches):
        if i in chosen:
            inputs = {name: x[None] for name, x in batch.inputs[0].items()}
            for name, box in batch.boxes[0].items():
                inputs[f'box_{name}'] = np.array([box], np.float32)
            yield batch.windows[0], inputs


def _check_options(
    path: Path,
    scenes: Sequence[str | Path],
    scene: str | Path | None,
    labels: str | Path | None,
    windows: int,
) -> None:
    """Refuse what makes no sense before minutes are spent."""
    if path.suffix != '.onnx' or not path.parent.is_dir():
        raise QuantisationError(
            f'{path}: expected a name that ends in .onnx, in a folder that '
            'is there'
        )
    if not scenes:
        raise QuantisationError(
            'int8 needs scenes to calibrate on; give some of the training set'
        )
    if labels is not None and scene is None:
        raise QuantisationError(
            f'labels {labels}: give the scene that they belong to, too'
        )
    if windows < 1:
        raise QuantisationError(f'windows={windows}: expected 1 or more')


class _Reader:
    """Hands windows to onnxruntime, one by one.

    Args:
        session (Session): Brings them to its types.
        windows (Iterator): From :func:`spread_windows`.
    """

    def __init__(
        self,
        session: Session,
        windows: Iterator[tuple[Window, dict[str, np.ndarray]]],
    ) -> None:
        self._session, self._windows = session, windows
        self.count = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; None after the last one."""
        found = next(self._windows, None)
        if found is None:
            return None
        self.count += 1
        return self._session.feed(found[1])


def _quantise(source: Path, path: Path, reader: _Reader) -> None:
    """Write the quantised network."""
    onnx = import_onnx('onnx')
    quantisation = import_onnx('onnxruntime.quantization')
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), TemporaryDirectory() as folder:
        prepared = Path(folder) / 'prepared.onnx'
        # Joins batch norms and constants; symbolic shapes need SymPy, and
        # say nothing more about a network of fixed rank.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared)
        quantisation.quantize_static(
            graph,
            path,
            reader,
            quant_format=quantisation.QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            activation_type=quantisation.QuantType.QUInt8,
            weight_type=quantisation.QuantType.QInt8,
            nodes_to_exclude=_kept_float(graph),
            calibrate_method=quantisation.CalibrationMethod.MinMax,
        )
    quantised = onnx.load(path)
    if foreign := foreign_operators(quantised):
        raise QuantisationError(
            f'onnxruntime quantises with operators that are not of ONNX: '
            f'{foreign}'
        )
    known = {p.key: p.value for p in onnx.load(source).metadata_props}
    onnx.helper.set_model_props(quantised, known)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what onnxruntime advises, and warns of what is done here."""
    runtime = import_onnx('onnxruntime')
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    runtime.set_default_logger_severity(3)
    try:
        yield
    finally:
        log.setLevel(level)
        # The default, which cannot be asked for.
        runtime.set_default_logger_severity(2)


def _kept_float(graph: Any) -> list[str]:
    """Return names of nodes that make the logits, or multiply activations.

    Those with weights after which no other one follows.
    """
    weights = {one.name for one in graph.graph.initializer}
    kept = []
    # Tensors from which another node with weights is reached.
    leads_on: set[str] = set()
    for node in reversed(graph.graph.node):
        with_weights = node.op_type in _WITH_WEIGHTS and any(
            name in weights for name in node.input
        )
        followed = any(name in leads_on for name in node.output)
        if with_weights or followed:
            leads_on.update(node.input)
        if node.op_type in _WITH_WEIGHTS and not (with_weights and followed):
            kept.append(node.name)
    return kept


def _compare(
    segmentor: OnnxSegmentor,
    sessions: tuple[Session, Session],
    path: Path,
    scenes: Sequence[str | Path],
    labels: str | Path | None,
    windows: int,
    calibrated: int,
) -> Quantised:
    """Run both on windows that did not calibrate."""
    truth = None if labels is None else open_raster(str(labels), (1,))
    classes = max(segmentor.out_channels, 2)
    counts = [np.zeros((classes, classes), np.int64) for _ in sessions]
    kept, seconds = [], []
    share = -(-windows // len(scenes))
    for scene in scenes:
        for window, inputs in spread_windows(segmentor, scene, share, 0.75):
            maps, times = zip(*(_classes(s, inputs) for s in sessions))
            kept.append(float((maps[0] == maps[1]).mean()))
            seconds.append(times)
            if truth is not None:
                # Metrics need MMSegmentation.
                from ..evaluation import confusion_matrix

                wanted = truth.read(window)[..., 0]
                for count, found in zip(counts, maps):
                    count += confusion_matrix(found, wanted, classes)
    of_float, of_int8 = np.median(seconds, axis=0)
    return Quantised(
        path,
        calibrated,
        len(kept),
        float(np.mean(kept)),
        *(session.path.stat().st_size for session in sessions),
        float(of_float),
        float(of_int8),
        None if truth is None else tuple(map(_mean_iou, counts)),
    )


def _classes(
    session: Session, inputs: dict[str, np.ndarray]
) -> tuple[np.ndarray, float]:
    """Return class ids (h, w) of a window, and the CPU time."""
    begin = time.process_time()
    logits = session.run(inputs)[0]
    seconds = time.process_time() - begin
    return decide(logits, session.known.get('threshold')), seconds


def _mean_iou(counts: np.ndarray) -> float:
    """Return the mean over the classes that occur, in percent."""
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    occurs = union > 0
    return float(100 * (counts.diagonal()[occurs] / union[occurs]).mean())

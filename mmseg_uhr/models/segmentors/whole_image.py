"""Whole images through dual-resolution models, some rows at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...rasters import Raster, as_raster
from ...streaming.rows import decide, label_dtype
from ..backbones.dual_resolution import DualResolutionEncoder
from ..layers.enlarging import Enlargement, enlargement_of
from ..layers.striped_fusion import stripe_fusions
from ..layers.stripes import stripes_wanted
from ..layers.striping import LocalStep, Made, Tap, find_reach, local_steps

# Side of the image on which a model shows what it does with its maps, pixels.
_TRIAL = 128
# Pixels per row of the finest map of the heads.
_FINE = 8
_INSTEAD = "leave it out, or use mode='stream'"


def stripe_prediction(model: nn.Module, rows: int) -> None:
    """Let a dual-resolution model predict whole images in stripes of rows.

    Rows are read, normalised and sent through the shallow network some at a
    time, each layer of it keeping the few rows that it will need again; the
    deep network sees all of the small copy. What heads and necks make of a
    shallow map first is made along with it, and the map itself is dropped.
    Then fusions on the fine grid run in stripes, and rows of logits are
    enlarged and become classes before the next ones are. Logits are those of
    the model, up to rounding.

    ``test_step``, ``val_step`` and ``predict`` give label maps as in stream
    mode: ``uint8`` on the CPU, without ``seg_logits``. ``encode_decode``
    still returns logits at full size. While training, nothing changes.

    Args:
        model (nn.Module): An ``EncoderDecoder`` with a
            :class:`DualResolutionEncoder`; changed in place. Its state dict
            stays as it is.
        rows (int): Rows of the image at a time; 512 is a good choice.

    Raises:
        ValueError: If ``rows`` is no positive integer, or the model or a
            layer of its shallow network is not made for that.
    """
    option = f'test_cfg.stripe_rows={rows!r}'
    if type(rows) is not int or rows < 1:
        raise ValueError(
            f'{option}: expected a number of rows of the image, such as 512'
        )
    problem = _obstacle(model)
    if problem:
        raise ValueError(f'{option}: {problem}; {_INSTEAD}')
    with _evaluating(model):
        try:
            striped = _StripedPrediction(model, rows)
        except ValueError as error:
            raise ValueError(f'{option}: {error}; {_INSTEAD}') from None
    # Twice the coarse rows: even.
    stripe_fusions(model, 2 * max(rows // (2 * _FINE), 1))
    model.test_step = model.val_step = striped.test_step
    model.predict = striped.predict
    model.encode_decode = striped.encode_decode


def _obstacle(model: nn.Module) -> str | None:
    """Tell why a model cannot predict in stripes, if so."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, DualResolutionEncoder):
        return (
            f'backbone {type(backbone).__name__} is no '
            'mmseg_uhr.DualResolutionEncoder'
        )
    if not hasattr(backbone.shallow, 'local_steps'):
        return (
            f'backbone.shallow {type(backbone.shallow).__name__} is not made '
            'of local layers (it has no local_steps())'
        )
    if len(getattr(model, 'views', ())) > 1:
        return 'the model has several views'
    head = model.decode_head
    for name in ('predict', 'predict_by_feat'):
        own = getattr(type(head), name, None)
        if own is not getattr(BaseDecodeHead, name):
            return f'decode_head {type(head).__name__} has its own {name}'
    return None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to eval mode for the time of the context."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


class _StripedPrediction:
    """How a model predicts whole images.

    Args:
        model (nn.Module): In eval mode.
        rows (int): Rows of the image at a time.
    """

    def __init__(self, model: nn.Module, rows: int) -> None:
        self._model = model
        self._rows = rows
        self._stock = {
            name: getattr(model, name)
            for name in ('test_step', 'predict', 'encode_decode')
        }
        channels = _channels_of(model)
        self._steps = local_steps(
            model.backbone.shallow, channels, 'backbone.shallow'
        )
        self._taps = _find_taps(model, channels)

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict a batch from a dataloader, image by image.

        Args:
            data (dict): ``inputs``, rasters or raw images (C, H, W), and
                optionally ``data_samples``.

        Returns:
            list[SegDataSample]: With ``pred_sem_seg``, (1, H, W).
        """
        if self._model.training:
            return self._stock['test_step'](data)
        samples = data.get('data_samples')
        if samples is None:
            samples = [SegDataSample() for _ in data['inputs']]
        for image, sample in zip(data['inputs'], samples, strict=True):
            with torch.no_grad():
                self._predict(*self._reader(image, sample), sample)
        return list(samples)

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Predict images that have been preprocessed.

        Args:
            inputs (Tensor): Shape (N, C, H, W).
            data_samples (list[SegDataSample], optional): Their metainfo.

        Returns:
            list[SegDataSample]: As :meth:`test_step`.
        """
        if self._model.training:
            return self._stock['predict'](inputs, data_samples)
        samples = data_samples or [SegDataSample() for _ in inputs]
        for image, sample in zip(inputs.split(1), samples, strict=True):
            with torch.no_grad():
                self._predict(_rows_of(image), image.shape[2:], sample)
        return list(samples)

    def encode_decode(
        self, inputs: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        """Predict the logits of images.

        Args:
            inputs (Tensor): Preprocessed images (N, C, H, W).
            batch_img_metas (list[dict]): Their metainfo.

        Returns:
            Tensor: Logits (N, classes, H, W).
        """
        if not stripes_wanted(self._model):
            return self._stock['encode_decode'](inputs, batch_img_metas)
        logits = self._logits(_rows_of(inputs), inputs.shape[2])
        head = self._model.decode_head
        return head.predict_by_feat(logits, batch_img_metas)

    def _reader(
        self, image: Tensor | Raster | Any, sample: SegDataSample
    ) -> tuple[Callable[[int, int], Tensor], Sequence[int]]:
        """Return what makes preprocessed rows of an image, and its size."""
        preprocessor = self._model.data_preprocessor
        if getattr(preprocessor, 'test_cfg', None):
            # It pads the image, which only the whole can be.
            if not isinstance(image, Tensor):
                image = as_raster(image).read_tensor()
            done = preprocessor(
                dict(inputs=[image], data_samples=[sample]), False
            )
            # Of a copy, which knows the padding.
            sample.set_metainfo(done['data_samples'][0].metainfo)
            return _rows_of(done['inputs']), done['inputs'].shape[2:]
        if isinstance(image, Tensor):
            size = image.shape[1:]
            part = _part_of(image)
        else:
            raster = as_raster(image)
            size = raster.shape

            def part(top: int, bottom: int) -> Tensor:
                return raster.read_tensor((top, 0, bottom - top, size[1]))

        def read(top: int, bottom: int) -> Tensor:
            data = dict(
                inputs=[part(top, bottom)], data_samples=[SegDataSample()]
            )
            return preprocessor(data, False)['inputs']

        return read, size

    def _predict(
        self,
        read: Callable[[int, int], Tensor],
        size: Sequence[int],
        sample: SegDataSample,
    ) -> None:
        """Give a sample the label map of an image.

        Args:
            read (Callable): Makes preprocessed rows (1, C, h, W), from the
                first to the one before the last number.
            size (Sequence[int]): ``(H, W)`` of the image.
            sample (SegDataSample): Gets ``pred_sem_seg``.
        """
        logits = self._logits(read, size[0])
        labels = self._decide(logits, size, sample.metainfo)
        sample.pred_sem_seg = PixelData(data=labels[None])

    def _logits(
        self, read: Callable[[int, int], Tensor], height: int
    ) -> Tensor:
        """Return the logits of an image as the head makes them."""
        model = self._model
        maps = model.backbone.forward_rows(
            read, height, self._rows, self._steps, self._taps
        )
        if model.with_neck:
            maps = model.neck(maps)
        return model.decode_head(maps)

    def _decide(
        self, logits: Tensor, size: Sequence[int], meta: Mapping[str, Any]
    ) -> Tensor:
        """Do what stock does with logits, and choose the classes.

        Args:
            logits (Tensor): (1, classes, h, w).
            size (Sequence[int]): ``(H, W)`` of the preprocessed image.
            meta (Mapping): Metainfo: padding, flip and ``ori_shape``.

        Returns:
            Tensor: Class ids on the CPU, of shape ``ori_shape``.
        """
        model = self._model
        padding = meta.get('img_padding_size', meta.get('padding_size'))
        left, right, top, bottom = padding or (0, 0, 0, 0)
        height, width = size[0] - top - bottom, size[1] - left - right
        flip = meta.get('flip') and meta.get('flip_direction')
        enlargement = enlargement_of(
            logits, size, model.decode_head.align_corners
        )

        def rows(start: int, stop: int) -> Tensor:
            if flip == 'vertical':
                start, stop = height - stop, height - start
            found = enlargement.enlarge(logits, top + start, top + stop)
            found = found[..., left : left + width]
            if flip:
                found = found.flip(3 if flip == 'horizontal' else 2)
            return found

        target = tuple(meta.get('ori_shape', (height, width)))[:2]
        resized = None
        if target != (height, width):
            resized = Enlargement(
                height,
                target,
                model.align_corners,
                logits.dtype,
                logits.device,
            )
        dtype = getattr(torch, label_dtype(logits.shape[1]))
        labels = torch.empty(target, dtype=dtype)
        threshold = getattr(model.decode_head, 'threshold', None)
        for start in range(0, target[0], self._rows):
            stop = min(start + self._rows, target[0])
            if resized is None:
                found = rows(start, stop)
            else:
                stripe = resized.stripe(start, stop)
                found = stripe.enlarge(
                    rows(stripe.source.start, stripe.source.stop)
                )
            labels[start:stop] = decide(found[0], threshold).cpu()
        return labels


def _rows_of(images: Tensor) -> Callable[[int, int], Tensor]:
    """Return what takes rows of images (N, C, H, W)."""
    return lambda top, bottom: images[:, :, top:bottom]


def _part_of(image: Tensor) -> Callable[[int, int], Tensor]:
    """Return what takes rows of an image (C, H, W)."""
    return lambda top, bottom: image[:, top:bottom]


def _channels_of(model: nn.Module) -> int:
    """Return how many channels an image has."""
    mean = getattr(model.data_preprocessor, 'mean', None)
    return 3 if mean is None else len(mean)


def _find_taps(model: nn.Module, channels: int) -> list[list[LocalStep]]:
    """Find the layers that read nothing but one of the shallow maps.

    Where all that reads a map are such layers, and what they make of it is
    smaller, the map needs not exist. The model predicts a small image for
    that, to tell which modules read which map.

    Args:
        model (nn.Module): In eval mode; the layers are changed so that they
            take a :class:`Made` in place of a map.
        channels (int): Of the image.

    Returns:
        list[list[LocalStep]]: For each shallow map its layers, which may be
        none.
    """
    like = next(model.parameters())
    maps = model.backbone(like.new_zeros(1, channels, _TRIAL, _TRIAL))
    count = sum(kept for _, kept in model.backbone.shallow.local_steps())
    taps = []
    readers = _readers(model, maps)
    for index in range(count):
        taps.append(_taps_of(maps[index], readers[index]))
        if not taps[index]:
            continue
        forwards = [(tap.layer, tap.layer.forward) for tap in taps[index]]
        made = Made(
            [(tap.layer, tap.layer(maps[index])) for tap in taps[index]]
        )
        for layer, _ in forwards:
            layer.forward = Tap(layer)
        try:
            _decode(model, (*maps[:index], made, *maps[index + 1 :]))
        except (AttributeError, TypeError):
            # Something else reads the map too.
            for layer, forward in forwards:
                layer.forward = forward
            taps[index] = []
    return taps


def _decode(model: nn.Module, maps: tuple) -> Tensor:
    """Run what follows the backbone."""
    return model.decode_head(model.neck(maps) if model.with_neck else maps)


def _readers(model: nn.Module, maps: tuple) -> list[dict[str, nn.Module]]:
    """Return the outermost modules that get one map and nothing else."""
    found: list[dict[str, nn.Module]] = [{} for _ in maps]
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, args: tuple, name: str = name) -> None:
            for index, x in enumerate(maps):
                inside = any(name.startswith(f'{n}.') for n in found[index])
                if len(args) == 1 and args[0] is x and not inside:
                    found[index][name] = module

        handles.append(module.register_forward_pre_hook(note))
    try:
        _decode(model, maps)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _taps_of(x: Tensor, readers: Mapping[str, nn.Module]) -> list[LocalStep]:
    """Return the readers of a map, if they make less of it and are local."""
    steps, made = [], 0
    for name, layer in readers.items():
        try:
            reach, channels = find_reach(layer, x.shape[1], name)
        except ValueError:
            return []
        steps.append(LocalStep(layer, reach, True))
        made += channels
    return steps if made < x.shape[1] else []

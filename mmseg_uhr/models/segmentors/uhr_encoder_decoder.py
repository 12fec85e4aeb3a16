"""Encoder-decoder whose prediction memory does not grow with the image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

import torch
from mmcv.cnn import ConvModule
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor

from ...rasters import Raster, TensorRaster, as_raster
from ...registry import MODELS
from ...streaming import StreamSettings, WindowBatch, stream_labels
from ...tiling import parse_views

MODES = ('whole', 'slide', 'stream')


@MODELS.register_module()
class UHREncoderDecoder(EncoderDecoder):
    """Stock ``EncoderDecoder`` that can also stream.

    Takes the arguments of :class:`mmseg.models.EncoderDecoder` and has its
    state-dict keys, so any stock config and checkpoint works after a change
    of the ``type``. With ``test_cfg=dict(mode='stream', crop_size=(h, w),
    stride=(h, w), batch_size=1, blend='uniform')`` windows are read lazily,
    preprocessed on the device, predicted in batches and blended in a band of
    rows; only a label map of one byte per pixel is kept. With
    ``blend='uniform'`` that map is stock slide mode's. ``mode='whole'`` and
    ``'slide'`` do what they do in stock.

    Batch norms behind the convolutions of mmcv's ``ConvModule`` are folded
    into the weights while predicting; results differ from stock by rounding.

    Args:
        *args: As stock.
        views (dict[str, dict], optional): What the network sees of a window
            besides its pixels, see :class:`~mmseg_uhr.tiling.View`; use the
            same in the pipeline's ``ReadViews``. A network with views gets
            ``dict[str, Tensor]`` instead of a tensor.
        **kwargs: As stock.

    Raises:
        ValueError: If ``test_cfg`` or ``views`` make no sense.
    """

    def __init__(
        self, *args: Any, views: dict | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        # While predicting, mmcv then scales the weights instead of the maps.
        for module in self.modules():
            if isinstance(module, ConvModule):
                module.turn_on_efficient_conv_bn_eval()
        self.views = parse_views(views)
        mode = (self.test_cfg or {}).get('mode', 'whole')
        if mode not in MODES:
            raise ValueError(
                f'test_cfg.mode={mode!r}: expected one of {MODES}'
            )
        if mode == 'stream':
            StreamSettings.from_test_cfg(self.test_cfg)

    @property
    def streams(self) -> bool:
        """bool: Whether ``test_cfg.mode`` is ``'stream'``."""
        return (self.test_cfg or {}).get('mode') == 'stream'

    def loss(self, inputs: Any, data_samples: list[SegDataSample]) -> dict:
        """Compute the losses of a batch.

        Args:
            inputs (Tensor | dict[str, Tensor]): Preprocessed images
                (N, C, H, W).
            data_samples (list[SegDataSample]): With labels of any integer
                type; they travel as ``uint8`` and become ``int64`` here, on
                the device.

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        for sample in data_samples:
            sample.gt_sem_seg.data = sample.gt_sem_seg.data.long()
        return super().loss(inputs, data_samples)

    def encode_decode(
        self, inputs: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        """Predict the logits of windows.

        Args:
            inputs (Tensor): Preprocessed windows (N, C, H, W).
            batch_img_metas (list[dict]): Their metainfo, ``img_shape``.

        Returns:
            Tensor: Logits (N, classes, H, W).
        """
        head = self.decode_head
        if type(head).predict is not BaseDecodeHead.predict:
            return super().encode_decode(inputs, batch_img_metas)
        # What stock does, without its features while logits are enlarged.
        logits = head(self.extract_feat(inputs))
        return head.predict_by_feat(logits, batch_img_metas)

    def val_step(self, data: dict) -> list[SegDataSample]:
        """Predict a batch from a dataloader, see :meth:`test_step`."""
        return self.test_step(data)

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict a batch from a dataloader.

        Args:
            data (dict): ``inputs``, a list of rasters or of raw images
                (C, H, W), and optionally ``data_samples``.

        Returns:
            list[SegDataSample]: With ``pred_sem_seg``, a label map (1, H, W);
            in stream mode ``uint8`` on the CPU and without ``seg_logits``.
        """
        if self.streams:
            rasters = [as_raster(source) for source in data['inputs']]
            return self._predict_rasters(
                rasters, data.get('data_samples'), preprocess=True
            )
        images = [
            source.read_tensor() if isinstance(source, Raster) else source
            for source in data['inputs']
        ]
        return super().test_step({**data, 'inputs': images})

    def predict(
        self,
        inputs: Tensor,
        data_samples: list[SegDataSample] | None = None,
    ) -> list[SegDataSample]:
        """Predict images that have been preprocessed.

        Args:
            inputs (Tensor): Shape (N, C, H, W).
            data_samples (list[SegDataSample], optional): Their metainfo.

        Returns:
            list[SegDataSample]: As :meth:`test_step`.
        """
        if not self.streams:
            return super().predict(inputs, data_samples)
        rasters = [TensorRaster(image) for image in inputs]
        return self._predict_rasters(rasters, data_samples, preprocess=False)

    def stream(
        self, source: Union[Raster, Any], preprocess: bool = True
    ) -> Iterator[tuple[int, Tensor]]:
        """Predict a scene of any size, row band by row band.

        Args:
            source (Raster | str | np.ndarray | Tensor): See
                :func:`~mmseg_uhr.rasters.as_raster`; bands in the order that
                the data preprocessor expects.
            preprocess (bool): Whether to run the data preprocessor on each
                batch of windows. Defaults to True.

        Yields:
            tuple[int, Tensor]: First row, and finished rows (h, W) of class
            ids on the CPU.
        """
        yield from stream_labels(
            as_raster(source),
            StreamSettings.from_test_cfg(self.test_cfg),
            self.views,
            lambda batch: self._predict_windows(batch, preprocess),
            getattr(self.decode_head, 'threshold', None),
        )

    def _predict_windows(self, batch: WindowBatch, preprocess: bool) -> Tensor:
        """Return the logits (n, C, h, w) of n windows of size (h, w)."""
        single = len(self.views) == 1
        inputs: Any = [
            views['local'] if single else views for views in batch.inputs
        ]
        seen = batch.inputs[0]['local'].shape[1:]
        if preprocess:
            samples = [SegDataSample() for _ in inputs]
            inputs = self.data_preprocessor(
                dict(inputs=inputs, data_samples=samples), False
            )['inputs']
        elif single:
            inputs = torch.stack(inputs)
        else:
            inputs = {
                name: torch.stack([views[name] for views in inputs])
                for name in self.views
            }
        # Heads scale their logits to `img_shape`. The preprocessor may have
        # padded the windows, which stays a matter of this method.
        local = inputs if single else inputs['local']
        shape = local.shape[2:]
        metas = [
            dict(
                img_shape=shape,
                pad_shape=shape,
                ori_shape=window[2:],
                window=window,
                view_boxes=boxes,
            )
            for window, boxes in zip(batch.windows, batch.boxes, strict=True)
        ]
        logits = self.encode_decode(inputs, metas)
        logits = logits[..., : seen[0], : seen[1]]
        size = batch.windows[0][2:]
        if tuple(seen) == size:
            return logits
        return resize(
            logits,
            size=size,
            mode='bilinear',
            align_corners=self.align_corners,
            warning=False,
        )

    def _predict_rasters(
        self,
        rasters: Sequence[Raster],
        data_samples: list[SegDataSample] | None,
        preprocess: bool,
    ) -> list[SegDataSample]:
        """Stream rasters into label maps on the host."""
        if data_samples is None:
            data_samples = [SegDataSample() for _ in rasters]
        for raster, sample in zip(rasters, data_samples, strict=True):
            label_map = None
            for y, rows in self.stream(raster, preprocess):
                if label_map is None:
                    label_map = rows.new_empty(raster.shape)
                label_map[y : y + len(rows)] = rows
            label_map = _undo_augmentation(label_map, sample.metainfo)
            sample.pred_sem_seg = PixelData(data=label_map[None])
        return list(data_samples)


def _undo_augmentation(label_map: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Bring the label map of a stock pipeline's image to its file's shape.

    Stock resizes and flips logits; here only labels are left, so resizing is
    nearest. Lazy rasters are never resized: give the ``local`` view a
    ``scale`` instead.
    """
    directions = {'horizontal': (1,), 'vertical': (0,)}
    if meta.get('flip'):
        label_map = label_map.flip(directions[meta['flip_direction']])
    shape = tuple(meta.get('ori_shape', label_map.shape))[:2]
    if label_map.shape == shape:
        return label_map
    print_log(
        f'The pipeline resized an image of {shape} to '
        f'{tuple(label_map.shape)} before streaming: its label map is resized '
        'back by nearest neighbour. Drop the Resize and give the model '
        'views=dict(local=dict(scale=...)) to resize logits instead.',
        logger='current',
        level=30,
    )
    resized = torch.nn.functional.interpolate(
        label_map[None, None].float(), size=shape, mode='nearest-exact'
    )
    return resized[0, 0].to(label_map.dtype)

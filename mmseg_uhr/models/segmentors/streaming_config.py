"""What has to change in a model's config so that it streams."""

from mmengine.config import ConfigDict
from mmseg.models import (
    CascadeEncoderDecoder,
    EncoderDecoder,
    MultimodalEncoderDecoder,
)
from mmseg.registry import MODELS

from ...streaming.settings import check_sides
from .streaming_segmentor import StreamingSegmentor
from .uhr_encoder_decoder import (
    UHRCascadeEncoderDecoder,
    UHREncoderDecoder,
    UHRMultimodalEncoderDecoder,
)

# Stock segmentors and what streams in their place.
STREAMING_TYPES = {
    EncoderDecoder: UHREncoderDecoder,
    CascadeEncoderDecoder: UHRCascadeEncoderDecoder,
    MultimodalEncoderDecoder: UHRMultimodalEncoderDecoder,
}
# For models whose config predicts images whole: windows that a model trained
# on common crops can digest, pixels, and their step as a share of them.
_CROP_SIZE, _STEP = (1024, 1024), 2 / 3


def streaming_type(cfg: ConfigDict) -> type | None:
    """Return the class of a segmentor that streams, with the same weights.

    Args:
        cfg (ConfigDict): Of a segmentor, ours or stock.

    Returns:
        type | None: None if there is no such class.
    """
    kind = cfg.type if isinstance(cfg.type, type) else MODELS.get(cfg.type)
    kind = STREAMING_TYPES.get(kind, kind)
    if kind is None or not issubclass(kind, StreamingSegmentor):
        return None
    return kind


def streaming_config(cfg: ConfigDict) -> ConfigDict:
    """Return the config of a model that streams.

    Args:
        cfg (ConfigDict): Of a model, ours or stock.

    Returns:
        ConfigDict: In stream mode, of ours where the type was stock's.

    Raises:
        ValueError: If a model of this type cannot stream, or the windows make
            no sense.
    """
    cls = streaming_type(cfg)
    if cls is None:
        raise ValueError(
            f'model.type={cfg.type!r} cannot stream: expected '
            f'{", ".join(stock.__name__ for stock in STREAMING_TYPES)} of '
            'MMSegmentation, a type of mmseg_uhr, or a class of your own with '
            'StreamingSegmentor before its stock base. Test-time augmentation '
            'needs no model of its own: set model.test_cfg.tta and '
            'model.test_cfg.tta_scales'
        )
    test_cfg = ConfigDict(cfg.get('test_cfg') or {})
    if test_cfg.get('mode', 'whole') == 'whole':
        crop_size = test_cfg.setdefault('crop_size', _CROP_SIZE)
        check_sides('crop_size', crop_size)
        test_cfg.setdefault(
            'stride', tuple(round(side * _STEP) for side in crop_size)
        )
    test_cfg.mode = 'stream'
    # Another way, of whole images.
    test_cfg.pop('stripe_rows', None)
    return ConfigDict(
        cfg, type=cls, test_cfg=test_cfg, train_cfg=None, pretrained=None
    )

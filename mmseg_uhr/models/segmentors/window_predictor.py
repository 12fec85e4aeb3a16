"""From windows of a scene to their logits."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor

from ...streaming import StreamSettings, WindowBatch
from ...streaming.augmentation import average_predictions, scaled
from ...tiling import SYMMETRIES, Symmetry
from ...tiling.views import LOCAL

if TYPE_CHECKING:
    from .streaming_segmentor import StreamingSegmentor


class WindowPredictor:
    """Predicts the windows of one scene.

    Each window is preprocessed once, seen at every scale and in every
    symmetry of the settings' test-time augmentation, and the logits are
    averaged. Views of the whole scene that the backbone encodes
    (``encode_context``) are preprocessed and encoded once per scene, scale
    and symmetry.

    Args:
        model (StreamingSegmentor): In eval mode.
        settings (StreamSettings): With ``tta`` and ``tta_scales``.
        preprocess (bool): Whether to run the model's data preprocessor.
    """

    def __init__(
        self,
        model: 'StreamingSegmentor',
        settings: StreamSettings,
        preprocess: bool,
    ) -> None:
        self._model = model
        self._settings = settings
        self._preprocess = preprocess
        self._once = [
            name
            for name, view in model.views.items()
            if view.whole_scene and model.encodes_contexts
        ]
        self._encoded: dict[tuple[str, float, Symmetry], Any] = {}

    def __call__(self, batch: WindowBatch) -> Tensor:
        """Predict a batch.

        Args:
            batch (WindowBatch): Of n windows of size (h, w).

        Returns:
            Tensor: Logits (n, C, h, w).
        """
        if self._once and not self._encoded:
            self._encode_scene(batch)
        views = self._prepare(
            batch,
            [name for name in self._model.views if name not in self._once],
        )
        with _same_random_numbers(views[LOCAL].device):
            logits = average_predictions(
                views, self._settings, partial(self._predict_turned, batch)
            )
        # The preprocessor may have padded the windows, which stays a matter
        # of this method.
        seen = batch.inputs[0][LOCAL].shape[1:]
        logits = logits[..., : seen[0], : seen[1]]
        size = batch.windows[0][2:]
        if tuple(seen) == size:
            return logits
        return resize(
            logits,
            size=size,
            mode='bilinear',
            align_corners=self._model.align_corners,
            warning=False,
        )

    def _prepare(
        self, batch: WindowBatch, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Normalise and stack views: (n, C, h, w) by name."""
        raw = {name: [one[name] for one in batch.inputs] for name in names}
        if not self._preprocess:
            return {name: torch.stack(pixels) for name, pixels in raw.items()}
        preprocessor = self._model.data_preprocessor
        sent = {
            name: _send(pixels, preprocessor.device)
            for name, pixels in raw.items()
        }
        count = len(batch.inputs)
        if len(self._model.views) == 1:
            inputs = sent[LOCAL]
        else:
            inputs = [
                {name: pixels[i] for name, pixels in sent.items()}
                for i in range(count)
            ]
        samples = [SegDataSample() for _ in range(count)]
        found = preprocessor(dict(inputs=inputs, data_samples=samples), False)
        found = found['inputs']
        return {LOCAL: found} if isinstance(found, Tensor) else found

    def _encode_scene(self, batch: WindowBatch) -> None:
        """Encode the views of the whole scene, for all windows to come."""
        first = batch.part(0, 1)
        views = self._prepare(first, [LOCAL, *self._once])
        encoded = {}
        execution = self._model.execution
        for scale in self._settings.tta_scales:
            for symmetry in SYMMETRIES[self._settings.tta]:
                for name in self._once:
                    pixels = symmetry.apply(scaled(views[name], scale))
                    with execution.autocast(pixels.device):
                        encoded[name, scale, symmetry] = (
                            self._model.backbone.encode_context(
                                name, execution.arrange(pixels)
                            )
                        )
        self._encoded = encoded

    def _predict_turned(
        self,
        batch: WindowBatch,
        views: dict[str, Tensor],
        scale: float,
        symmetry: Symmetry,
    ) -> Tensor:
        """Predict windows that were scaled, mirrored and turned."""
        model = self._model
        turned = {
            name: model.execution.arrange(pixels)
            for name, pixels in views.items()
        }
        for name in self._once:
            turned[name] = self._encoded[name, scale, symmetry]
        metas = _metas(batch, turned[LOCAL].shape[2:], symmetry, turned)
        inputs = turned[LOCAL] if len(model.views) == 1 else turned
        inputs = model.with_boxes(inputs, metas)
        return model.execution(model, inputs, metas)


@contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    """Let a network that draws numbers (SegNeXt) draw the same ones again.

    So its predictions depend on the windows alone, not on what was predicted
    before them.
    """
    # Not `torch.random.fork_rng`, which takes ten times as long.
    generator = torch.default_generator
    if device.type == 'cuda':
        generator = torch.cuda.default_generators[device.index]
    state = generator.get_state()
    generator.manual_seed(0)
    try:
        yield
    finally:
        generator.set_state(state)


def _send(pixels: list[Tensor], device: torch.device) -> list[Tensor]:
    """Bring views from the host to a GPU while that computes."""
    if device.type != 'cuda' or pixels[0].device.type != 'cpu':
        return pixels
    shape = len(pixels), *pixels[0].shape
    pinned = torch.empty(shape, dtype=pixels[0].dtype, pin_memory=True)
    torch.stack(pixels, out=pinned)
    return list(pinned.to(device, non_blocking=True))


def _metas(
    batch: WindowBatch,
    shape: torch.Size,
    symmetry: Symmetry,
    names: Iterable[str],
) -> list[dict]:
    """Make the metainfo of windows seen at a shape in a symmetry."""
    boxes = {
        name: symmetry.apply_to_boxes(
            torch.tensor([one[name] for one in batch.boxes])
        ).tolist()
        for name in names
    }
    # Heads scale their logits to `img_shape`.
    return [
        dict(
            img_shape=shape,
            pad_shape=shape,
            ori_shape=window[2:],
            window=window,
            view_boxes={name: tuple(boxes[name][i]) for name in boxes},
        )
        for i, window in enumerate(batch.windows)
    ]

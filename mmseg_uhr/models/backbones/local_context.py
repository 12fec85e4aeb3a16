"""A network for the window, and networks for what lies around it."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor

from ...registry import MODELS
from ...tiling.views import LOCAL
from ..layers.context_fusion import EncodedContext

# Key of the inputs, besides the views: boxes (N, 4) of the windows by view.
BOXES = 'view_boxes'


@MODELS.register_module()
class LocalContextEncoder(BaseModule):
    """Encode windows and their contexts.

    Args:
        local (dict): Config of the backbone of windows.
        contexts (dict[str, dict] | Sequence[str]): Configs of the backbones
            of contexts by the names of the views; only names with ``share``.
            None of them: the backbone of windows alone.
        frozen (bool): Whether the backbones of contexts stay as
            they are loaded: no gradients, evaluation mode also in training.
        share (bool): Whether contexts are encoded by the backbone of windows.
        return_image (bool): Whether the window itself follows as the very
            last output, for heads that look at its pixels.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If contexts are to be both shared and frozen, or names are
            missing.
    """

    def __init__(
        self,
        local: dict,
        contexts: Mapping[str, dict] | Sequence[str] = (),
        frozen: bool = False,
        share: bool = False,
        return_image: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if share and frozen:
            raise ValueError(
                'LocalContextEncoder share=True, frozen=True: the shared '
                'backbone is trained on windows; choose one of the two'
            )
        if bool(contexts) and share == isinstance(contexts, Mapping):
            raise ValueError(
                f'LocalContextEncoder contexts={contexts!r}: expected names '
                'with share=True, else the config of a backbone for each name'
            )
        if LOCAL in contexts:
            raise ValueError(
                f'LocalContextEncoder contexts has {LOCAL!r}, which is the '
                'name of the window; rename the context'
            )
        self.local = MODELS.build(local)
        self.names = tuple(contexts)
        self.frozen = frozen
        self.return_image = return_image
        # MMEngine's: its init_weights reaches the backbones.
        self.contexts = ModuleDict(
            {}
            if share
            else {name: MODELS.build(contexts[name]) for name in contexts}
        )
        if frozen:
            self.contexts.requires_grad_(False)
            self.contexts.eval()

    def train(self, mode: bool = True) -> 'LocalContextEncoder':
        """Set the mode; frozen backbones stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.contexts.eval()
        return self

    def encode_context(self, name: str, x: Tensor) -> EncodedContext:
        """Encode a context once, for many windows.

        Args:
            name (str): Of the view.
            x (Tensor): Its pixels, preprocessed (N, C, h, w).

        Returns:
            EncodedContext: May stand in the inputs in place of the pixels.
        """
        encoder = self.contexts[name] if self.contexts else self.local
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and not self.frozen
        ):
            return EncodedContext(encoder(_once(x))[-1])

    def forward(
        self, inputs: Mapping[str, Tensor | EncodedContext] | Tensor
    ) -> tuple[Tensor | EncodedContext, ...]:
        """Encode windows and contexts.

        Args:
            inputs (Mapping[str, Tensor | EncodedContext] | Tensor): Views
                (N, C, h, w) by name, with ``'local'`` for the window. A
                context may be of batch 1, which all windows share, or encoded
                already. ``'view_boxes'`` may hold the boxes of the windows in
                the contexts by name, tensors (N, 4). A tensor if there are no
                contexts.

        Returns:
            tuple: Maps of the window from fine to coarse, then each context
            as an :class:`EncodedContext`, then, with ``return_image``, the
            window.

        Raises:
            ValueError: If a view is missing.
        """
        if isinstance(inputs, Tensor):
            inputs = {LOCAL: inputs}
        missing = [n for n in (LOCAL, *self.names) if n not in inputs]
        if missing:
            raise ValueError(
                f'LocalContextEncoder has got the views {sorted(inputs)} but '
                f'not {missing}; give model.views and the ReadViews of the '
                'pipeline the same views'
            )
        local = inputs[LOCAL]
        raw = {
            name: inputs[name]
            for name in self.names
            if not isinstance(inputs[name], EncodedContext)
        }
        if self._together(local, raw):
            maps, encoded = self._encode_together(local, raw)
        else:
            encoded = {n: self.encode_context(n, x) for n, x in raw.items()}
            maps = self.local(local)
        boxes = inputs.get(BOXES, {})
        contexts = [
            encoded[name] if name in encoded else inputs[name]
            for name in self.names
        ]
        return (
            *maps,
            *(
                context._replace(box=boxes.get(name, context.box))
                for name, context in zip(self.names, contexts)
            ),
            *((local,) if self.return_image else ()),
        )

    def _together(self, local: Tensor, raw: Mapping[str, Tensor]) -> bool:
        """Tell whether one pass may encode all views.

        In training batch norm should see the statistics that it will have
        later, those of all views.
        """
        return (
            self.training
            and not self.contexts
            and bool(raw)
            and all(x.shape == local.shape for x in raw.values())
        )

    def _encode_together(
        self, local: Tensor, raw: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], dict[str, EncodedContext]]:
        """Encode views of one size by one backbone."""
        maps = self.local(torch.cat((local, *raw.values())))
        n = len(local)
        parts = maps[-1].split(n)[1:]
        encoded = {
            name: EncodedContext(part) for name, part in zip(raw, parts)
        }
        return [x[:n] for x in maps], encoded


def _once(x: Tensor) -> Tensor:
    """Drop the copies of an expanded batch."""
    return x[:1] if x.shape[0] > 1 and x.stride(0) == 0 else x

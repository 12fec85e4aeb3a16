"""Normalising and stacking of one view or several."""

from collections.abc import Mapping

from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from ...registry import MODELS
from ...tiling.views import LOCAL


@MODELS.register_module()
class UHRDataPreProcessor(SegDataPreProcessor):
    """Stock preprocessor that also takes several views of a window.

    A sample's input is a tensor (C, h, w), treated as stock does, or a dict
    of such tensors by view name. The views of one name are normalised and
    stacked to (N, C, h, w); labels belong to the ``'local'`` view and are
    padded with it.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, pad and stack a batch.

        Args:
            data (dict): ``inputs``, a list of tensors or of dicts of
                tensors, or a dict of lists, which MMEngine's dataloaders
                make of the latter; and ``data_samples``.
            training (bool): Whether labels are to be padded too.

        Returns:
            dict: ``inputs``, a tensor or a dict of tensors, and
            ``data_samples``.
        """
        inputs = data['inputs']
        if isinstance(inputs, Mapping):
            rows = zip(*inputs.values(), strict=True)
            inputs = [dict(zip(inputs, row)) for row in rows]
        if not isinstance(inputs[0], Mapping):
            return super().forward(data, training)
        result = super().forward(
            {**data, 'inputs': [views[LOCAL] for views in inputs]}, training
        )
        stacked = {LOCAL: result['inputs']}
        for name in inputs[0]:
            if name == LOCAL:
                continue
            # Contexts carry no labels and have one size already.
            view = {
                'inputs': [views[name] for views in inputs],
                'data_samples': [SegDataSample() for _ in inputs],
            }
            stacked[name] = super().forward(view, training=False)['inputs']
        result['inputs'] = stacked
        return result

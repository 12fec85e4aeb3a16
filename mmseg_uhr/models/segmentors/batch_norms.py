"""Batch norms behind convolutions, done by the convolutions' weights."""

from collections.abc import Iterator

from mmcv.cnn import ConvModule, fuse_conv_bn
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn


def scale_weights_on_the_fly(model: nn.Module) -> None:
    """Let mmcv scale the weights instead of the maps while predicting.

    Training and state-dict keys stay as they are.

    Args:
        model (nn.Module): Changed in place.
    """
    for module in _foldable(model):
        module.turn_on_efficient_conv_bn_eval()


def fold_batch_norms(model: nn.Module) -> None:
    """Scale the weights for good; the model cannot be trained any more.

    Only where mmcv's ``ConvModule`` tells that the norm follows the
    convolution: in a network of another order, fusing by the order of
    attributes, as mmcv does, is wrong.

    Args:
        model (nn.Module): In eval mode; changed in place.
    """
    for module in _foldable(model):
        module.turn_on_efficient_conv_bn_eval(False)
        fuse_conv_bn(module)


def _foldable(model: nn.Module) -> Iterator[ConvModule]:
    """Find pairs of a plain convolution and a batch norm with statistics."""
    for module in model.modules():
        if (
            isinstance(module, ConvModule)
            and module.with_norm
            and ('conv', 'norm') in zip(module.order, module.order[1:])
            and isinstance(module.norm, _BatchNorm)
            and module.norm.track_running_stats
            and module.norm.affine
            # Others do more than convolve with their weights: pad, or
            # normalise the weights first.
            and type(module.conv).forward is nn.Conv2d.forward
        ):
            yield module

"""Names that several released code bases give to the same parts."""

Rule = tuple[str, str]

# Units of STDC's first four stages, in the released order, and their place
# in stock STDCNet.
_STDC_UNITS = ('0', '1', '2.0', '2.1', '3.0', '3.1')
# ISDNet and SGHRQ store their slices of that network once more.
_STDC_SLICES = ('x2', 'x4', 'x8', 'x8', 'x16', 'x16')


def stdc_rules(old: str, new: str, slices: bool = False) -> list[Rule]:
    """Rules for the first four stages of the authors' STDC network.

    Args:
        old (str): Regular expression in front of ``features.``.
        new (str): Our name in front of ``stages.``.
        slices (bool): Whether the names are those of the slices that ISDNet
            and SGHRQ store besides.

    Returns:
        list[tuple[str, str]]: For
        :func:`~mmseg_uhr.apis.conversion.convert_state`.
    """
    rules = []
    for i, (unit, part) in enumerate(zip(_STDC_UNITS, _STDC_SLICES)):
        name = (
            rf'{old}{part}\.0\.{i}\.' if slices else rf'{old}features\.{i}\.'
        )
        ours = f'{new}stages.{unit}.'
        rules += [
            (name + r'conv_list\.', ours + 'layers.'),
            (name + r'avd_layer\.0\.', ours + 'downsample.conv.'),
            (name + r'avd_layer\.1\.', ours + 'downsample.bn.'),
            (name, ours),
        ]
    return rules


def super_resolution_rules(old: str, new: str) -> list[Rule]:
    """Rules for the super-resolution decoder of ISDNet, SGHRQ and HLRC.

    Args:
        old (str): Regular expression in front of the decoder's parts.
        new (str): Our name of the auxiliary head, with a dot.

    Returns:
        list[tuple[str, str]]: For
        :func:`~mmseg_uhr.apis.conversion.convert_state`.
    """
    enlarging = [
        (rf'{old}conv{i + 1}\.', f'{new}sr_decoder.{i}.') for i in range(3)
    ]
    return [
        *enlarging,
        (rf'{old}conv_sr\.conv_bn_relu\.', f'{new}sr_decoder.3.'),
        (rf'{old}conv_sr\.conv_out\.', f'{new}sr_image.'),
    ]


def class_head_rules(old: str, conv: str, classifier: str) -> list[Rule]:
    """Rules for a head of a 3x3 and a 1x1 convolution.

    Args:
        old (str): Regular expression in front of its two parts.
        conv (str): Our name of the first, with a dot.
        classifier (str): Our name of the second, with a dot.

    Returns:
        list[tuple[str, str]]: For
        :func:`~mmseg_uhr.apis.conversion.convert_state`.
    """
    return [
        (rf'{old}conv_bn_relu\.', conv),
        (rf'{old}conv_out\.', classifier),
    ]


def efficientvit_rules(old: str, new: str) -> list[Rule]:
    """Rules for EfficientViT as its authors (MIT-HAN) name its parts.

    Args:
        old (str): Regular expression in front of ``input_stem.`` and
            ``stages.``; without groups.
        new (str): Our name of the network, with a dot or empty.

    Returns:
        list[tuple[str, str]]: For
        :func:`~mmseg_uhr.apis.conversion.convert_state`.
    """
    stem = rf'{old}input_stem\.op_list\.'
    block, ours = rf'{old}stages\.(\d+)\.op_list\.(\d+)\.', r'stages.\1.\2.'
    local, context = rf'{block}local_module\.', rf'{block}context_module\.'
    parts = [
        (rf'{stem}0\.', 'stem.conv.'),
        (rf'{stem}1\.main\.depth_conv\.', 'stem.depthwise.'),
        (rf'{stem}1\.main\.point_conv\.', 'stem.pointwise.'),
        (rf'{context}main\.qkv\.conv\.', f'{ours}attention.qkv.'),
        (rf'{context}main\.aggreg\.0\.', f'{ours}attention.aggregate.'),
        (rf'{context}main\.proj\.', f'{ours}attention.project.'),
    ]
    for prefix, place in ((block, ours), (local, f'{ours}mbconv.')):
        parts += [
            (rf'{prefix}main\.inverted_conv\.', f'{place}expand.'),
            (rf'{prefix}main\.depth_conv\.', f'{place}depthwise.'),
            (rf'{prefix}main\.point_conv\.', f'{place}project.'),
        ]
    rules = []
    for theirs, place in parts:
        rules += [
            (rf'{theirs}norm\.', f'{new}{place}bn.'),
            (theirs, f'{new}{place}'),
        ]
    return rules

"""Named protocols: what papers average when they print "mIoU"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Protocol:
    """Which labels count, and which classes make the mean.

    Classes are given by name, so that another order of ids changes nothing.

    Attributes:
        name (str): Of the protocol.
        num_classes (int, optional): Classes the data set must have. Any
            number by default.
        left_out (tuple[str, ...]): Classes that are not in the means. Their
            pixels count: what is predicted there is a false positive of the
            predicted class.
        dropped (tuple[str, ...]): Labels whose pixels do not count at all.
        tables (str): What papers print by it.
    """

    name: str = 'custom'
    num_classes: int | None = None
    left_out: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    tables: str = ''

    def ids(self, names: str, classes: Sequence[str]) -> tuple[int, ...]:
        """Find classes of the protocol in a data set.

        Args:
            names (str): ``'left_out'`` or ``'dropped'``.
            classes (Sequence[str]): Classes of the data set, by id.

        Returns:
            tuple[int, ...]: Their ids.

        Raises:
            ValueError: If the data set has no such class.
        """
        known = [name.lower() for name in classes]
        found = []
        for name in getattr(self, names):
            if name.lower() not in known:
                raise ValueError(
                    f'protocol {self.name!r}: no class {name!r} among the '
                    f'classes of the data set, {", ".join(classes)}; '
                    'correct metainfo.classes of the data set or choose '
                    'another protocol'
                )
            found.append(known.index(name.lower()))
        return tuple(found)

    def check(self, classes: Sequence[str]) -> None:
        """Refuse a data set that this protocol is not for.

        Args:
            classes (Sequence[str]): Classes of the data set, by id.

        Raises:
            ValueError: If their number is not the protocol's, if a class is
                missing, or if none is left for the means.
        """
        if self.num_classes not in (None, len(classes)):
            raise ValueError(
                f'protocol {self.name!r} is for {self.num_classes} classes, '
                f'but the data set has {len(classes)}: {", ".join(classes)}'
            )
        self.ids('dropped', classes)
        if not self.mean_ids(classes):
            raise ValueError(
                f'protocol {self.name!r} leaves out every class of the data '
                f'set, {", ".join(classes)}; leave out fewer'
            )

    def mean_ids(self, classes: Sequence[str]) -> tuple[int, ...]:
        """Return the ids of the classes that make the means.

        Args:
            classes (Sequence[str]): Classes of the data set, by id.

        Returns:
            tuple[int, ...]: Their ids, ascending.
        """
        left_out = self.ids('left_out', classes)
        return tuple(i for i in range(len(classes)) if i not in left_out)

    def describe(self, classes: Sequence[str]) -> str:
        """Tell in a line what the scores are.

        Args:
            classes (Sequence[str]): Classes of the data set, by id.

        Returns:
            str: For the log.
        """
        mean = self.mean_ids(classes)
        text = f'protocol {self.name}: means over {len(mean)} of '
        text += f'{len(classes)} classes'
        if self.left_out:
            text += f', without {", ".join(self.left_out)}'
        if self.dropped:
            return (
                f'{text}; pixels labelled {", ".join(self.dropped)} do not '
                'count'
            )
        return f'{text}; pixels of all classes count'


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            'deepglobe-6',
            num_classes=7,
            left_out=('unknown',),
            tables='DeepGlobe mIoU as GLNet, FCtL and MagNet compute it: '
            'unknown pixels are false positives of the predicted class',
        ),
        Protocol(
            'deepglobe-6-ignore',
            num_classes=7,
            left_out=('unknown',),
            dropped=('unknown',),
            tables='DeepGlobe mIoU with unknown pixels dropped, as SGHRQ and '
            'HLRC drop them; a little higher',
        ),
        Protocol(
            'inria-building',
            num_classes=2,
            left_out=('background',),
            tables='Inria: the IoU of building, which most tables print as '
            'mIoU',
        ),
        Protocol(
            'inria-2class',
            num_classes=2,
            tables='Inria: the mean of building and background; much higher',
        ),
        Protocol(
            'cityscapes-uhr',
            num_classes=19,
            tables='Cityscapes mIoU of the 19 classes, frames of 2048 x 1024',
        ),
        Protocol(
            'urur-8',
            num_classes=8,
            tables='URUR mIoU of all 8 classes, others included',
        ),
        Protocol(
            'fbp-24',
            num_classes=24,
            tables='Five-Billion-Pixels mIoU of the 24 classes; unlabeled '
            'pixels must have the ignored id',
        ),
    )
}
"""dict[str, Protocol]: The protocols that can be named."""


def others_for(classes: Sequence[str]) -> list[str]:
    """Name the protocols by which a data set's mean is not of all classes.

    Args:
        classes (Sequence[str]): Classes of the data set, by id.

    Returns:
        list[str]: Keys of ``PROTOCOLS``.
    """
    known = [name.lower() for name in classes]
    return [
        name
        for name, protocol in PROTOCOLS.items()
        if protocol.left_out
        and protocol.num_classes == len(classes)
        and set(protocol.left_out) <= set(known)
    ]


def as_protocol(spec: Union[str, dict, None]) -> Protocol | None:
    """Take a protocol from a config.

    Args:
        spec (str | dict, optional): A name of ``PROTOCOLS``, or fields of an
            own :class:`Protocol`.

    Returns:
        Protocol | None: The protocol, if one was given.

    Raises:
        ValueError: If the name or a field is unknown.
    """
    if spec is None:
        return None
    if isinstance(spec, str):
        if spec not in PROTOCOLS:
            raise ValueError(
                f'protocol={spec!r}: no such protocol; known: '
                f'{", ".join(PROTOCOLS)}; or give a dict, e.g. '
                "dict(left_out=['background'])"
            )
        return PROTOCOLS[spec]
    fields = Protocol.__dataclass_fields__
    unknown = sorted(set(spec) - set(fields))
    if unknown:
        raise ValueError(
            f'protocol: no field {", ".join(unknown)}; known: '
            f'{", ".join(fields)}'
        )
    names = {k: tuple(spec.get(k, ())) for k in ('left_out', 'dropped')}
    return Protocol(**{**spec, **names})

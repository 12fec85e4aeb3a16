"""What files of text make GDAL read besides themselves."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from .base import RasterError

# Of VRTs, elements and arguments that name a file.
_NAMING = re.compile(r'.*filename|.*dsname|.*dataset', re.I)
# Bytes: beyond, a VRT has a million sources, or is none.
_MAX_BYTES = 2**28
_WAY_OUT = (
    'it may do so only if you name it yourself, instead of its folder or a '
    'pattern'
)


def check_sources(path: str | Path) -> None:
    """Refuse a VRT that reads anything outside its own folder.

    GDAL opens whatever such a file names: other folders, addresses on the
    network. That is what one wants of a VRT of one's own, and not of a file
    that happened to lie in a folder. Other descriptions in XML, of services
    on the network, are refused as well. Files are told by their content, as
    GDAL does; all others pass.

    Args:
        path (str | Path): A local file.

    Raises:
        RasterError: If it does; names the file and what it would read.
    """
    folder = Path(os.path.abspath(path)).parent
    checked: set[Path] = set()
    waiting = [Path(os.path.abspath(path))]
    while waiting:
        file = waiting.pop()
        if file in checked or not file.is_file() or not _is_text(file):
            continue
        checked.add(file)
        for name, is_relative in _sources(str(path), file):
            source = Path(
                os.path.normpath(
                    (file.parent if is_relative else Path.cwd()) / name
                )
            )
            # What is no path, such as an address or part of a data set, is
            # no file either.
            if folder not in source.parents or not source.exists():
                raise RasterError(
                    str(path),
                    f'is no image but a description that makes GDAL read '
                    f'{name!r}, which is no file in its folder; {_WAY_OUT}',
                )
            waiting.append(source)


def _is_text(file: Path) -> bool:
    """Tell whether GDAL may take a file for text: XML above all.

    Formats of images have a zero among their first bytes; what is before it
    holds no XML.
    """
    with open(file, 'rb') as content:
        head = content.read(1024)
    text = head.split(b'\0')[0]
    return len(text) == len(head) or b'<' in text


def _sources(name: str, file: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a VRT names, and whether that is relative to it."""
    if file.stat().st_size > _MAX_BYTES:
        raise RasterError(name, f'{file} is too large for a VRT; {_WAY_OUT}')
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise RasterError(
            name,
            f'{file} is no image but text, and no VRT ({error}); {_WAY_OUT}',
        ) from error
    if root.tag.lower() != 'vrtdataset':
        raise RasterError(
            name,
            f'{file} is no image but describes a {root.tag}, a service on '
            f'the network perhaps; {_WAY_OUT}',
        )
    # Its own tag says that it is a data set.
    for element in root.iterfind('.//*'):
        # As it is: GDAL takes spaces for a part of the name.
        text = ''.join(element.itertext())
        names_file = _NAMING.fullmatch(element.tag) or _NAMING.fullmatch(
            element.get('name', '')
        )
        is_virtual = not len(element) and '/vsi' in text
        if text.strip() and (names_file or is_virtual):
            yield text, element.get('relativeToVRT', '0') != '0'

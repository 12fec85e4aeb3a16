"""Files of maps, made of finished parts."""

import json
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from ..rasters import GeoReference, GeoTIFFWriter
from ..rasters.copy import write_copy
from ..streaming.parts import PartStore

#: Tag of a map that names its run, see :func:`map_digest`.
RUN_TAG = 'MMSEG_UHR_RUN'


@dataclass(frozen=True)
class MapStyle:
    """What maps carry besides values.

    Args:
        classes (Sequence[str]): Names of the class ids.
        palette (Sequence[Sequence[int]], optional): RGB of the class ids.
        nodata (int, optional): Class id of pixels without data.
        probabilities (Sequence[str]): Names of the classes whose
            probabilities are wanted.
        cog (bool): Whether GeoTIFFs are cloud-optimised.
    """

    classes: Sequence[str]
    palette: Sequence[Sequence[int]] | None = None
    nodata: int | None = None
    probabilities: Sequence[str] = ()
    cog: bool = False


def layer_path(out: Path, layer: str) -> Path:
    """Return the file of a layer, beside the map.

    Args:
        out (Path): The map itself.
        layer (str): ``'labels'``, ``'probabilities'`` or ``'confidence'``.

    Returns:
        Path: ``out`` for labels, else ``<stem>.<layer>.tif``.
    """
    if layer == 'labels':
        return out
    return out.with_name(f'{out.stem}.{layer}.tif')


def map_digest(path: str | Path) -> str | None:
    """Tell which run made a map.

    Args:
        path (str | Path): Perhaps a map.

    Returns:
        str | None: The checksum of the run; None if there is no such file or
        it is no map of ours.
    """
    if not Path(path).is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return file.tags().get(RUN_TAG)
    except RasterioIOError:
        return None


def write_maps(
    store: PartStore,
    out: Path,
    georef: GeoReference | None,
    style: MapStyle,
    digest: str,
) -> None:
    """Write the maps of a scene whose parts are all there.

    Labels get their name last: where they are, the others are, too.

    Args:
        store (PartStore): The parts; they stay.
        out (Path): The map of labels; its suffix tells the format. Others
            lie beside it, as GeoTIFF, see :func:`layer_path`.
        georef (GeoReference, optional): Where the scene lies.
        style (MapStyle): Names and colours.
        digest (str): Of the run; stored as tag :data:`RUN_TAG`.

    Raises:
        RasterError: If a map cannot be written or a part not be read.
    """
    finals = {name: layer_path(out, name) for name in store.layers}
    drivers = {name: _driver(path, style) for name, path in finals.items()}
    # Other formats are copies: they cannot be written row by row.
    paths = {
        name: path if drivers[name] is None else store.folder / f'{name}.tif'
        for name, path in finals.items()
    }
    with ExitStack() as stack:
        # The one entered first is finished last.
        writers = {
            name: stack.enter_context(
                GeoTIFFWriter(
                    paths[name],
                    store.shape,
                    layer.bands or 1,
                    layer.dtype,
                    georef,
                    **_details(name, layer.dtype, style, digest),
                    # The COG driver makes its own.
                    overviews=drivers[name] is None,
                )
            )
            for name, layer in store.layers.items()
        }
        for start, part in store.read():
            for name, array in part.items():
                rows = array if array.ndim == 2 else array.transpose(1, 2, 0)
                writers[name].write_rows(start, rows)
    for name in reversed(store.layers):
        if drivers[name] is not None:
            write_copy(paths[name], finals[name], drivers[name])


def _driver(path: Path, style: MapStyle) -> str | None:
    """Return GDAL's name of a format that is made by copying."""
    if path.suffix.lower() == '.png':
        return 'PNG'
    return 'COG' if style.cog else None


def _details(
    name: str, dtype: str, style: MapStyle, digest: str
) -> dict[str, Any]:
    """Return what the writer puts beside the values."""
    tags = {RUN_TAG: digest}
    if name == 'probabilities':
        return dict(tags=tags, descriptions=list(style.probabilities))
    if name == 'confidence':
        return dict(tags=tags, descriptions=['confidence'])
    return dict(
        tags=dict(tags, CLASSES=json.dumps(list(style.classes))),
        palette=style.palette if dtype == 'uint8' else None,
        nodata=style.nodata,
        categorical=True,
    )

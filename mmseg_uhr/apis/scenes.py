"""Which scenes a call is about, and where their maps go."""

import glob
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..rasters import RasterError, RasterLike
from ..rasters.file import file_version
from ..rasters.vrt import check_sources

#: Suffixes of the files that are taken from a folder.
SUFFIXES = ('.tif', '.tiff', '.jp2', '.png', '.jpg', '.jpeg', '.vrt', '.img')
#: Suffixes of maps.
MAP_SUFFIXES = ('.tif', '.tiff', '.png')


class Scene(NamedTuple):
    """A scene and where its map goes.

    Args:
        image (RasterLike): What holds its pixels.
        out (Path, optional): The map to write; None: stays in memory.
    """

    image: RasterLike
    out: Path | None

    @property
    def name(self) -> str:
        """str: What to call it in messages."""
        if isinstance(self.image, (str, Path)):
            return str(self.image)
        return getattr(self.image, 'name', '<array>')


def is_one_scene(inputs: Any) -> bool:
    """Tell one scene from several, even if those happen to be one.

    Args:
        inputs (Any): See :func:`find_scenes`.

    Returns:
        bool: True for a file, an array, a tensor or a raster.
    """
    if isinstance(inputs, (str, Path)):
        path = Path(inputs)
        if _is_remote(inputs) or path.is_file():
            return path.suffix.lower() != '.txt'
        return not path.is_dir() and not glob.has_magic(str(inputs))
    return not isinstance(inputs, (list, tuple))


def find_scenes(
    inputs: RasterLike | Sequence[RasterLike],
    out: str | Path | None = None,
) -> list[Scene]:
    """List scenes and the files of their maps.

    Args:
        inputs (RasterLike | Sequence[RasterLike]): A file, array, tensor or
            raster; a list of these; a folder, of which all files with one of
            :data:`SUFFIXES` are taken; a pattern such as ``'scenes/*.tif'``;
            or a ``.txt`` file with one path per line.
        out (str | Path, optional): The map, if its suffix is one of
            :data:`MAP_SUFFIXES`, else a folder for ``<name>.tif``. Defaults
            to no files.

    Returns:
        list[Scene]: At least one; those of folders and patterns by name.

    Raises:
        RasterError: If a file is missing, or there are no scenes, or one that
            was not named itself would read files elsewhere.
        ValueError: If two maps would have one name, or one that of a scene.
    """
    images = _images(inputs)
    if out is None:
        return [Scene(image, None) for image in images]
    out = Path(out)
    if out.suffix and not out.is_dir():
        if out.suffix.lower() not in MAP_SUFFIXES:
            raise ValueError(
                f'{out}: maps are written as {", ".join(MAP_SUFFIXES)}; give '
                'such a name, or a folder'
            )
        if len(images) > 1:
            raise ValueError(
                f'{out}: one map for {len(images)} scenes; give a folder'
            )
        scenes = [Scene(images[0], out)]
    else:
        scenes = [
            Scene(image, out / f'{_stem(image, i)}.tif')
            for i, image in enumerate(images)
        ]
    _refuse_clashes(scenes)
    return scenes


def _images(inputs: Any) -> list[RasterLike]:
    """List what holds pixels."""
    if isinstance(inputs, (list, tuple)):
        images = list(inputs)
        if not images:
            raise ValueError('no scenes: the list is empty')
    elif is_one_scene(inputs):
        images = [inputs]
    else:
        images = _listed(Path(inputs))
    for image in images:
        if (
            isinstance(image, (str, Path))
            and not _is_remote(image)
            and not Path(image).is_file()
        ):
            raise RasterError(
                str(image), 'no such file; a folder must be given alone'
            )
    return images


def _listed(source: Path) -> list[str | Path]:
    """List the scenes of a folder, a list file or a pattern."""
    if source.is_dir():
        found = sorted(
            path
            for path in source.iterdir()
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        problem = f'the folder holds no scenes ({", ".join(SUFFIXES)})'
    elif source.is_file():
        lines = source.read_text().splitlines()
        # No paths: those would make one slash of the two in addresses.
        found = [line.strip() for line in lines if line.strip()]
        problem = 'the list is empty; give one path per line'
    else:
        found = sorted(map(Path, glob.glob(str(source), recursive=True)))
        problem = 'no file fits this pattern'
    if not found:
        raise RasterError(str(source), problem)
    if not source.is_file():
        # Nobody has named these.
        for path in found:
            check_sources(path)
    return found


def _is_remote(path: str | Path) -> bool:
    """Tell whether GDAL knows a path that the file system does not."""
    name = str(path)
    if '://' in name or name.startswith('/vsi'):
        return True
    # A part of a file, such as NETCDF:a.nc:red; patterns may look alike.
    with suppress(RasterError):
        return not glob.has_magic(name) and not file_version(name)
    return False


def _stem(image: RasterLike, index: int) -> str:
    """Return the name of a map without its suffix."""
    if isinstance(image, (str, Path)):
        return Path(image).stem
    return f'array-{index}'


def _refuse_clashes(scenes: Sequence[Scene]) -> None:
    """Refuse maps that would replace each other, or a scene."""
    taken: dict[Path, Scene] = {}
    for scene in scenes:
        other = taken.setdefault(scene.out.resolve(), scene)
        if other is not scene:
            raise ValueError(
                f'{other.name} and {scene.name} would both become '
                f'{scene.out}; rename one, or run them one by one'
            )
    for scene in scenes:
        if not isinstance(scene.image, (str, Path)):
            continue
        if Path(scene.image).resolve() in taken:
            raise ValueError(
                f'{scene.image}: a map would replace this scene; choose '
                'another --out (out=)'
            )


def refuse_replacing(scenes: Sequence[Scene], files: Sequence[Path]) -> None:
    """Refuse files that would replace a scene or its map.

    Args:
        scenes (Sequence[Scene]): To segment.
        files (Sequence[Path]): To write besides maps.

    Raises:
        ValueError: If one would; names it.
    """
    kept = {
        Path(file).resolve()
        for scene in scenes
        for file in scene
        if isinstance(file, (str, Path))
    }
    for file in files:
        if file.resolve() in kept:
            raise ValueError(
                f'{file}: would replace a scene or a map; choose another '
                'name or folder'
            )

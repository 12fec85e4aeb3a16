"""How a data set is described to the converter."""

import re
from dataclasses import dataclass, field
from typing import Any

from ..uhr_dataset import UHRDataset
from .decoding import Decoder

SPLITS = ('train', 'val', 'test')
"""In the order in which they are reported."""


class ConversionError(ValueError):
    """A download that cannot be converted as asked.

    Args:
        message (str): What was found, with counts and the first offenders,
            what was expected, and the way out.
    """


@dataclass(frozen=True)
class DataSetSpec:
    """What the official download of a data set looks like.

    Args:
        name (str): Name on the command line.
        title (str): A line for the help.
        layout (str): The expected files, for the help and for errors.
        dataset (type[UHRDataset]): Its class: gives classes, palette and,
            where the field agrees on lists, the splits.
        images (str): Regular expression of the images, searched in paths that
            begin with the name of the folder or archive. Named groups make
            the name of the scene; a group ``split`` tells its split.
        labels (str): The same of the label files.
        decoder (Decoder): From official label files to class ids.
        scene (str): Name of a scene from the groups. Defaults to ``'{id}'``.
        split_names (dict[str, str]): Split of what the group ``split`` holds,
            lower case, where they differ.
        split_table (dict[str, str]): Split of each scene, for sets whose
            files do not tell.
        image_out (str): Name of a converted image, without suffix.
        label_out (str): Name of a converted label map, without suffix.
        image_suffix (str): ``'.tif'``: images that cannot be read by window
            are made tiled GeoTIFF; else their own suffix, and they are linked.
        label_suffix (str): ``'.tif'`` or ``'.png'``.
        counts (dict[str, int]): Labelled scenes of each split, or of
            ``'all'``.
        sizes (tuple[tuple[int]]): Sizes ``(H, W)`` that images may have.
        certain (bool): Whether counts and sizes were verified; others only
            warn. Defaults to True.
        list_md5 (dict[str, str]): Checksums of the shipped split lists, of
            the sorted entries, one a line.
    """

    name: str
    title: str
    layout: str
    dataset: type[UHRDataset]
    images: str
    labels: str
    decoder: Decoder
    scene: str = '{id}'
    split_names: dict[str, str] = field(default_factory=dict)
    split_table: dict[str, str] = field(default_factory=dict)
    image_out: str = 'img_dir/{split}/{scene}'
    label_out: str = 'ann_dir/{split}/{scene}'
    image_suffix: str = '.tif'
    label_suffix: str = '.tif'
    counts: dict[str, int] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    certain: bool = True
    list_md5: dict[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """tuple[str]: Names of the classes."""
        return self.dataset.METAINFO['classes']

    @property
    def palette(self) -> list[list[int]]:
        """list[list[int]]: RGB of the classes."""
        return self.dataset.METAINFO['palette']

    def match(self, pattern: str, path: str) -> tuple[str, str | None] | None:
        """Tell which scene a file belongs to.

        Args:
            pattern (str): ``images`` or ``labels``.
            path (str): With ``/``, from the folder or archive on.

        Returns:
            tuple | None: Scene and split, None if unknown; None if the file
            is none of the kind.
        """
        found = re.search(pattern, path, re.IGNORECASE)
        if found is None:
            return None
        groups: dict[str, Any] = found.groupdict()
        split = groups.get('split')
        if split is not None:
            split = self.split_names.get(split.lower(), split.lower())
        scene = self.scene.format(**groups)
        return scene, self.split_table.get(scene, split)

"""Folders of large images with label maps."""

import os.path as osp
from collections.abc import Sequence
from importlib import resources

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS

# How many offending files an error message names.
_NAMED = 3


@DATASETS.register_module()
class UHRDataset(BaseSegDataset):
    """A folder of images and a folder of label maps of the same names.

    As stock ``BaseSegDataset``, for the lazy loading of this package: the
    files are GeoTIFF by default, every data info tells ``num_classes`` and
    ``ignore_index`` so that transforms can check label ids, missing files are
    found before the first iteration, and a split may be a list that comes
    with the package.

    Args:
        img_suffix (str): End of the image names. Defaults to ``'.tif'``.
        seg_map_suffix (str): End of the label names. Defaults to ``'.tif'``.
        split (str, optional): Name of a list in ``SPLIT_LISTS``: only its
            images are used, whatever else lies in the folders. Defaults to
            everything in the folders, or in ``ann_file``.
        **kwargs: Of ``BaseSegDataset``.

    Raises:
        FileNotFoundError: If a folder, a list, an image or a label map is
            missing, or no image is found.
        ValueError: If the split is unknown, or given beside ``ann_file``.
    """

    SPLIT_LISTS: dict[str, str] = {}
    """Split -> file in ``mmseg_uhr/datasets/splits``."""

    SPLIT_LIST_SUFFIX = ''
    """What entries of the lists have after the name of the scene."""

    def __init__(
        self,
        img_suffix: str = '.tif',
        seg_map_suffix: str = '.tif',
        split: str | None = None,
        **kwargs,
    ) -> None:
        if split is not None:
            self._check_split(split, kwargs.get('ann_file'))
        self.split = split
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs
        )

    @classmethod
    def split_names(cls, split: str) -> list[str]:
        """Return the scenes of a split that comes with the package.

        Args:
            split (str): A key of ``SPLIT_LISTS``.

        Returns:
            list[str]: Names of scenes, without suffix, in the list's order.
        """
        path = resources.files(__package__) / 'splits' / cls.SPLIT_LISTS[split]
        entries = path.read_text(encoding='ascii').split()
        return [name.removesuffix(cls.SPLIT_LIST_SUFFIX) for name in entries]

    def load_data_list(self) -> list[dict]:
        """List the images and their label maps.

        Returns:
            list[dict]: Data infos as of ``BaseSegDataset``, with
            ``ignore_index`` and, if the classes are known, ``num_classes``.
        """
        self._check_folders()
        if self.split is None:
            data_list = super().load_data_list()
        else:
            names = self.split_names(self.split)
            data_list = [self._data_info(name) for name in names]
        if not data_list:
            raise FileNotFoundError(self._describe_empty())
        self._check_files(data_list, 'img_path', self.img_suffix)
        self._check_files(data_list, 'seg_map_path', self.seg_map_suffix)
        for info in data_list:
            info['ignore_index'] = self.ignore_index
            if 'classes' in self.metainfo:
                info['num_classes'] = len(self.metainfo['classes'])
        return data_list

    def _check_split(self, split: str, ann_file: str | None) -> None:
        """Refuse a split that the package has no list of."""
        name = type(self).__name__
        if split not in self.SPLIT_LISTS:
            known = sorted(self.SPLIT_LISTS) or 'none'
            raise ValueError(
                f"{name}: split='{split}': no such list; known: {known}. "
                'Leave split out to use all images of the folders, or give '
                'ann_file, a text file with one name a line'
            )
        if ann_file:
            raise ValueError(
                f"{name}: both split='{split}' and ann_file='{ann_file}' "
                'are given; leave one out'
            )

    def _data_info(self, name: str) -> dict:
        """Make the data info of one scene."""
        folders = self.data_prefix
        info = dict(
            img_path=osp.join(folders['img_path'], name + self.img_suffix),
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
        )
        if folders.get('seg_map_path') is not None:
            info['seg_map_path'] = osp.join(
                folders['seg_map_path'], name + self.seg_map_suffix
            )
        return info

    def _check_folders(self) -> None:
        """Refuse a list or folders that do not exist."""
        name = type(self).__name__
        if self.ann_file and not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'{name}: no file {osp.abspath(self.ann_file)} '
                f"(data_root='{self.data_root}', ann_file); expected a text "
                'file with one image name a line, without suffix'
            )
        for key in ('img_path', 'seg_map_path'):
            folder = self.data_prefix.get(key)
            if folder is not None and not osp.isdir(folder):
                raise FileNotFoundError(
                    f'{name}: no folder {osp.abspath(folder)} '
                    f"(data_root='{self.data_root}', data_prefix.{key}); "
                    'prepare the data set or correct these paths; see '
                    'docs/en/datasets.md for the layout'
                )

    def _describe_empty(self) -> str:
        """Tell why there is no image."""
        name = type(self).__name__
        if self.ann_file:
            return (
                f'{name}: {self.ann_file} lists no image; expected one name '
                'a line, without suffix'
            )
        folder = self.data_prefix['img_path']
        files = sorted(
            fileio.list_dir_or_file(folder, list_dir=False, recursive=True)
        )
        return (
            f"{name}: 0 images with suffix '{self.img_suffix}' found in "
            f'{osp.abspath(folder)}, which holds {_first(files)}; put the '
            'images there or set img_suffix'
        )

    def _check_files(
        self, data_list: Sequence[dict], key: str, suffix: str
    ) -> None:
        """Refuse a list with files that do not exist."""
        paths = [info[key] for info in data_list if key in info]
        missing = [path for path in paths if not osp.isfile(path)]
        if not missing:
            return
        kind = 'images' if key == 'img_path' else 'label maps'
        option = 'img_suffix' if key == 'img_path' else 'seg_map_suffix'
        folder = osp.abspath(self.data_prefix[key])
        names = [osp.relpath(path, folder) for path in missing]
        advice = f'add the files or set {option}'
        if key == 'seg_map_path':
            advice += (
                ', or leave seg_map_path out of data_prefix if the images '
                'have no labels'
            )
        raise FileNotFoundError(
            f'{type(self).__name__}: of {len(paths)} {kind} with suffix '
            f"'{suffix}' in {folder}, there are missing {_first(names)}; "
            f'{advice}'
        )


def _first(names: Sequence[str]) -> str:
    """Count files and name the first, e.g. ``'9 files: a, b, c, ...'``."""
    if not names:
        return '0 files'
    listed = ', '.join(names[:_NAMED])
    more = ', ...' if len(names) > _NAMED else ''
    return f'{len(names)} file(s): {listed}{more}'

"""Look at a data set as training sees it: windows, views, labels, shares.

Draws windows of the data loader of a config, after all transforms, one sheet
each; with --stats also the shares of the classes, in the data set and in the
windows that training would draw. Validation and test data are drawn as whole
scenes.
"""

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

# Before its dependencies: it explains what is wrong with them.
import mmseg_uhr  # noqa: F401

# isort: split
import cv2
import numpy as np
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dataset import BaseDataset
from mmengine.registry import DATA_SAMPLERS, DATASETS, init_default_scope
from mmengine.runner import set_random_seed
from tqdm import tqdm

from mmseg_uhr.datasets.transforms import RandomWindow
from mmseg_uhr.datasets.transforms.class_index import class_pixels
from mmseg_uhr.datasets.transforms.labels import read_labels
from mmseg_uhr.rasters import Raster, open_raster
from mmseg_uhr.tiling.views import LOCAL
from mmseg_uhr.visualization import (
    as_rgb,
    fit_size,
    window_sheet,
    write_class_chart,
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split', choices=['train', 'val', 'test'], default='train'
    )
    parser.add_argument(
        '--number', type=int, default=8, help='of windows to draw (default 8)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder for the pictures (default: work_dirs/browse/CONFIG)',
    )
    parser.add_argument(
        '--stats', action='store_true', help='also draw statistics.png'
    )
    parser.add_argument(
        '--windows',
        type=int,
        default=500,
        help='windows to draw for the statistics, labels only (default 500)',
    )
    parser.add_argument(
        '--panel',
        type=int,
        default=420,
        help='longest side of a picture on a sheet in pixels (default 420)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides of the config as key=value, e.g. '
        'train_dataloader.dataset.data_root=data/mine',
    )
    args = parser.parse_args()
    if args.number < 0 or args.windows < 1 or args.panel < 16:
        parser.error('--number must be at least 0, --windows 1 and --panel 16')
    return args


def choose(
    loader: ConfigDict, dataset: BaseDataset, args: Any, seed: int
) -> list[int]:
    """Return indices in the order of training, or all scenes."""
    if args.split != 'train':
        return list(range(len(dataset)))
    sampler = DATA_SAMPLERS.build(
        loader.sampler, default_args=dict(dataset=dataset, seed=seed)
    )
    number = max(args.number, args.windows if args.stats else 0)
    return list(itertools.islice(sampler, number))


def views_of(inputs: Any, panel: int) -> dict[str, np.ndarray]:
    """Return the pictures of a packed sample by name, bands last."""
    if isinstance(inputs, Raster):
        return {'scene': inputs.read(size=fit_size(inputs.shape, panel))}
    if not isinstance(inputs, dict):
        inputs = {LOCAL: inputs}
    return {
        name: view.numpy().transpose(1, 2, 0) for name, view in inputs.items()
    }


def describe(sample: Any) -> tuple[str, str]:
    """Return the title and subtitle of a sample's sheet."""
    path = sample.get('img_path')
    height, width = sample.get('ori_shape')
    text = f'scene of {height} x {width} pixels'
    window = sample.get('window')
    if window is not None:
        y, x, h, w = window
        text = f'rows {y}-{y + h}, columns {x}-{x + w} of a {text}'
    return Path(path).name if path else 'scene', text


def draw_sample(packed: dict, meta: dict, panel: int) -> np.ndarray:
    """Draw the sheet of a packed sample, RGB."""
    sample = packed['data_samples']
    views = views_of(packed['inputs'], panel)
    boxes = sample.get('view_boxes') or {}
    labels = None
    if 'gt_sem_seg' in sample:
        labels = sample.gt_sem_seg.data.numpy()[0]
    lazy = isinstance(packed['inputs'], Raster)
    names = {
        name: name if lazy else _caption(name, view)
        for name, view in views.items()
    }
    return window_sheet(
        *describe(sample),
        {names[name]: as_rgb(view) for name, view in views.items()},
        labels,
        meta.get('classes'),
        meta.get('palette'),
        {names[name]: box for name, box in boxes.items() if name in names},
        panel,
    )


def _caption(name: str, view: np.ndarray) -> str:
    """Return the caption of a view: its name and size."""
    name = 'window' if name == LOCAL else name
    return f'{name}, {view.shape[0]} x {view.shape[1]}'


def draw_samples(dataset: BaseDataset, chosen: list[int], args: Any) -> None:
    """Write a sheet for each sample."""
    for i, index in enumerate(tqdm(chosen, 'Sheets', unit='sheet')):
        sheet = draw_sample(dataset[index], dataset.metainfo, args.panel)
        path = args.out / f'{args.split}_{i:03d}.png'
        if not cv2.imwrite(str(path), sheet[..., ::-1]):
            raise ValueError(f'{path}: the picture cannot be written')


def sample_pixels(
    dataset: BaseDataset, chosen: list[int], classes: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Count classes in windows as they would be drawn; reads labels only.

    Returns:
        tuple[np.ndarray] | None: Pixels of each class (C,), and the number of
        windows that have it (C,). None if no transform draws windows.
    """
    steps = dataset.pipeline.transforms
    drawing = [
        i for i, step in enumerate(steps) if isinstance(step, RandomWindow)
    ]
    if not drawing:
        return None
    pixels = np.zeros(classes, np.int64)
    windows = np.zeros(classes, np.int64)
    for index in tqdm(chosen, 'Windows', unit='window'):
        results = dataset.get_data_info(index)
        for step in steps[: drawing[0] + 1]:
            results = step(results)
        labels = read_labels(results, results['window'])
        found = np.bincount(labels.reshape(-1), minlength=256)
        ignored = results.get('ignore_index', 255)
        found[ignored] = 0
        pixels += found[:classes]
        windows += found[:classes] > 0
    return pixels, windows


def write_statistics(
    dataset: BaseDataset, chosen: list[int], args: Any
) -> None:
    """Count, print and draw the shares of the classes."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if any(info.get('seg_map_path') is None for info in infos):
        raise ValueError(
            f'--stats: {type(dataset).__name__} has scenes without label '
            'maps; set seg_map_path in its data_prefix'
        )
    pixels = class_pixels(infos)
    names = list(dataset.metainfo.get('classes') or ())
    if not names:
        count = int(np.flatnonzero(pixels.sum(0)).max(initial=0)) + 1
        names = [f'class {i}' for i in range(count)]
    pixels = pixels[:, : len(names)]
    areas = np.array([_area(info) for info in infos])
    ignored = areas - pixels.sum(1)
    sampled = None
    if args.split == 'train':
        sampled = sample_pixels(dataset, chosen, len(names))
    print_table(names, pixels, ignored, sampled, len(chosen))
    title = f'{type(dataset).__name__}, {args.split}'
    if sampled is not None:
        title += f': {len(chosen)} windows'
    write_class_chart(
        args.out / f'{args.split}_statistics.png',
        title,
        names,
        dataset.metainfo.get('palette') or None,
        [Path(info['img_path']).stem for info in infos],
        pixels,
        ignored,
        None if sampled is None else sampled[0],
    )


def _area(info: dict) -> int:
    """Return the pixels of a label map."""
    height, width = open_raster(info['seg_map_path'], (1,)).shape
    return height * width


def print_table(
    names: list[str],
    pixels: np.ndarray,
    ignored: np.ndarray,
    sampled: tuple[np.ndarray, np.ndarray] | None,
    number: int,
) -> None:
    """Print a line a class."""
    totals = pixels.sum(0)
    shares = 100 * totals / max(totals.sum(), 1)
    head = f'{"class":24} {"pixels":>14} {"share %":>9} {"scenes":>7}'
    if sampled is not None:
        head += f' {"sampled %":>10} {"in windows %":>13}'
        drawn = 100 * sampled[0] / max(sampled[0].sum(), 1)
    print(head)
    for i, name in enumerate(names):
        line = (
            f'{name:24} {totals[i]:14,} {shares[i]:9.3f} '
            f'{np.count_nonzero(pixels[:, i]):7}'
        )
        if sampled is not None:
            line += f' {drawn[i]:10.3f} {100 * sampled[1][i] / number:13.1f}'
        print(line)
    print(f'{"(ignored)":24} {ignored.sum():14,}')


def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    try:
        cfg = Config.fromfile(args.config)
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        if args.out is None:
            args.out = Path('work_dirs/browse') / Path(args.config).stem
        args.out.mkdir(parents=True, exist_ok=True)
        loader = cfg.get(f'{args.split}_dataloader')
        if loader is None:
            raise ValueError(f'{args.config} has no {args.split}_dataloader')
        dataset = DATASETS.build(loader.dataset)
        seed = cfg.get('randomness', {}).get('seed') or 0
        set_random_seed(seed)
        chosen = choose(loader, dataset, args, seed)
        draw_samples(dataset, chosen[: args.number], args)
        if args.stats:
            write_statistics(dataset, chosen, args)
    except (ValueError, TypeError, FileNotFoundError) as error:
        sys.exit(f'browse_dataset.py: {error}')
    print(f'Pictures in {args.out}')


if __name__ == '__main__':
    main()

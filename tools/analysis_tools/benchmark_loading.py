"""Cost of one training window: ours against stock load-and-RandomCrop.

Both pipelines deliver the same kind of sample from the same tiled GeoTIFF
scene and label map, in turns, in one process.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

import mmseg_uhr  # noqa: F401  registers the transforms
from mmseg_uhr.rasters import GeoTIFFWriter


def write_scene(folder: Path, side: int) -> dict:
    """Write an image that compresses like an aerial one, and labels."""
    rng = np.random.default_rng(0)
    paths = dict(
        img_path=str(folder / 'scene.tif'),
        seg_map_path=str(folder / 'labels.tif'),
    )
    with (
        GeoTIFFWriter(paths['img_path'], (side, side), bands=3) as image,
        GeoTIFFWriter(paths['seg_map_path'], (side, side)) as labels,
    ):
        for y in range(0, side, 256):
            coarse = rng.integers(0, 200, (16, side // 16 + 1, 3), np.uint8)
            rows = coarse.repeat(16, 0).repeat(16, 1)[: side - y, :side]
            noise = rng.integers(0, 40, rows.shape, np.uint8)
            image.write_rows(y, rows + noise)
            labels.write_rows(y, rows[..., 0] // 30)
    return dict(
        **paths, label_map=None, reduce_zero_label=False, seg_fields=[]
    )


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--side', type=int, default=5000)
    parser.add_argument('--crop', type=int, default=1024)
    parser.add_argument('--rounds', type=int, default=10)
    args = parser.parse_args()
    init_default_scope('mmseg')
    crop = (args.crop, args.crop)
    pipelines = dict(
        ours=[
            dict(type='mmseg_uhr.LoadRaster'),
            dict(type='mmseg_uhr.LoadLabelRaster'),
            dict(type='mmseg_uhr.RandomWindow', crop_size=crop),
            dict(type='mmseg_uhr.ReadViews'),
            dict(type='mmseg_uhr.PackUHRInputs'),
        ],
        stock=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomCrop', crop_size=crop),
            dict(type='PackSegInputs'),
        ],
    )
    pipelines = {name: Compose(steps) for name, steps in pipelines.items()}
    seconds = {name: [] for name in pipelines}
    with tempfile.TemporaryDirectory() as folder:
        results = write_scene(Path(folder), args.side)
        for _ in range(args.rounds):
            for name, pipeline in pipelines.items():
                start = time.process_time()
                pipeline(dict(results, seg_fields=[]))
                seconds[name].append(time.process_time() - start)
    print(f'{args.crop}^2 window of a tiled {args.side}^2 GeoTIFF, CPU ms')
    for name, times in seconds.items():
        print(f'{name:6} {1000 * median(times):8.1f}')
    ratios = [
        stock / ours
        for ours, stock in zip(seconds['ours'], seconds['stock'], strict=True)
    ]
    print(f'stock / ours {median(ratios):.1f} (median of pairs)')


if __name__ == '__main__':
    main()

"""Training windows per second: ours against stock load-and-RandomCrop.

Both read the same scenes through the same kind of data loader and deliver the
same kind of sample. Each format gets its scenes written once and linked under
many names, so that no loader can keep them all decoded. Measurements are
taken in turns and their medians printed.
"""

import argparse
import gc
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import rasterio
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rasterio.errors import NotGeoreferencedWarning

import mmseg_uhr  # noqa: F401  registers the types
from mmseg_uhr.rasters import write_geotiff

CLASSES = tuple('abcdefg')


def make_scene(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Make an image that compresses like an aerial one, and its labels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (side // 16 + 1, side // 16 + 1, 3))
    image = coarse.astype(np.uint8).repeat(16, 0).repeat(16, 1)
    image = image[:side, :side]
    labels = image[..., 0] // 30
    noise = rng.integers(0, 40, image.shape, np.uint8)
    return image + noise, labels


def write_strips(path: Path, pixels: np.ndarray) -> None:
    """Write a TIFF of uncompressed rows, as many programs do."""
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=pixels.shape[2],
        dtype=pixels.dtype,
        interleave='pixel',
    ) as file:
        file.write(pixels.transpose(2, 0, 1))


def write_with_opencv(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG or JPEG."""
    cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))


def write_png(path: Path, labels: np.ndarray) -> None:
    """Write a label map as PNG."""
    cv2.imwrite(str(path), labels)


FORMATS: dict[str, tuple[str, Callable, str, Callable]] = {
    'tiled GeoTIFF': ('.tif', write_geotiff, '.tif', write_geotiff),
    'strip TIFF': ('.tif', write_strips, '.tif', write_strips),
    'PNG': ('.png', write_with_opencv, '.png', write_png),
    'JPEG': ('.jpg', write_with_opencv, '.png', write_png),
}


def write_scenes(folder: Path, name: str, side: int, count: int) -> dict:
    """Write the scenes of a format; return the data set's arguments."""
    suffix, write_image, label_suffix, write_labels = FORMATS[name]
    image, labels = make_scene(side)
    for kind, end, write, pixels in (
        ('images', suffix, write_image, image),
        ('labels', label_suffix, write_labels, labels),
    ):
        (folder / kind).mkdir(parents=True)
        first = folder / kind / f'0{end}'
        write(first, pixels)
        for i in range(1, count):
            os.link(first, folder / kind / f'{i}{end}')
    return dict(
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix=suffix,
        seg_map_suffix=label_suffix,
        metainfo=dict(classes=CLASSES),
    )


def loaders(data: dict, crop: tuple[int, int], workers: int) -> dict:
    """Return the configs of the data loaders to compare."""
    common = dict(
        batch_size=1,
        num_workers=workers,
        collate_fn=dict(type='pseudo_collate'),
    )
    ours = dict(
        type='mmseg_uhr.UHRDataset',
        pipeline=[
            dict(type='mmseg_uhr.LoadRaster'),
            dict(type='mmseg_uhr.LoadLabelRaster'),
            dict(type='mmseg_uhr.RandomWindow', crop_size=crop),
            dict(type='mmseg_uhr.ReadViews'),
            dict(type='mmseg_uhr.PackUHRInputs'),
        ],
        **data,
    )
    stock = dict(
        type='BaseSegDataset',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomCrop', crop_size=crop),
            dict(type='PackSegInputs'),
        ],
        **data,
    )
    uniform = dict(type='InfiniteSampler', shuffle=True)
    balanced = dict(type='mmseg_uhr.WindowSampler', class_balanced=0.5)
    return {
        'stock': dict(dataset=stock, sampler=uniform, **common),
        'ours': dict(dataset=ours, sampler=uniform, **common),
        'ours, balanced': dict(dataset=ours, sampler=balanced, **common),
    }


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the workers that ended."""
    own, children = (
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return sum(u.ru_utime + u.ru_stime for u in (own, children))


def measure(config: dict, samples: int, seed: int) -> tuple[float, float]:
    """Return samples per second, and CPU seconds a sample."""
    loader = Runner.build_dataloader(config, seed=seed)
    # What the workers have prefetched must not count as fast.
    warm_up = 2 * max(config['num_workers'], 1)
    start_cpu = cpu_seconds()
    batches = iter(loader)
    for _ in range(warm_up):
        next(batches)
    start = time.perf_counter()
    for _ in range(samples):
        next(batches)
    seconds = time.perf_counter() - start
    # The workers end with it, some samples ahead of what was taken.
    del batches
    gc.collect()
    read = samples + 2 * warm_up
    return samples / seconds, (cpu_seconds() - start_cpu) / read


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--side', type=int, default=5000, help='of a scene')
    parser.add_argument('--crop', type=int, default=1224)
    parser.add_argument('--scenes', type=int, default=24)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--samples', type=int, default=24, help='a round')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--formats', nargs='+', choices=list(FORMATS), default=list(FORMATS)
    )
    args = parser.parse_args()
    init_default_scope('mmseg')
    warnings.simplefilter('ignore', NotGeoreferencedWarning)
    cv2.setNumThreads(1)
    print(
        f'{args.crop}^2 windows of {args.scenes} scenes of {args.side}^2, '
        f'{args.workers} workers, medians of {args.rounds} rounds of '
        f'{args.samples} samples\n\n'
        '| format | loader | samples/s | x stock | CPU s/sample |\n'
        '|---|---|---|---|---|',
        flush=True,
    )
    for name in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            data = write_scenes(
                Path(folder) / 'data', name, args.side, args.scenes
            )
            crop = (args.crop, args.crop)
            configs = loaders(data, crop, args.workers)
            start = time.perf_counter()
            Runner.build_dataloader(configs['ours, balanced'], seed=0)
            indexing = (time.perf_counter() - start) / args.scenes
            found = {loader: [] for loader in configs}
            for seed in range(args.rounds):
                for loader, config in configs.items():
                    found[loader].append(measure(config, args.samples, seed))
            stock = median(rate for rate, _ in found['stock'])
            for loader, results in found.items():
                rate, cpu = (median(values) for values in zip(*results))
                print(
                    f'| {name} | {loader} | {rate:.2f} | {rate / stock:.1f} '
                    f'| {cpu:.3f} |',
                    flush=True,
                )
            print(
                f'| {name} | class index, once | | | {indexing:.2f} s/scene |',
                flush=True,
            )


if __name__ == '__main__':
    main()

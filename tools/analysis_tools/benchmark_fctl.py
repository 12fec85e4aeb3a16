"""FCtL on one random image: the packaged network against a plain build.

Both have the same random weights. Each runs in a process of its own, one
after the other; printed are CPU seconds, the memory that the prediction added
to the process, and in how many pixels the label maps differ.
"""

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from naive_builds.fctl import NaiveFCtL, build_naive
from torch import nn

import mmseg_uhr  # noqa: F401  registers the types that configs name
from mmseg_uhr.memory import Meter

ROOT = Path(__file__).parents[2]
CONFIGS = {
    'deepglobe': 'fctl_vgg16-phase3_205k_deepglobe-508x508.py',
    'inria': 'fctl_vgg16-phase3_195k_inria-508x508.py',
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--variant', choices=CONFIGS, default='deepglobe')
    parser.add_argument(
        '--side', type=int, default=1424, help='of the square image, pixels'
    )
    parser.add_argument(
        '--batch-size', type=int, default=1, help='windows of the packaged one'
    )
    parser.add_argument(
        '--plain-batch-size',
        type=int,
        default=8,
        help='windows of the plain one; the authors test with 8',
    )
    return parser.parse_args()


def make_scene(side: int) -> np.ndarray:
    """Return smooth noise, ``uint8`` (side, side, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (side // 8 + 1,) * 2)
    image = np.kron(coarse, np.ones((8, 8), int))[:side, :side]
    return np.stack([image, image.T, image[::-1]], axis=2).astype(np.uint8)


def randomise(naive: NaiveFCtL) -> None:
    """Draw weights that keep the scale of activations."""
    torch.manual_seed(0)
    for parameter in naive.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            nn.init.normal_(parameter, std=0.1)


def copy_weights(naive: NaiveFCtL, model: nn.Module) -> None:
    """Give the packaged network the plain one's weights."""
    own, plain = model.state_dict(), naive.state_dict()
    pairs = {}
    for name, encoder in naive.encoders.items():
        place = 'local' if name == 'local' else f'contexts.{name}'
        keys = [k for k in own if k.startswith(f'backbone.{place}.stages.')]
        pairs.update(zip(keys, encoder.state_dict().values(), strict=True))
    fusion = 'decode_head.fusion.'
    order = naive.order
    for name in order:
        for leaf in ('query', 'key', 'value'):
            for end in ('weight', 'bias')[: 1 if leaf == 'value' else 2]:
                pairs[f'{fusion}correlations.{name}.{leaf}.{end}'] = plain[
                    f'attention.{name}.conv_{leaf}.{end}'
                ]
        pairs[f'{fusion}correlations.{name}.gamma'] = plain[
            f'attention.{name}.gamma'
        ]
    blocks = [order.index(name) for name in ('local', 'medium', 'large')]
    channels = torch.arange(1536).view(3, 512)[blocks].flatten()
    pairs[f'{fusion}gate.mix.weight'] = plain['trans.weight'][channels][
        :, channels
    ]
    pairs[f'{fusion}gate.mix.bias'] = plain['trans.bias'][channels]
    for end in ('weight', 'bias'):
        for i, name in enumerate(order):
            pairs[f'{fusion}gate.squeeze.{name}.{end}'] = plain[
                f'ins.{i}.{end}'
            ]
            pairs[f'{fusion}gate.split.{name}.{end}'] = plain[
                f'outs.{i}.{end}'
            ]
        for theirs, ours in (
            ('output.0', 'conv6'),
            ('output.3', 'conv7'),
            ('output.6', 'conv_seg'),
            ('adj_pool4', 'skip4'),
            ('adj_pool3', 'skip3'),
        ):
            pairs[f'decode_head.{ours}.{end}'] = plain[f'{theirs}.{end}']
    for theirs, ours in (
        ('up_output', 'up5'),
        ('up_pool4_out', 'up4'),
        ('up_final', 'up3'),
    ):
        pairs[f'decode_head.{ours}'] = plain[f'{theirs}.weight']
    model.load_state_dict(pairs, strict=True)


def run(which: str, args: argparse.Namespace, out: str) -> None:
    """Predict the image, print what it took and save the label map."""
    image = make_scene(args.side)
    naive = build_naive(args.variant)
    randomise(naive)
    if which == 'plain':
        with Meter() as meter:
            labels = naive.predict_image(
                image, batch_size=args.plain_batch_size
            )
    else:
        register_all_modules()
        config = Config.fromfile(
            ROOT / 'configs' / 'fctl' / CONFIGS[args.variant]
        ).model
        config.test_cfg.batch_size = args.batch_size
        model = MODELS.build(config).eval()
        copy_weights(naive, model)
        del naive
        # As pipelines read: blue first.
        source = np.ascontiguousarray(image[..., ::-1])
        with Meter() as meter:
            parts = [rows.labels for rows in model.stream(source)]
        labels = torch.cat(parts).numpy()
    np.save(out, labels.astype(np.uint8))
    print(
        f'{args.variant:<10} {args.side}²  {which:<9} '
        f'{meter.cpu_seconds:>8.1f} s {meter.host_mib:>7.0f} MiB',
        flush=True,
    )


def main() -> None:
    """Run both and compare."""
    args = parse_args()
    print(f'{torch.get_num_threads()} threads')
    context = multiprocessing.get_context('spawn')
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for which in ('plain', 'packaged'):
            out = str(Path(folder) / f'{which}.npy')
            process = context.Process(target=run, args=(which, args, out))
            process.start()
            process.join()
            found.append(np.load(out))
    differing = int((found[0] != found[1]).sum())
    print(
        f'{differing} of {found[0].size} pixels differ; '
        f'{len(np.unique(found[0]))} classes'
    )


if __name__ == '__main__':
    main()

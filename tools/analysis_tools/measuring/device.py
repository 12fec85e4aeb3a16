"""What a device is; a script, since asking for it takes memory of it."""

import argparse
import json
from pathlib import Path

import torch

from mmseg_uhr.apis.launch import pick_device


def main() -> None:
    """Write the name of a device, or why it cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('device', help='such as cuda:0')
    parser.add_argument('out', type=Path)
    args = parser.parse_args()
    try:
        device = pick_device(args.device)
    except ValueError as error:
        found = dict(problem=str(error))
    else:
        on_gpu = device.type == 'cuda'
        name = torch.cuda.get_device_name(device) if on_gpu else device.type
        found = dict(name=name)
    args.out.write_text(json.dumps(found))


if __name__ == '__main__':
    main()

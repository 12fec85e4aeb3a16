"""Downloads whose names lead out of the folder that is written."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmseg_uhr.datasets.converters import ConversionError, convert_own
from mmseg_uhr.datasets.converters.sources import list_source

NAMES = ('set/../../evil.png', '../evil.png', '/../evil.png', 'set/good.png')


def write_zip(path):
    with zipfile.ZipFile(path, 'w') as archive:
        for name in NAMES:
            archive.writestr(name, b'x')
    return path


def write_tar(path):
    with tarfile.open(path, 'w') as archive:
        for name in NAMES:
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b'x'))
        link = tarfile.TarInfo('set/link.png')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(link)
    return path


@pytest.mark.parametrize(
    'name, write', [('a.zip', write_zip), ('a.tar', write_tar)]
)
def test_members_outside_and_links_are_passed_over(tmp_path, name, write):
    (member,) = list_source(write(tmp_path / name))
    assert member.path == '/a/set/good.png'


def test_split_lists_name_no_files_elsewhere(tmp_path):
    for name in ('images/a', 'labels/a', 'evil'):
        path = tmp_path / f'{name}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    lists = tmp_path / 'lists'
    lists.mkdir()
    (lists / 'train.txt').write_text('a\n../evil\n')
    before = set(tmp_path.rglob('*'))
    with pytest.raises(ConversionError, match=r'without files: \.\./evil'):
        convert_own(
            tmp_path / 'images',
            tmp_path / 'labels',
            {'ground': 0},
            tmp_path / 'out' / 'set',
            split_lists=lists,
        )
    made = set(tmp_path.rglob('*')) - before
    assert all(tmp_path / 'out' in (p, *p.parents) for p in made)

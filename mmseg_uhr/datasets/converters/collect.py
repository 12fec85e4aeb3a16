"""Finding out what a download holds, before anything is converted."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .sources import Member, expand, list_source
from .spec import SPLITS, ConversionError, DataSetSpec

# How many offending files a message names.
_NAMED = 3
_SUFFIXES = ('.tif', '.tiff', '.png', '.jpg', '.jpeg')
# Of scenes that two splits share, the one is kept that is measured on.
_KEEP = ('test', 'val', 'train')


@dataclass(frozen=True)
class Scene:
    """An image and what its labels are made of.

    Args:
        name (str): Its name.
        split (str): Its split; empty if there are none.
        image (Member): The image.
        label (Member): The label file.
    """

    name: str
    split: str
    image: Member
    label: Member


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a file.

    Args:
        kind (str): What is wrong with it and others, e.g. ``'images without
            a label file'``.
        file (str): The file or scene.
        detail (str): What is wrong with this one in particular.
    """

    kind: str
    file: str
    detail: str = ''


@dataclass
class Collection:
    """What a download holds.

    Args:
        scenes (list[Scene]): What can be converted.
        problems (list[Problem]): What cannot.
        warnings (list[str]): What one should know.
        lists (dict[str, list[str]]): Scenes of each split, if lists chose
            them.
        list_md5 (dict[str, str]): Checksums of these lists.
    """

    scenes: list[Scene] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)
    list_md5: dict[str, str] = field(default_factory=dict)


def describe(problems: Iterable[Problem]) -> str:
    """Sum up problems: each kind with its count and the first files."""
    kinds = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    lines = []
    for kind, found in kinds.items():
        first = [
            f'{p.file} ({p.detail})' if p.detail else p.file
            for p in found[:_NAMED]
        ]
        more = ', ...' if len(found) > _NAMED else ''
        lines.append(f'{len(found)} {kind}: {", ".join(first)}{more}')
    return '\n'.join(lines)


def collect(
    spec: DataSetSpec,
    sources: Sequence[Path],
    split_lists: Path | None = None,
) -> Collection:
    """Match the images of a download with their label files and splits.

    Args:
        spec (DataSetSpec): What is expected.
        sources (Sequence[Path]): Folders and archives.
        split_lists (Path, optional): Folder of ``train.txt``, ``val.txt``,
            ``test.txt`` with a scene a line. Defaults to the field's lists if
            the package has them, else to the splits of the download.

    Returns:
        Collection: With all that is wrong, nothing of which is raised.

    Raises:
        ConversionError: If the sources hold another data set or cannot be
            read, or a list is unusable.
    """
    found = Collection()
    members = [m for source in sources for m in list_source(source)]
    images = _pick(spec, spec.images, members)
    if not images:
        archives = expand(sources)
        members += [m for source in archives for m in list_source(source)]
        images = _pick(spec, spec.images, members)
    labels = _pick(spec, spec.labels, members)
    if not images or not labels:
        raise ConversionError(_wrong_source(spec, sources, members, images))
    images = _unique(found, images, 'images')
    labels = _unique(found, labels, 'label files')
    read_lists(spec, split_lists, found)
    if found.lists:
        _follow_lists(found, images, labels)
    else:
        if spec.split_table:
            images, labels = (
                _of_the_table(found, files, kind)
                for files, kind in ((images, 'images'), (labels, 'labels'))
            )
        _pair(found, images, labels)
    _check_counts(spec, found)
    return found


def _pick(
    spec: DataSetSpec, pattern: str, members: Sequence[Member]
) -> dict[tuple[str, str], list[Member]]:
    """Return the files of a kind by split and scene."""
    files = defaultdict(list)
    for member in members:
        key = spec.match(pattern, member.path)
        if key is not None:
            scene, split = key
            files[split or '', scene].append(member)
    return files


def _unique(
    found: Collection,
    files: dict[tuple[str, str], list[Member]],
    kind: str,
) -> dict[tuple[str, str], Member]:
    """Keep one file a scene; more are a problem."""
    for (_, scene), members in files.items():
        if len(members) > 1:
            names = ' and '.join(map(str, members))
            found.problems.append(
                Problem(f'scenes with several {kind}', scene, names)
            )
    return {key: members[0] for key, members in files.items()}


def _wrong_source(
    spec: DataSetSpec,
    sources: Sequence[Path],
    members: Sequence[Member],
    images: dict,
) -> str:
    """Tell what the sources hold instead."""
    from .sets import DATA_SETS

    missing = 'label files' if images else 'images'
    first = ', '.join(m.path.lstrip('/') for m in members[:_NAMED]) or 'none'
    message = (
        f'{spec.name}: no {missing} found in {", ".join(map(str, sources))}, '
        f'which hold {len(members)} files: {first}. Expected:\n{spec.layout}'
    )
    others = [
        other.name
        for other in DATA_SETS.values()
        if other.name != spec.name
        and _pick(other, other.images, members)
        and _pick(other, other.labels, members)
    ]
    if others:
        message += f'\nThis looks like: {" or ".join(others)}'
    return message


def _of_the_table(
    found: Collection, files: dict[tuple[str, str], Member], kind: str
) -> dict[tuple[str, str], Member]:
    """Leave out what the field does not use."""
    left = sorted(scene for split, scene in files if not split)
    if left:
        found.warnings.append(
            f'{kind} of no split are left out: {", ".join(left)}'
        )
    return {key: member for key, member in files.items() if key[0]}


def _pair(
    found: Collection,
    images: dict[tuple[str, str], Member],
    labels: dict[tuple[str, str], Member],
) -> None:
    """Make scenes of all images of splits that have labels."""
    labelled = {split for split, _ in labels}
    for split, scene in sorted(images):
        key = split, scene
        if key in labels:
            found.scenes.append(Scene(scene, split, images[key], labels[key]))
        elif split in labelled:
            found.problems.append(
                Problem('images without a label file', str(images[key]))
            )
    for key in sorted(set(labels) - set(images)):
        found.problems.append(
            Problem('label files without an image', str(labels[key]))
        )
    _check_splits(found)


def _follow_lists(
    found: Collection,
    images: dict[tuple[str, str], Member],
    labels: dict[tuple[str, str], Member],
) -> None:
    """Make the scenes that lists name, whatever split they come from."""
    pairs = defaultdict(list)
    for key in images:
        if key in labels:
            pairs[key[1]].append((images[key], labels[key]))
    have_image, have_label = (
        {scene for _, scene in files} for files in (images, labels)
    )
    for split, names in found.lists.items():
        for name in names:
            if len(pairs.get(name, ())) > 1:
                same = ' and '.join(str(image) for image, _ in pairs[name])
                found.problems.append(
                    Problem(
                        'entries of split lists that name several images',
                        name,
                        same,
                    )
                )
            elif name in pairs:
                found.scenes.append(Scene(name, split, *pairs[name][0]))
            elif name in have_image or name in have_label:
                missing = 'label file' if name in have_image else 'image'
                found.problems.append(
                    Problem(
                        f'entries of split lists without {missing}',
                        name,
                        split,
                    )
                )
            else:
                found.problems.append(
                    Problem(
                        'entries of split lists without files', name, split
                    )
                )
    listed = {name for names in found.lists.values() for name in names}
    left = sorted(set(pairs) - listed)
    if left:
        more = ', ...' if len(left) > _NAMED else ''
        found.warnings.append(
            f'{len(left)} labelled scenes are in no split list and left '
            f'out: {", ".join(left[:_NAMED])}{more}'
        )


def read_lists(
    spec: DataSetSpec, folder: Path | None, found: Collection
) -> None:
    """Read the split lists, the user's or those of the package."""
    shipped = spec.dataset.SPLIT_LISTS
    suffix = spec.dataset.SPLIT_LIST_SUFFIX
    if folder is not None:
        for split in SPLITS:
            path = folder / f'{split}.txt'
            if path.is_file():
                entries = path.read_text(encoding='utf-8').split('\n')
                names = [_strip(line.strip(), suffix) for line in entries]
                found.lists[split] = [name for name in names if name]
        if not any(found.lists.values()):
            raise ConversionError(
                f'{folder}: expected lists train.txt, val.txt or test.txt '
                'with the name of a scene a line'
            )
    else:
        for split in shipped:
            found.lists[split] = spec.dataset.split_names(split)
    for split, names in found.lists.items():
        found.list_md5[split] = list_md5(name + suffix for name in names)
        expected = spec.list_md5.get(split) if folder is None else None
        if expected not in (None, found.list_md5[split]):
            raise ConversionError(
                f'{spec.name}: the shipped list {shipped[split]} has changed '
                f'(md5 {found.list_md5[split]}, expected {expected}); install '
                'the package again'
            )
    _check_lists(found)


def list_md5(entries: Iterable[str]) -> str:
    """Return the checksum of a list: its sorted entries, one a line."""
    text = ''.join(f'{entry}\n' for entry in sorted(entries))
    return hashlib.md5(text.encode()).hexdigest()


def _strip(entry: str, suffix: str) -> str:
    """Return the name of a scene from a line of a list."""
    entry = entry.removesuffix(suffix)
    if entry.lower().endswith(_SUFFIXES):
        entry = entry[: entry.rindex('.')]
    return entry


def _check_lists(found: Collection) -> None:
    """Note scenes that several lists, or one list twice, name."""
    where = defaultdict(list)
    for split in sorted(found.lists, key=_KEEP.index):
        for name in found.lists[split]:
            where[name].append(split)
    for name, splits in where.items():
        if len(splits) > 1:
            found.problems.append(
                Problem(
                    'duplicate ids in split lists', name, ', '.join(splits)
                )
            )
    found.lists = {
        split: [
            name for name in dict.fromkeys(names) if where[name][0] == split
        ]
        for split, names in found.lists.items()
    }


def _check_splits(found: Collection) -> None:
    """Note scenes that lie in several splits.

    Cameras number their images, so the same name may mean another image;
    the same bytes do not.
    """
    scenes = defaultdict(list)
    for scene in found.scenes:
        scenes[scene.name].append(scene)
    dropped = set()
    for name, same in scenes.items():
        if len({scene.image.size for scene in same}) == len(same):
            continue
        same.sort(
            key=lambda s: _KEEP.index(s.split) if s.split in _KEEP else 9
        )
        contents = {}
        for scene in same:
            first = contents.setdefault(_identity(scene.image), scene)
            if first is not scene:
                dropped.add(scene)
                found.problems.append(
                    Problem(
                        'duplicate ids across splits',
                        name,
                        f'the same image in {first.split} and {scene.split}',
                    )
                )
    found.scenes = [s for s in found.scenes if s not in dropped]


def _identity(member: Member) -> tuple:
    """Return what two copies of a file have in common."""
    if member.kind == 'zip':
        return member.size, member.version
    if member.kind == 'stream':
        # Reading it would take as long as converting it.
        return (member.path,)
    digest, left = hashlib.md5(), member.size
    with open(member.source, 'rb') as file:
        file.seek(member.offset)
        while block := file.read(min(left, 2**20)):
            digest.update(block)
            left -= len(block)
    return member.size, digest.hexdigest()


def _check_counts(spec: DataSetSpec, found: Collection) -> None:
    """Note splits that are not as large as they should be."""
    if found.lists:
        return
    counts = defaultdict(int)
    for scene in found.scenes:
        counts[scene.split] += 1
        counts['all'] += 1
    for split, expected in spec.counts.items():
        if counts[split] == expected:
            continue
        text = f'{counts[split]} scenes instead of {expected}'
        if spec.certain:
            found.problems.append(
                Problem('splits of another size than expected', split, text)
            )
        else:
            found.warnings.append(
                f'{split}: {text}, a number that has not been verified'
            )

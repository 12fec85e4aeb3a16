"""A page whose numbers are the tool's and whose words are its author's."""

import re
from collections.abc import Mapping
from pathlib import Path

_MARKED = r'(<!-- compare: {0} -->\n).*?(<!-- end of {0} -->)'


def fill(page: str, parts: Mapping[str, str]) -> str:
    """Put parts between their marks, and leave the rest as it is.

    Args:
        page (str): Markdown, with ``<!-- compare: NAME -->`` and
            ``<!-- end of NAME -->`` on lines of their own.
        parts (dict[str, str]): Markdown by name; those that the page has no
            marks for are left out.

    Returns:
        str: The page.
    """
    for name, text in parts.items():
        page = re.sub(
            _MARKED.format(re.escape(name)),
            lambda found, text=text: f'{found[1]}\n{text}\n\n{found[2]}',
            page,
            flags=re.DOTALL,
        )
    return page


def blank(title: str, parts: Mapping[str, str]) -> str:
    """Return a page that has marks for all parts.

    Args:
        title (str): Heading.
        parts (dict[str, str]): Markdown by name.

    Returns:
        str: Markdown without the parts.
    """
    marks = [
        f'<!-- compare: {name} -->\n<!-- end of {name} -->' for name in parts
    ]
    return '\n\n'.join([f'# {title}', *marks]) + '\n'


def write_page(path: Path, title: str, parts: Mapping[str, str]) -> None:
    """Write the parts into a page, which is made if it is not there.

    Args:
        path (Path): In Markdown.
        title (str): Heading of a new page.
        parts (dict[str, str]): Markdown by name.
    """
    page = path.read_text() if path.exists() else blank(title, parts)
    path.write_text(fill(page, parts))

"""Adds configs and tools to wheels; all metadata is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithMim(build_py):
    """Copy what MMEngine and MIM look up in a package into its ``.mim``.

    A source tree has symbolic links there, which also serve editable
    installs; wheels cannot hold links.
    """

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        target = Path(self.build_lib, 'mmseg_uhr', '.mim')
        target.mkdir(parents=True, exist_ok=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(
                ROOT / folder,
                target / folder,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns('__pycache__'),
            )
        shutil.copy(ROOT / 'model-index.yml', target)


setup(cmdclass={'build_py': BuildWithMim})

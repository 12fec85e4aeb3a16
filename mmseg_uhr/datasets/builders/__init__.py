"""Data sets that are built on the user's machine, from pip packages."""

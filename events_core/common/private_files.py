"""Files and directories for their owner alone, whatever the umask is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_OTHERS = 0o077


def make_directory(path: Path) -> None:
    """Make a directory for its owner alone, and likewise those above it. An existing one stays as it is.

    Raises:
        OSError: The directory cannot be made.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def make_file(path: Path) -> None:
    """Make an empty file for its owner alone. An existing one keeps its content.

    Raises:
        OSError: The file cannot be made or opened.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def close_file(path: Path) -> None:
    """Take the rights of other users from a file, if it exists and belongs to this user."""
    with suppress(FileNotFoundError, PermissionError):
        if path.stat().st_mode & _OTHERS:
            path.chmod(0o600)


def open_to_others(directory: Path) -> bool:
    """Whether an existing directory lets other users of the machine in."""
    with suppress(OSError):
        return bool(directory.stat().st_mode & _OTHERS)
    return False

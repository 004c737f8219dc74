"""The data directory, which holds the embedded store and the key of the development issuer."""

from __future__ import annotations

import os
from pathlib import Path

from local.errors import LocalError
from local.issuer import DevelopmentIssuer

DEFAULT = ".data"


def data_dir_of(option: Path | None) -> Path:
    """The option, else `EVENTS_DATA_DIR`, else `.data`."""
    return option or Path(os.environ.get("EVENTS_DATA_DIR") or DEFAULT)


def open_issuer(data_dir: Path) -> DevelopmentIssuer:
    """Open the development issuer of a data directory.

    Raises:
        LocalError: The directory cannot be used, or its key cannot be read.
    """
    try:
        return DevelopmentIssuer(data_dir)
    except OSError as error:
        raise LocalError(f"EVENTS_DATA_DIR: {data_dir} cannot be used: {error.strerror}", 2) from None
    except ValueError as error:
        raise LocalError(f"EVENTS_DATA_DIR: {error}", 2) from None

"""Reads and validates the files that replace neighbour services in development."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

_PERSON_NUMBER = re.compile("[0-9]{11}")


class LocalFileError(ValueError):
    """A file cannot be used; the one-line text names the file and the field, and shows no value."""


def read_document(path: Path, model: type[M]) -> M:
    """Read a JSON file as `model`.

    Raises:
        LocalFileError: The file cannot be read, or a field is wrong.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise LocalFileError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise LocalFileError(f"{path}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
    where = _PERSON_NUMBER.sub("*", where)  # the name of a member may be any text
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message

"""A warning of a user who does not represent a party by the register file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from events_core.adapters.development.files import LocalFileError
from events_core.adapters.development.register import RegisterFile

_DEFAULT = Path(__file__).with_name("register.json")


def warn_unless_represented(user: int, party: int) -> None:
    """Warn on standard error if the embedded decision point will deny the user the events about the party."""
    path = Path(os.environ.get("EVENTS_REGISTER_FILE") or _DEFAULT)
    try:
        represents = RegisterFile.read(path).represents
    except LocalFileError as error:
        print(f"warning: EVENTS_REGISTER_FILE: {error}", file=sys.stderr)
        return
    if party not in represents.get(str(user), ()):
        print(
            f"warning: user {user} does not represent party {party}, so the embedded decision point denies events"
            f' about it; add {party} to the list "{user}" of "represents" in {path}',
            file=sys.stderr,
        )

"""Fixtures that several suites share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.service import Service, running

# Deadlines of property tests only measure how busy the machine is.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The whole service on a new store, with its neighbours."""
    async with running(tmp_path / "data", monkeypatch) as service:
        yield service

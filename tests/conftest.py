"""Fixtures that several suites share."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from events_core.adapters.neighbours.webhooks import HttpWebhookSender
from tests.support.delivering import Deployment, deployment_on
from tests.support.service import Service, running

# Deadlines of property tests would only measure how busy the machine is.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(autouse=True, scope="session")
def only_loopback_is_dialled() -> Iterator[None]:
    """No webhook leaves this machine, whatever endpoint a test makes up."""
    opened = HttpWebhookSender._socket

    def on_this_machine(sender: HttpWebhookSender, address_info: Any) -> socket.socket:
        made = opened(sender, address_info)
        if not ipaddress.ip_address(str(address_info[4][0]).partition("%")[0]).is_loopback:
            made.close()
            raise OSError("Tests dial this machine only.")
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpWebhookSender, "_socket", on_this_machine)
        yield


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The whole service on a new store, with its neighbours."""
    async with running(tmp_path / "data", monkeypatch) as service:
        yield service


@pytest.fixture(params=["sqlite", "cosmos"])
async def deployment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployment]:
    """The service with its neighbours, on each store."""
    async with deployment_on(request.param, tmp_path) as deployment:
        yield deployment

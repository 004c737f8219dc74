"""The smoke test of a deployment passes for a working service and names the fault of a broken one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.served import Served, served
from tools import smoke


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running service."""
    with served(tmp_path_factory.mktemp("smoke")) as service:
        yield service


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that answers one POST with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            while self.rfile.readline() != b"0\r\n":
                pass  # the body ends with an empty chunk
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request).start()
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def tokens(running: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the tokens of the app and its owner."""
    for name, words in (
        ("SMOKE_TOKEN", ["--org", "ttd", "--scope", "altinn:events/ttd"]),
        ("SMOKE_PLATFORM_TOKEN", ["--platform", "ttd/apps-test"]),
    ):
        command = ["-m", "local", "token", "--data-dir", str(running.data_dir), *words]
        monkeypatch.setenv(name, running.run(*command).strip())


def test_a_working_service_passes_without_a_token(running: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a token the test asks for health and the OpenAPI document, and expects a feed to be refused."""
    assert smoke.main([running.url]) == 0
    assert capsys.readouterr().out.split() == ["ok", "health", "ok", "openapi", "ok", "refusal"]


@pytest.mark.usefixtures("tokens")
def test_with_tokens_an_event_is_published_and_read(running: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """With tokens the test also publishes an event and finds it in the feed."""
    assert smoke.main([running.url, "--publish"]) == 0
    *_, page, publish, chunked = capsys.readouterr().out.splitlines()
    assert (page, publish) == ("ok      page", "ok      publish")
    assert chunked == "ok      chunked: arrives: publishers may send chunks"


@pytest.mark.parametrize(("status", "found"), [(411, "lost (411): see docs/deploying.md"), (500, None)])
def test_a_deployment_that_loses_chunks_is_told_from_a_broken_one(status: int, found: str | None) -> None:
    """Losing chunks is no fault of the deployment, and the line names the document with the cure."""
    with answering(status) as url:
        if found:
            assert smoke.chunked(smoke.Service(url)).startswith(found)
            return
        with pytest.raises(smoke.SmokeError):
            smoke.chunked(smoke.Service(url))


def test_an_untrusted_token_fails_and_is_not_printed(
    running: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output of a pipeline must not show tokens."""
    monkeypatch.setenv("SMOKE_TOKEN", "not.a.token")
    assert smoke.main([running.url]) == 1
    printed = capsys.readouterr().out
    assert "FAILED  page: status 401" in printed
    assert "not.a.token" not in printed


def test_a_service_whose_store_is_down_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output quotes the health report, and shows the steps that passed."""
    nowhere = "AccountEndpoint=http://127.0.0.1:9/;AccountKey=bm9ib2R5;"
    with served(tmp_path, EVENTS_COSMOS=nowhere) as service:
        assert smoke.main([service.url]) == 1
    printed = capsys.readouterr().out
    assert "FAILED  health: status 503" in printed
    assert '"status":"down"' in printed.replace(" ", "")
    assert "ok      openapi" in printed


def test_a_service_that_does_not_answer_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Every step fails once the seconds of `--wait` have passed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert smoke.main([url]) == 1
    assert capsys.readouterr().out.count("no answer") == 3


@pytest.mark.parametrize("arguments", [["ftp://127.0.0.1"], ["http://127.0.0.1", "--publish"]])
def test_a_wrong_command_line_is_refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with status 2 and sends no request."""
    monkeypatch.delenv("SMOKE_TOKEN", raising=False)
    with pytest.raises(SystemExit) as left:
        smoke.main(arguments)
    assert left.value.code == 2

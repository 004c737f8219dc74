from __future__ import annotations

import json
import signal
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from local.__main__ import cli
from local.persona import PARTY
from tests.support.command_line import Served, line_of, run, served, started

RESOURCE = "urn:altinn:resource:ttd-demo"
SOURCE = "https://demo.example/things/1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service without sample data."""
    with served(tmp_path_factory.mktemp("data"), "--no-sample-data") as running:
        yield running


def event(resource: str = RESOURCE, **attributes: Any) -> dict[str, Any]:
    """An event with an id of its own."""
    required = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": SOURCE, "type": "demo.thing"}
    return {**required, "resource": resource, **attributes}


def file_of(directory: Path, text: object) -> Path:
    """A new file of this text, or of this document as JSON."""
    path = directory / f"{uuid.uuid4()}.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def fails_with_one_line(ended: CompletedProcess[str], words: str, status: int = 1) -> bool:
    """Whether a command ended with a line that says this, and no traceback."""
    return (ended.returncode, ended.stderr.count("\n")) == (status, 1) and words in ended.stderr


def invoked(*arguments: str) -> CompletedProcess[str]:
    """A command run to its end in this process, which is faster."""
    result = CliRunner().invoke(cli, arguments)
    return CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def test_without_arguments_it_shows_the_commands() -> None:
    """And ends well."""
    shown = run()
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("serve", "token", "publish", "tail", "issuer", "erase"))


def test_publish_takes_files_of_one_event_and_of_many(service: Served, tmp_path: Path) -> None:
    """And says what became of them; sent again, nothing is doubled."""
    one, many = file_of(tmp_path, event()), file_of(tmp_path, [event() for _ in range(230)])
    published = service.command("publish", one, many)
    assert published.stdout == f"{one}: 1 published, 0 there already\n{many}: 230 published, 0 there already\n"
    assert service.command("publish", one).stdout == f"{one}: 0 published, 1 there already\n"


def test_tail_prints_one_event_a_line_as_it_was_published(service: Served, tmp_path: Path) -> None:
    """Numbers keep their form."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    text = json.dumps(event(resource))[:-1] + ', "data": {"amount": 100.00,\n "big": 1E400}}'
    service.command("publish", file_of(tmp_path, text))
    with started("tail", "--resource", resource, "--url", service.url, "--data-dir", service.data_dir) as tail:
        line = line_of(tail)
    assert json.loads(line)["resource"] == resource
    assert line.endswith('"data": {"amount": 100.00,  "big": 1E400}}')


@pytest.mark.parametrize("feed", [["--party", str(PARTY)], ["--org", "ttd"], ["--org", "ttd", "--app", "apps-test"]])
def test_tail_goes_on_with_what_is_published_later(service: Served, tmp_path: Path, feed: list[str]) -> None:
    """By long polls; Ctrl-C ends it well."""
    with started("tail", *feed, "--url", service.url, "--data-dir", service.data_dir) as tail:
        for kind in ("app.instance.created", "app.instance.process.completed"):
            mine = app_event(type=kind)
            service.command("publish", file_of(tmp_path, mine))
            while json.loads(line_of(tail))["id"] != mine["id"]:
                pass
        tail.send_signal(signal.SIGINT)
        _, complaint = tail.communicate(timeout=10)
    assert (tail.returncode, complaint) == (0, "")


def app_event(**attributes: Any) -> dict[str, Any]:
    """An event of an instance of ttd/apps-test about the sample party."""
    source = f"https://ttd.apps.altinn.no/ttd/apps-test/instances/{PARTY}/{uuid.uuid4()}"
    return event("urn:altinn:resource:app_ttd_apps-test", source=source, subject=f"/party/{PARTY}", **attributes)


def test_tail_can_begin_later(service: Served, tmp_path: Path) -> None:
    """What was registered before `--from` is left out."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    earlier, later = event(resource), event(resource)
    service.command("publish", file_of(tmp_path, earlier))
    arguments = ("--resource", resource, "--from", datetime.now(UTC).isoformat())
    service.command("publish", file_of(tmp_path, later))
    with started("tail", *arguments, "--url", service.url, "--data-dir", service.data_dir) as tail:
        assert json.loads(line_of(tail))["id"] == later["id"]


def test_tail_ends_well_when_nobody_reads_on(service: Served, tmp_path: Path) -> None:
    """As with `tail | head -1`."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    service.command("publish", file_of(tmp_path, event(resource)))
    with started("tail", "--resource", resource, "--url", service.url, "--data-dir", service.data_dir) as tail:
        line_of(tail)
        assert tail.stdout is not None
        tail.stdout.close()
        service.command("publish", file_of(tmp_path, event(resource)))
        assert tail.wait(timeout=10) == 0


def test_tail_says_when_the_server_has_gone(tmp_path: Path) -> None:
    """With one line and a status other than 0."""
    with (
        served(tmp_path, "--no-sample-data") as running,
        started("tail", "--org", "ttd", "--url", running.url, "--data-dir", tmp_path) as tail,
    ):
        running.command("publish", file_of(tmp_path, app_event()))
        line_of(tail)
        running.stop()
        _, complaint = tail.communicate(timeout=20)
    assert tail.returncode == 1
    assert complaint.startswith(f"{running.url} does not answer: ")


def test_erase_takes_an_event_out_of_every_stream(service: Served, tmp_path: Path) -> None:
    """An id with a slash in it as well."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    gone, kept = event(resource, id="a/b c"), event(resource)
    service.command("publish", file_of(tmp_path, [gone, kept]))
    erased = service.command("erase", "--resource", resource, "--source", SOURCE, "--id", "a/b c")
    assert (erased.returncode, erased.stdout) == (0, "erased\n")
    with started("tail", "--resource", resource, "--url", service.url, "--data-dir", service.data_dir) as tail:
        assert json.loads(line_of(tail))["id"] == kept["id"]


def test_erasing_what_is_not_there_is_one_line(service: Served) -> None:
    """404."""
    ended = service.command("erase", "--resource", RESOURCE, "--source", SOURCE, "--id", "none")
    assert fails_with_one_line(ended, "404: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "Expecting value"),
        ('{"specversion": "1.0"}', "400: "),
        ('{"a": 1} {"b": 2}', "follows it"),
        (json.dumps(event(type="")), "type"),
    ],
)
def test_a_file_that_cannot_be_published_is_one_line(service: Served, tmp_path: Path, text: str, words: str) -> None:
    """That says what is wrong with it."""
    assert fails_with_one_line(service.command("publish", file_of(tmp_path, text)), words)


def test_a_file_that_is_not_there_is_one_line(service: Served) -> None:
    """That names it."""
    assert fails_with_one_line(service.command("publish", "/nowhere/event.json"), "/nowhere/event.json: No such file")


@pytest.mark.parametrize(
    "command", [["tail", "--party", "1"], ["erase", "--resource", "r", "--source", "s", "--id", "i"]]
)
def test_a_service_that_does_not_answer_is_one_line(tmp_path: Path, command: list[str]) -> None:
    """That names its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ended = invoked(*command, "--url", url, "--data-dir", str(tmp_path))
    assert fails_with_one_line(ended, f"{url} does not answer: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["token"],
        ["token", "--org", "ttd", "--user", "1"],
        ["token", "--platform", "ttd"],
        ["tail"],
        ["tail", "--app", "apps-test"],
        ["tail", "--party", "1", "--resource", RESOURCE],
        ["tail", "--party", "1", "--url", "ftp://x"],
    ],
)
def test_options_that_name_nothing_or_too_much_are_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """And nothing is asked."""
    assert fails_with_one_line(invoked(*arguments, "--data-dir", str(tmp_path)), "")


@pytest.mark.parametrize(
    ("arguments", "claim", "value"),
    [
        (["--org", "ttd", "--scope", "a b"], "scope", "a b"),
        (["--org", "ttd"], "urn:altinn:org", "ttd"),
        (["--user", "20012345", "--party", "50002108"], "urn:altinn:partyid", 50002108),
        (["--platform", "ttd/apps-test"], "urn:altinn:app", "apps-test"),
        (["--org-number", "974760673"], "consumer", {"authority": "iso6523-actorid-upis", "ID": "0192:974760673"}),
    ],
)
def test_a_token_says_what_was_asked_for(tmp_path: Path, arguments: list[str], claim: str, value: object) -> None:
    """And is all that is printed."""
    printed = invoked("token", *arguments, "--data-dir", str(tmp_path))
    assert jwt.decode(printed.stdout.strip(), options={"verify_signature": False})[claim] == value


def test_an_unusable_data_directory_is_one_line() -> None:
    """That names the setting, with status 2."""
    assert fails_with_one_line(invoked("token", "--org", "ttd", "--data-dir", "/dev/null/x"), "EVENTS_DATA_DIR", 2)


def test_the_issuer_is_served_and_its_tokens_name_it(tmp_path: Path) -> None:
    """Tokens made from then on say where it is, and the host trusts them."""
    with started("issuer", "--port", "0", "--data-dir", tmp_path) as issuer:
        url = line_of(issuer).removeprefix("listening on ")
        taken = run("issuer", "--port", url.rpartition(":")[2], "--data-dir", tmp_path)
        token = run("token", "--org", "ttd", "--data-dir", tmp_path).stdout.strip()
    assert fails_with_one_line(taken, "cannot listen at 127.0.0.1:")
    assert jwt.decode(token, options={"verify_signature": False})["iss"] == url
    with served(tmp_path, "--no-sample-data") as running:
        assert running.command("publish", file_of(tmp_path, event())).returncode == 0

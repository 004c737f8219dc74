"""The commands of `python -m local`."""

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
from local.persona import PARTY, USER
from tests.support.command_line import Served, line_of, run, served, started

RESOURCE = "urn:altinn:resource:ttd-demo"
SOURCE = "https://demo.example/things/1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running service without sample data."""
    with served(tmp_path_factory.mktemp("data"), "--no-sample-data") as running:
        yield running


def event(resource: str = RESOURCE, **attributes: Any) -> dict[str, Any]:
    """An event with a new id."""
    required = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": SOURCE, "type": "demo.thing"}
    return {**required, "resource": resource, **attributes}


def file_of(directory: Path, text: object) -> Path:
    """A new file with a text, or with a document as JSON."""
    path = directory / f"{uuid.uuid4()}.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def fails_with_one_line(ended: CompletedProcess[str], words: str, status: int = 1) -> bool:
    """Whether a command ended with one line of error that contains `words`."""
    return (ended.returncode, ended.stderr.count("\n")) == (status, 1) and words in ended.stderr


def invoked(*arguments: str) -> CompletedProcess[str]:
    """Run a command in this process, which is faster than a new one."""
    result = CliRunner().invoke(cli, arguments)
    return CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def published(service: Served, file: Path) -> CompletedProcess[str]:
    """Publish a file to the service."""
    return invoked("publish", str(file), "--url", service.url, "--data-dir", str(service.data_dir))


def test_without_arguments_the_commands_are_listed() -> None:
    """The exit status is 0."""
    shown = run()
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("serve", "token", "publish", "tail", "issuer", "erase"))


def test_publish_takes_files_of_one_event_and_of_many(service: Served, tmp_path: Path) -> None:
    """It counts new and duplicate events."""
    one, many = file_of(tmp_path, event()), file_of(tmp_path, [event() for _ in range(230)])
    first = service.command("publish", one, many)
    assert first.stdout == f"{one}: 1 published, 0 already stored\n{many}: 230 published, 0 already stored\n"
    assert service.command("publish", one).stdout == f"{one}: 0 published, 1 already stored\n"


def test_tail_prints_one_event_a_line_as_it_was_published(service: Served, tmp_path: Path) -> None:
    """Numbers keep the form that the publisher gave them."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    text = json.dumps(event(resource))[:-1] + ', "data": {"amount": 100.00,\n "big": 1E400}}'
    published(service, file_of(tmp_path, text))
    with started("tail", "--resource", resource, "--url", service.url, "--data-dir", service.data_dir) as tail:
        line = line_of(tail)
    assert json.loads(line)["resource"] == resource
    assert line.endswith('"data": {"amount": 100.00,  "big": 1E400}}')


@pytest.mark.parametrize("feed", [["--party", str(PARTY)], ["--org", "ttd"], ["--org", "ttd", "--app", "apps-test"]])
def test_tail_prints_later_events_until_ctrl_c(service: Served, tmp_path: Path, feed: list[str]) -> None:
    """It follows the feed by long polls and exits with status 0."""
    with started("tail", *feed, "--url", service.url, "--data-dir", service.data_dir) as tail:
        for kind in ("app.instance.created", "app.instance.process.completed"):
            mine = app_event(type=kind)
            published(service, file_of(tmp_path, mine))
            while json.loads(line_of(tail))["id"] != mine["id"]:
                pass
        tail.send_signal(signal.SIGINT)
        _, error = tail.communicate(timeout=10)
    assert (tail.returncode, error) == (0, "")


def app_event(**attributes: Any) -> dict[str, Any]:
    """An event of an instance of ttd/apps-test about the sample party."""
    source = f"https://ttd.apps.altinn.no/ttd/apps-test/instances/{PARTY}/{uuid.uuid4()}"
    return event("urn:altinn:resource:app_ttd_apps-test", source=source, subject=f"/party/{PARTY}", **attributes)


def test_tail_skips_events_registered_before_from(service: Served, tmp_path: Path) -> None:
    """`--from` is an RFC 3339 time."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    earlier, later = event(resource), event(resource)
    published(service, file_of(tmp_path, earlier))
    arguments = ("--resource", resource, "--from", datetime.now(UTC).isoformat())
    published(service, file_of(tmp_path, later))
    with started("tail", *arguments, "--url", service.url, "--data-dir", service.data_dir) as tail:
        assert json.loads(line_of(tail))["id"] == later["id"]


def test_tail_ends_quietly_when_its_reader_stops(service: Served, tmp_path: Path) -> None:
    """`tail | head -1` must not print a traceback."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    published(service, file_of(tmp_path, event(resource)))
    with started("tail", "--resource", resource, "--url", service.url, "--data-dir", service.data_dir) as tail:
        line_of(tail)
        assert tail.stdout is not None
        tail.stdout.close()
        published(service, file_of(tmp_path, event(resource)))
        assert tail.wait(timeout=10) == 0


def test_tail_fails_with_one_line_when_the_service_stops(tmp_path: Path) -> None:
    """The line names the URL."""
    with (
        served(tmp_path, "--no-sample-data") as running,
        started("tail", "--org", "ttd", "--url", running.url, "--data-dir", tmp_path) as tail,
    ):
        published(running, file_of(tmp_path, app_event()))
        line_of(tail)
        running.stop()
        _, error = tail.communicate(timeout=20)
    assert tail.returncode == 1
    assert error.startswith(f"{running.url} does not answer: ")


def test_erase_removes_an_event_from_its_feed(service: Served, tmp_path: Path) -> None:
    """The id may contain a slash."""
    resource = f"{RESOURCE}-{uuid.uuid4()}"
    gone, kept = event(resource, id="a/b c"), event(resource)
    published(service, file_of(tmp_path, [gone, kept]))
    erased = service.command("erase", "--resource", resource, "--source", SOURCE, "--id", "a/b c")
    assert (erased.returncode, erased.stdout) == (0, "erased\n")
    with started("tail", "--resource", resource, "--url", service.url, "--data-dir", service.data_dir) as tail:
        assert json.loads(line_of(tail))["id"] == kept["id"]


def test_erasing_an_unknown_event_fails_with_one_line(service: Served) -> None:
    """The line begins with the status."""
    event_options = ("--resource", RESOURCE, "--source", SOURCE, "--id", "none")
    ended = invoked("erase", *event_options, "--url", service.url, "--data-dir", str(service.data_dir))
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
def test_a_file_that_cannot_be_published_fails_with_one_line(
    service: Served, tmp_path: Path, text: str, words: str
) -> None:
    """The line says what is wrong."""
    assert fails_with_one_line(published(service, file_of(tmp_path, text)), words)


def test_a_missing_file_fails_with_one_line(service: Served) -> None:
    """The line names the file."""
    assert fails_with_one_line(published(service, Path("/nowhere/event.json")), "/nowhere/event.json: No such file")


@pytest.mark.parametrize(
    "command", [["tail", "--party", "1"], ["erase", "--resource", "r", "--source", "s", "--id", "i"]]
)
def test_a_service_that_does_not_answer_fails_with_one_line(tmp_path: Path, command: list[str]) -> None:
    """The line names the URL."""
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
def test_wrong_options_fail_with_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """Too few or too many options send no request."""
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
def test_a_token_has_the_claims_of_the_options(tmp_path: Path, arguments: list[str], claim: str, value: object) -> None:
    """The command prints the token and nothing else."""
    printed = invoked("token", *arguments, "--data-dir", str(tmp_path))
    assert jwt.decode(printed.stdout.strip(), options={"verify_signature": False})[claim] == value


@pytest.mark.parametrize(
    ("represents", "words"),
    [
        ({"20012345": [7, 8]}, []),
        ({"20012345": [8]}, ["user 20012345 does not represent party 7", 'add 7 to the list "20012345"']),
        ({"1": [7]}, ["user 20012345 does not represent party 7", 'add 7 to the list "20012345"']),
        ([], ["EVENTS_REGISTER_FILE: ", "represents"]),
    ],
)
def test_a_token_for_a_party_that_the_user_does_not_represent_comes_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, represents: object, words: list[str]
) -> None:
    """One line on standard error says where to add the party. The token is printed all the same."""
    register = file_of(tmp_path, {"parties": [], "represents": represents})
    monkeypatch.setenv("EVENTS_REGISTER_FILE", str(register))
    ended = invoked("token", "--user", "20012345", "--party", "7", "--data-dir", str(tmp_path))
    assert (ended.returncode, ended.stdout.count(".")) == (0, 2)
    assert ended.stderr.count("\n") == (1 if words else 0)
    assert all(word in ended.stderr for word in [*words, str(register)]) or not words


def test_the_sample_users_token_comes_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting the file beside the command line counts."""
    monkeypatch.delenv("EVENTS_REGISTER_FILE", raising=False)
    for party, lines in ((PARTY, 0), (1, 1)):
        ended = invoked("token", "--user", str(USER), "--party", str(party), "--data-dir", str(tmp_path))
        assert ended.stderr.count("\n") == lines


def test_an_unusable_data_directory_fails_with_one_line() -> None:
    """The line names the setting, and the exit status is 2."""
    assert fails_with_one_line(invoked("token", "--org", "ttd", "--data-dir", "/dev/null/x"), "EVENTS_DATA_DIR", 2)


def test_tokens_name_the_url_of_the_served_issuer(tmp_path: Path) -> None:
    """The local host trusts these tokens."""
    with started("issuer", "--port", "0", "--data-dir", tmp_path) as issuer:
        url = line_of(issuer).removeprefix("listening on ")
        taken = run("issuer", "--port", url.rpartition(":")[2], "--data-dir", tmp_path)
        token = invoked("token", "--org", "ttd", "--data-dir", str(tmp_path)).stdout.strip()
    assert fails_with_one_line(taken, "cannot listen at 127.0.0.1:")
    assert jwt.decode(token, options={"verify_signature": False})["iss"] == url
    with served(tmp_path, "--no-sample-data") as running:
        assert published(running, file_of(tmp_path, event())).returncode == 0

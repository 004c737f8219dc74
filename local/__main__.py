"""The command line of the local host: `python -m local`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from events_core.access import scopes
from local.errors import LocalError

if TYPE_CHECKING:
    from local.client import Service
    from local.issuer import DevelopmentIssuer

_LONG_AGO = "1970-01-01T00:00:00Z"

DataDir = Annotated[
    Path | None,
    typer.Option(help="Directory of the embedded store and the development issuer. [EVENTS_DATA_DIR, else .data]"),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Url = Annotated[str, typer.Option(help="Base URL of the service.")]

cli = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@cli.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    """Events on your own machine: serve, make tokens, publish, follow feeds, operate the store."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@cli.command()
def serve(
    *,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free port.", min=0, max=65535)] = 7071,
    data_dir: DataDir = None,
    sample_data: Annotated[bool, typer.Option(help="Fill an empty store with synthetic events.")] = True,
) -> None:
    """Serve function_app.py, by default on the embedded store."""
    with _one_line_errors():
        from local.data_dir import data_dir_of  # noqa: PLC0415 - each command imports what it needs
        from local.serve import serve as run  # noqa: PLC0415 - as above

        run(host, port, data_dir_of(data_dir), sample_data=sample_data)


@cli.command()
def token(
    *,
    org: Annotated[str | None, typer.Option(help="A token of this service owner, such as ttd.")] = None,
    user: Annotated[int | None, typer.Option(help="A token of the end user with this id.")] = None,
    party: Annotated[int | None, typer.Option(help="Party that the end user represents.")] = None,
    system_user: Annotated[str | None, typer.Option(help="A token of the system user with this UUID.")] = None,
    org_number: Annotated[
        str | None,
        typer.Option(
            help="Organisation number of the service owner or system user. Alone: a token of the organisation."
        ),
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="A PlatformAccessToken of this app, such as ttd/apps-test.")
    ] = None,
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Print a JWT of the development issuer, valid for 12 hours."""
    with _one_line_errors():
        issuer = _issuer(data_dir)
        makers: dict[str, Callable[[], str]] = {}
        if org:
            makers["--org"] = lambda: issuer.token_for_org(org, scope, org_number=org_number)
        if user is not None:
            makers["--user"] = lambda: issuer.token_for_user(user, party, scope)
        if system_user:
            makers["--system-user"] = lambda: issuer.token_for_system_user(system_user, org_number, scope)
        if platform:
            makers["--platform"] = lambda: issuer.platform_token(platform)
        if org_number and not makers:
            makers["--org-number"] = lambda: issuer.token_for_organisation(org_number, scope)
        if len(makers) != 1:
            raise LocalError("give one of --org, --user, --system-user and --platform, or --org-number alone")
        try:
            print(*(make() for make in makers.values()))
        except ValueError as error:
            raise LocalError(str(error)) from None
        if user is not None and party is not None:
            from local.represents import warn_unless_represented  # noqa: PLC0415 - as in serve

            warn_unless_represented(user, party)


@cli.command()
def publish(
    files: Annotated[list[Path], typer.Argument(help="JSON files, each with one event or an array of events.")],
    url: Url = "http://127.0.0.1:7071",
    data_dir: DataDir = None,
) -> None:
    """Publish events of any resource."""
    with _one_line_errors():
        from local.json_text import elements  # noqa: PLC0415 - as in serve

        service = _service(url, data_dir, lambda issuer: issuer.token_for_org("ttd", scopes.PUBLISH_ADMIN))
        for file in files:
            try:
                events = elements(file.read_text(encoding="utf-8"))
            except OSError as error:
                raise LocalError(f"{file}: {error.strerror}") from None
            except ValueError as error:
                raise LocalError(f"{file}: {error}") from None
            outcomes = list(service.publish(events))
            duplicates = sum(outcome["duplicate"] for outcome in outcomes)
            print(f"{file}: {len(outcomes) - duplicates} published, {duplicates} already stored", flush=True)


@cli.command()
def tail(
    *,
    party: Annotated[int | None, typer.Option(help="Follow the app events about this party.")] = None,
    org: Annotated[str | None, typer.Option(help="Follow the events of this org's apps.")] = None,
    app: Annotated[str | None, typer.Option(help="Only the events of this app of the org.")] = None,
    resource: Annotated[
        str | None, typer.Option(help="Follow the events of this resource, urn:altinn:resource:...")
    ] = None,
    since: Annotated[str, typer.Option("--from", help="Skip events registered before this RFC 3339 time.")] = _LONG_AGO,
    url: Url = "http://127.0.0.1:7071",
    data_dir: DataDir = None,
) -> None:
    """Follow a feed until Ctrl-C and print one JSON event a line."""
    with _one_line_errors():
        from local.feeds import feed_of  # noqa: PLC0415 - as in serve

        feed = feed_of(party=party, org=org, app=app, resource=resource)
        service = _service(url, data_dir, feed.token)
        for event in service.follow(feed.path, {**feed.parameters, "from": since}):
            print(event, flush=True)


@cli.command()
def issuer(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free port.", min=0, max=65535)] = 7072,
    data_dir: DataDir = None,
) -> None:
    """Serve the development issuer's discovery document and keys, for `func start`."""
    with _one_line_errors():
        from local.issuer import serve_issuer  # noqa: PLC0415 - as in serve

        serve_issuer(_issuer(data_dir), host, port, lambda url: print(f"listening on {url}", flush=True))


@cli.command()
def erase(
    resource: Annotated[str, typer.Option(help="Resource of the event.")],
    source: Annotated[str, typer.Option(help="Source of the event.")],
    event_id: Annotated[str, typer.Option("--id", help="Id of the event.")],
    url: Url = "http://127.0.0.1:7071",
    data_dir: DataDir = None,
) -> None:
    """Replace an event by a tombstone in every stream."""
    with _one_line_errors():
        service = _service(url, data_dir, lambda issuer: issuer.token_for_org("ttd", scopes.ERASE))
        service.erase(resource, source, event_id)
        print("erased")


@cli.command()
def replay_parked() -> None:
    """Replay parked events to the streams and subscriptions that refused them, in the configured store."""
    with _one_line_errors():
        from local import maintenance  # noqa: PLC0415 - as in serve

        if failed := maintenance.replay_parked():
            raise LocalError(f"{failed} streams or subscriptions still refuse an event; the log names them")
        print("nothing is parked any more")


@cli.command()
def restored() -> None:
    """Set the configured store right after a restore from a backup. Run it while no instance of the service runs."""
    with _one_line_errors():
        from local import maintenance  # noqa: PLC0415 - as in serve

        streams = maintenance.restored()
        print(f"every older cursor is unknown now; streams that are followed up again: {streams}")


def _issuer(data_dir: Path | None) -> DevelopmentIssuer:
    from local.data_dir import data_dir_of, open_issuer  # noqa: PLC0415 - as in serve

    return open_issuer(data_dir_of(data_dir))


def _service(url: str, data_dir: Path | None, token: Callable[[DevelopmentIssuer], str]) -> Service:
    from local.client import Service  # noqa: PLC0415 - as in serve

    issuer = _issuer(data_dir)
    return Service(url, lambda: token(issuer))


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Print an error that the user can correct as one line on standard error, and exit with its status."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has stopped, as in `tail | head`
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except LocalError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise typer.Exit(error.status) from None


if __name__ == "__main__":
    cli(prog_name="python -m local")

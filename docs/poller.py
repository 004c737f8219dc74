"""A poller of a feed: hands over every event in order, at least once. Python 3.11, no packages.

    TOKEN="…" python poller.py

It keeps the URL of the next page in next.txt, and goes on from there after crashes and outages.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

WAIT_SECONDS = 20
IDLE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 60
RETRIED = {429, 500, 502, 503, 504}


def follow(start: str, next_file: Path, token: Callable[[], str], handle: Callable[[dict[str, Any]], None]) -> None:
    """Hand the feed's events to `handle`, from the end of the last run; run until something raises.

    `start` is the URL of the first page, with `from`. `next_file` keeps the `next` of the last page.
    """
    url = next_file.read_text() if next_file.exists() else start
    while True:
        events, url, pause = read_page(url, token)
        for event in events:
            handle(event)
        keep(next_file, url)
        time.sleep(pause)


def read_page(url: str, token: Callable[[], str]) -> tuple[list[dict[str, Any]], str, float]:
    """Return the events of a page, the URL that continues the feed, and the seconds to pause before asking it."""
    failures = 0
    while True:
        headers = {"Prefer": f"wait={WAIT_SECONDS}", "Authorization": f"Bearer {token()}"}
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS + 30) as answer:
                events = json.load(answer)
                caught_up = answer.headers["Events-Caught-Up"] == "true"
                waited = answer.headers["Preference-Applied"] is not None
                idle = caught_up and not events and not waited
                return events, answer.headers["next"], IDLE_SECONDS if idle else 0
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in RETRIED:
                    raise
                retry_after = error.headers["Retry-After"] or ""
            pause = int(retry_after) if retry_after.isdigit() else min(2**failures, LONGEST_PAUSE_SECONDS)
        except (OSError, HTTPException):  # no answer, or only a part of one
            pause = min(2**failures, LONGEST_PAUSE_SECONDS)
        failures += 1
        time.sleep(pause)


def keep(next_file: Path, url: str) -> None:
    """Replace the kept URL in one step: after a crash the file holds the old one or the new one."""
    beside = next_file.with_name(next_file.name + ".new")
    with beside.open("w") as file:
        file.write(url)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(next_file)


if __name__ == "__main__":
    follow(
        "http://127.0.0.1:7071/events/api/v1/app/ttd/apps-test?from=2020-01-01T00:00:00Z",
        Path("next.txt"),
        lambda: os.environ["TOKEN"],
        lambda event: print(event["type"], event["id"], flush=True),
    )

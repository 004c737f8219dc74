"""The application of this process, composed when it is first needed."""

from __future__ import annotations

import os

from events_core.common.errors import MisconfiguredError
from events_core.operations.application import Application

_application: Application | None = None


async def current() -> Application:
    """The application of this process.

    Raises:
        MisconfiguredError: when a setting is missing or bad.
        EventsError: UNAVAILABLE when the store cannot be opened.
    """
    global _application  # noqa: PLW0603 - there is one application in a process
    if _application is None:
        # A worker that indexes the functions must not load SDKs, nor fail because of a setting.
        from events_core.adapters.telemetry import configure_logging  # noqa: PLC0415
        from events_core.compose import compose  # noqa: PLC0415
        from events_core.settings import SettingsError, load_settings  # noqa: PLC0415

        configure_logging()
        try:
            _application = compose(load_settings(os.environ))
        except SettingsError as error:
            raise MisconfiguredError(str(error)) from None
    return _application


async def close() -> None:
    """Close the application of this process; the next request composes it again."""
    global _application
    application, _application = _application, None
    if application is not None:
        await application.close()

"""What the local host runs: the functions of an app, as the library's own metadata describes them."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import azure.functions as func

from local.errors import HostError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its name, its trigger's binding, and what the developer wrote."""

    name: str
    trigger: Mapping[str, Any]
    user_function: Callable[..., Any]

    async def __call__(self, argument: object) -> Any:
        """Run it with the trigger's value; a function that is not async runs in a thread, as in the worker."""
        arguments = {self.trigger["name"]: argument}
        if inspect.iscoroutinefunction(self.user_function):
            return await self.user_function(**arguments)
        return await asyncio.to_thread(self.user_function, **arguments)


def load_functions(module: str = "function_app") -> list[Function]:
    """The functions of `app` in `module`.

    Raises:
        HostError: there is no FunctionApp of that name, or a function needs what this host does not provide.
    """
    app = getattr(importlib.import_module(module), "app", None)
    if not isinstance(app, func.FunctionApp):
        raise HostError(f"{module}.py has no FunctionApp named app")
    return functions_of(app)


def functions_of(app: func.FunctionApp) -> list[Function]:
    """The functions of an app.

    Raises:
        HostError: the library refuses one, or one needs what this host does not provide.
    """
    app.functions_bindings = {}  # else the library takes a second look at an app for names used twice
    try:
        return [_function(built) for built in app.get_functions()]
    except ValueError as error:
        raise HostError(str(error)) from None


def route_prefix(root: Path = ROOT) -> str:
    """The prefix of every route, from host.json; `api` when it does not say."""
    http = json.loads((root / "host.json").read_text()).get("extensions", {}).get("http", {})
    return str(http.get("routePrefix", "api"))


def _function(built: Any) -> Function:
    name, user_function = built.get_function_name(), built.get_user_function()
    trigger = built.get_trigger().get_dict_repr()
    others = set(inspect.signature(user_function).parameters) - {trigger["name"]}
    if others:
        raise HostError(f"{name}: this host provides no {', '.join(sorted(others))}")
    return Function(name, trigger, user_function)

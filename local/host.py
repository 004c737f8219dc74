"""The functions of an app, read from the metadata of the library `azure-functions`."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import azure.functions as func

from local.errors import HostError
from local.queues import Queues, texts_of


def _root() -> Path:
    """The folder of the served app: that of the first `function_app.py` that Python finds."""
    found = importlib.util.find_spec("function_app")
    return Path(found.origin).resolve().parent if found and found.origin else Path.cwd()


ROOT = _root()


class Output(func.Out[Any]):
    """An output of a function."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Replace the value to send."""
        self._value = val

    def get(self) -> Any:
        """The value to send."""
        return self._value


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its name, its trigger's binding, its queue outputs, and the Python function."""

    name: str
    trigger: Mapping[str, Any]
    user_function: Callable[..., Any]
    outputs: Sequence[Mapping[str, Any]] = ()
    queues: Queues = field(default_factory=Queues)

    async def __call__(self, argument: object) -> Any:
        """Run the function with the trigger's value, then send its outputs unless it failed.

        A synchronous function runs in a thread, as in the Functions worker.
        """
        outputs = {binding["name"]: Output() for binding in self.outputs}
        arguments = {self.trigger["name"]: argument, **outputs}
        if inspect.iscoroutinefunction(self.user_function):
            result = await self.user_function(**arguments)
        else:
            result = await asyncio.to_thread(self.user_function, **arguments)
        for binding in self.outputs:
            for text in texts_of(outputs[binding["name"]].get()):
                await self.queues.of(binding).send(text)
        return result


def load_functions(module: str = "function_app") -> list[Function]:
    """The functions of `app` in `module`.

    Raises:
        HostError: The module has no FunctionApp named `app`, or a function needs a binding that this host lacks.
    """
    app = getattr(importlib.import_module(module), "app", None)
    if not isinstance(app, func.FunctionApp):
        raise HostError(f"{module}.py has no FunctionApp named app")
    return functions_of(app)


def functions_of(app: func.FunctionApp) -> list[Function]:
    """The functions of an app.

    Raises:
        HostError: The library refuses a function, or a function needs a binding that this host lacks.
    """
    app.functions_bindings = {}  # otherwise a second call on the same app finds every name used twice
    queues = Queues()
    try:
        return [_function(built, queues) for built in app.get_functions()]
    except ValueError as error:
        raise HostError(str(error)) from None


def route_prefix(root: Path = ROOT) -> str:
    """The prefix of every route, from `host.json`; `api` if it has none."""
    http = json.loads((root / "host.json").read_text()).get("extensions", {}).get("http", {})
    return str(http.get("routePrefix", "api"))


def _function(built: Any, queues: Queues) -> Function:
    name, user_function = built.get_function_name(), built.get_user_function()
    trigger = built.get_trigger().get_dict_repr()
    bindings = [binding.get_dict_repr() for binding in built.get_bindings()]
    outputs = [binding for binding in bindings if binding["type"] == "queue"]
    provided = {trigger["name"], *(binding["name"] for binding in outputs)}
    others = set(inspect.signature(user_function).parameters) - provided
    if others:
        raise HostError(f"{name}: the local host does not provide {', '.join(sorted(others))}")
    return Function(name, trigger, user_function, outputs, queues)

"""What the local host runs: the functions of an app, as the library's own metadata describes them."""

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
    """The folder of the app that is served: that of `function_app.py`, wherever Python finds it first."""
    found = importlib.util.find_spec("function_app")
    return Path(found.origin).resolve().parent if found and found.origin else Path.cwd()


ROOT = _root()


class Output(func.Out[Any]):
    """What a function sets for one of its outputs."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Replace what is to be sent."""
        self._value = val

    def get(self) -> Any:
        """What is to be sent."""
        return self._value


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its name, its trigger's binding, its outputs to queues, and what the developer wrote."""

    name: str
    trigger: Mapping[str, Any]
    user_function: Callable[..., Any]
    outputs: Sequence[Mapping[str, Any]] = ()
    queues: Queues = field(default_factory=Queues)

    async def __call__(self, argument: object) -> Any:
        """Run it with the trigger's value, then send what it set on its outputs, unless it failed.

        A function that is not async runs in a thread, as in the worker.
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
    queues = Queues()
    try:
        return [_function(built, queues) for built in app.get_functions()]
    except ValueError as error:
        raise HostError(str(error)) from None


def route_prefix(root: Path = ROOT) -> str:
    """The prefix of every route, from host.json; `api` when it does not say."""
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
        raise HostError(f"{name}: this host provides no {', '.join(sorted(others))}")
    return Function(name, trigger, user_function, outputs, queues)

"""`--set NAME=VALUE`: every field of the settings by its name, refused when there is no such field.

Must not know what a setting means; the settings check themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pointsman.api import ApiSettings
from pointsman.cli.exits import Usage
from pointsman.coordinator.settings import CoordinatorSettings

API = "api."
OWN_OPTIONS = {
    "name": "--name", "address": "--advertise", "api.host": "--host", "api.port": "--port",
    "api.token": "--token",
}  # fmt: skip


class UnknownSetting(Usage):
    """There is no setting of this name."""

    code = "unknown_setting"


def known_settings() -> dict[str, Any]:
    """Every name that `--set` takes, with its default."""
    fields = {field.name: field.default for field in dataclasses.fields(CoordinatorSettings)}
    api = {f"{API}{name}": default for name, default in _defaults(ApiSettings()).items()}
    return {name: value for name, value in {**fields, **api}.items() if name not in OWN_OPTIONS}


def parse(items: Iterable[str]) -> dict[str, Any]:
    """Values of the type of their default.

    Raises:
        UnknownSetting, Usage.
    """
    known = known_settings()
    found: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise Usage(f"--set {item}: give it as name=value")
        if name in OWN_OPTIONS:
            raise UnknownSetting(f"--set {name}: this one has an option of its own, {OWN_OPTIONS[name]}")
        if name not in known:
            raise UnknownSetting(f"--set {name}: there is no such setting; there are {', '.join(known)}")
        found[name] = _typed(name, value, type(known[name]))
    return found


def coordinator_settings(name: str, values: Mapping[str, Any]) -> CoordinatorSettings:
    """Raises: Usage (a value makes no sense)."""
    try:
        return CoordinatorSettings(name=name, **{k: v for k, v in values.items() if not k.startswith(API)})
    except ValueError as error:
        raise Usage(f"--set {error}") from error


def api_settings(host: str, port: int, token: str | None, values: Mapping[str, Any]) -> ApiSettings:
    """Raises: InsecureBind, InvalidSetting."""
    given = {name.removeprefix(API): value for name, value in values.items() if name.startswith(API)}
    settings = ApiSettings(host=host, port=port, token=token, **given)
    settings.validate()
    return settings


def _defaults(settings: ApiSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def _typed(name: str, value: str, kind: type) -> Any:
    try:
        return float(value) if kind is float else int(value.replace("_", "")) if kind is int else value
    except ValueError as error:
        raise Usage(f"--set {name}={value}: {'a whole number' if kind is int else 'a number'} is wanted") from error

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
from pointsman.router import InvalidRouterSettings, RouterSettings
from pointsman.stores.postgres.settings import PostgresSettings

API = "api."
STORE = "store."
OWN_OPTIONS = {
    "name": "--name", "address": "--advertise", "api.host": "--host", "api.port": "--port",
    "api.token": "--token",
}  # fmt: skip
ROUTERS_OWN_OPTIONS = {
    "host": "--host", "port": "--port", "token": "--token", "announce_token": "--announce-token",
    "coordinators": "--coordinator",
}  # fmt: skip


class UnknownSetting(Usage):
    """There is no setting of this name."""

    code = "unknown_setting"


def known_settings() -> dict[str, Any]:
    """Every name that `--set` takes, with its default."""
    fields = {field.name: field.default for field in dataclasses.fields(CoordinatorSettings)}
    api = {f"{API}{name}": default for name, default in _defaults(ApiSettings()).items()}
    store = {f"{STORE}{field.name}": field.default for field in dataclasses.fields(PostgresSettings)}
    return {name: value for name, value in {**fields, **api, **store}.items() if name not in OWN_OPTIONS}


def parse(items: Iterable[str]) -> dict[str, Any]:
    """Settings of a coordinator: values of the type of their default.

    Raises:
        UnknownSetting, Usage.
    """
    return _parse(items, known_settings(), OWN_OPTIONS)


def router_settings(items: Iterable[str], **own: Any) -> RouterSettings:
    """Settings of a router; `own`: those that have options.

    Raises:
        UnknownSetting, Usage.
    """
    defaults = RouterSettings()
    known = {name: getattr(defaults, name) for name in defaults.__struct_fields__ if name not in ROUTERS_OWN_OPTIONS}
    values = _parse(items, known, ROUTERS_OWN_OPTIONS)
    try:
        return RouterSettings(**own, **values)
    except InvalidRouterSettings as error:
        raise Usage(str(error)) from error


def _parse(items: Iterable[str], known: Mapping[str, Any], own_options: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise Usage(f"--set {item}: give it as name=value")
        if name in own_options:
            raise UnknownSetting(f"--set {name}: this one has an option of its own, {own_options[name]}")
        if name not in known:
            raise UnknownSetting(f"--set {name}: there is no such setting; there are {', '.join(known)}")
        found[name] = _typed(name, value, type(known[name]))
    return found


def coordinator_settings(name: str, values: Mapping[str, Any]) -> CoordinatorSettings:
    """Raises: Usage (a value makes no sense)."""
    try:
        return CoordinatorSettings(name=name, **{k: v for k, v in values.items() if not k.startswith((API, STORE))})
    except ValueError as error:
        raise Usage(f"--set {error}") from error


def store_settings(values: Mapping[str, Any]) -> PostgresSettings | None:
    """None: none was given. Raises: Usage (a value makes no sense)."""
    given = {name.removeprefix(STORE): value for name, value in values.items() if name.startswith(STORE)}
    try:
        return PostgresSettings(**given) if given else None
    except ValueError as error:
        raise Usage(f"--set {STORE}{error}") from error


def api_settings(host: str, port: int, token: str | None, values: Mapping[str, Any]) -> ApiSettings:
    """Raises: InsecureBind, InvalidSetting."""
    given = {name.removeprefix(API): value for name, value in values.items() if name.startswith(API)}
    settings = ApiSettings(host=host, port=port, token=token, **given)
    settings.validate()
    return settings


def _defaults(settings: ApiSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def _typed(name: str, value: str, kind: type) -> Any:
    if kind is bool:
        if value not in ("true", "false"):
            raise Usage(f"--set {name}={value}: true or false is wanted")
        return value == "true"
    try:
        return float(value) if kind in (float, type(None)) else int(value.replace("_", "")) if kind is int else value
    except ValueError as error:
        raise Usage(f"--set {name}={value}: {'a whole number' if kind is int else 'a number'} is wanted") from error

"""The HTTP interface of a coordinator."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointsman.api.errors import ApiError, InsecureBind, InvalidSetting
    from pointsman.api.server import ApiServer
    from pointsman.api.settings import ApiSettings

__all__ = ["ApiError", "ApiServer", "ApiSettings", "InsecureBind", "InvalidSetting"]

_NAMES = {
    "pointsman.api.errors": "ApiError InsecureBind InvalidSetting",
    "pointsman.api.server": "ApiServer",
    "pointsman.api.settings": "ApiSettings",
}
"""Names that are imported lazily: a client needs the types of the answers, but no server."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value

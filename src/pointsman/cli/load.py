"""Finding the app that a command line names: `module:attribute` or `file.py:attribute`.

Only ever called with what a person typed: nothing is imported by a name that came with data.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from pointsman.app import App
from pointsman.cli.exits import Usage


class AppNotFound(Usage):
    """APP names no Pointsman app; give it as module:attribute or file.py:attribute."""

    code = "app_not_found"


def load_app(spec: str) -> App:
    """The app, imported as if from the working directory.

    Raises:
        AppNotFound: no such module, file or attribute; it is no App; importing it failed.
    """
    where, colon, attribute = spec.rpartition(":")
    if not colon or not where or not attribute:
        raise AppNotFound(f"{spec!r}: give it as module:attribute or file.py:attribute")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    is_file = where.endswith(".py")
    try:
        module = _import_file(Path(where)) if is_file else importlib.import_module(where)
    except AppNotFound:
        raise
    except ModuleNotFoundError as error:
        hint = f" Write {where}.py:{attribute} for a file." if Path(f"{where}.py").exists() and not is_file else ""
        raise AppNotFound(f"{spec}: no module {error.name!r} from {here}.{hint}") from error
    except Exception as error:
        raise AppNotFound(f"{spec}: importing it failed with {type(error).__name__}: {error}") from error
    app: object = module
    for part in attribute.split("."):
        if not hasattr(app, part):
            apps = [name for name, value in vars(module).items() if isinstance(value, App)]
            raise AppNotFound(f"{spec}: {where} has no {attribute!r}; its apps: {', '.join(apps) or 'none'}")
        app = getattr(app, part)
    if not isinstance(app, App):
        raise AppNotFound(f"{spec}: is a {type(app).__name__}, not a pointsman.App")
    return app


def _import_file(path: Path) -> ModuleType:
    """Under the file's own name, so that types it declares have a module to be found in."""
    if not path.is_file():
        raise AppNotFound(f"{path}: no such file")
    parent = str(path.resolve().parent)
    if parent not in sys.path:
        sys.path.insert(0, parent)
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise AppNotFound(f"{path}: Python can't import this file")
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module

"""Finding the app that a command line names: `module:attribute` or `file.py:attribute`.

Only ever called with what a person typed: nothing is imported by a name that came with data.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from pointsman.app import App
from pointsman.cli.exits import Usage, one_line


class AppNotFound(Usage):
    """APP names no Pointsman app; give it as module:attribute or file.py:attribute."""

    code = "app_not_found"


CHECK = "import sys; from pointsman.cli.load import checked; sys.exit(checked(sys.argv[1]))"


def check_app(spec: str) -> None:
    """Can a process load the app? Tried in one of its own: what starts processes is to stay without it.

    Raises:
        AppNotFound: it can't.
    """
    child = subprocess.run(
        [sys.executable, "-c", CHECK, spec], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    if child.returncode == 0:
        return
    last_words = (child.stderr.strip().splitlines() or [""])[-1]
    mark, _, message = last_words.partition(": ")
    if mark == AppNotFound.code:
        raise AppNotFound(message)
    raise AppNotFound(f"{spec}: importing it ended Python with exit code {child.returncode}: {last_words}".rstrip(": "))


def checked(spec: str) -> int:
    """The process of `check_app`: its exit code, and what is wrong as the last line on stderr."""
    try:
        load_app(spec)
    except AppNotFound as error:
        print(one_line(error), file=sys.stderr)
        return 2
    except SystemExit as error:
        print(f"{AppNotFound.code}: {spec}: importing it ends Python (SystemExit {error})", file=sys.stderr)
        return 2
    return 0


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

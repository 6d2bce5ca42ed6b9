"""`pointsman init`: a small project that works, to change into one's own."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from pointsman.cli.exits import CommandError, Usage, guarded

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
SUFFIX = ".template"


class DirectoryNotEmpty(CommandError):
    """There is something in the directory: nothing is overwritten."""

    code = "directory_not_empty"


@guarded
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the project, and of the folder that is made.")],
) -> None:
    """Make a small project: an app, its test, a README.

    Its test passes with nothing but pointsman and pytest installed. Nothing is overwritten.
    """
    if not NAME.fullmatch(name):
        raise Usage(f"{name!r} can't name a project: 1–64 letters, digits, '_' or '-', a letter first")
    folder = Path(name)
    try:
        folder.mkdir(exist_ok=True)
        if any(folder.iterdir()):
            raise DirectoryNotEmpty(f"{folder} is not empty: give another name, or move away what is there")
        for file, text in project(name).items():
            (folder / file).write_text(text)
    except OSError as error:
        raise Usage(f"{folder}: {error.strerror}") from error
    typer.echo(f"{folder}/: {', '.join(sorted(project(name)))}")
    typer.echo(f"try:  cd {name} && pytest && pointsman dev app.py:app")


def project(name: str) -> dict[str, str]:
    """The files of a new project: name and text."""
    found = (files("pointsman.cli.init") / "project").iterdir()
    return {
        file.name.removesuffix(SUFFIX): Template(file.read_text()).substitute(name=name)
        for file in found
        if file.name.endswith(SUFFIX)
    }

"""The pages that are written from the code are what docs/generate.py gives now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pointsman.kernel.events import EVENT_TYPES

DOCS = Path(__file__).parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


@pytest.mark.parametrize("name", GENERATE.PAGES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    page = (DOCS / "reference" / name).read_text()
    assert page == GENERATE.PAGES[name](), f"run docs/generate.py: {name} is not what it gives"


def test_every_event_is_there() -> None:
    page = GENERATE.events()
    assert all(f"\n### {name}\n" in page for name in EVENT_TYPES)


def test_a_setting_without_a_line_is_an_error() -> None:
    class Settings:
        """Of a test.

        Attributes:
            first, second_s: what is known.
        """

        def __init__(self, first: int = 1, second_s: float = 1_500.0) -> None:
            self.first, self.second_s = first, second_s

    assert "| `store.second_s` | 1 500 | what is known |" in GENERATE.rows_of(Settings(), {}, "store.")
    assert "first" not in GENERATE.rows_of(Settings(), {"first": "--first"})
    Settings.__doc__ = "Of a test."
    with pytest.raises(KeyError):
        GENERATE.rows_of(Settings(), {})

"""What the documents say works: the README's program runs, every query of the SQL page is answered, every link leads
somewhere, and every row of the failure semantics names a test that exists."""

from __future__ import annotations

import asyncio
import re
import sys
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest

import pointsman
from pointsman import StartRun
from pointsman.kernel import errors
from pointsman.stores.postgres.migrate import migrate
from pointsman.stores.postgres.store import PostgresStore
from pointsman.testing import SyncWorkflowEnvironment

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def test_the_program_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = blocks("README.md", "python")
    module = ModuleType("support")
    monkeypatch.setitem(sys.modules, "support", module)
    exec(compile(source, "support.py", "exec"), module.__dict__)  # noqa: S102  that is the test
    with SyncWorkflowEnvironment(module.app) as env:
        paid = env.run("support", {"id": "1", "text": "I was charged twice"})
        assert paid.text.startswith("Refunded once, under ")
        assert paid.text.endswith("/1/billing#1")
        for text, ending in (("where am I?", "here"), ("and now?", "We look into it: and now?")):
            run = env.start("support", {"id": "2", "text": text})
            env.sleep(60)
            if ending == "here":
                env.answer(run, {"text": ending, "confidence": 1.0}, by="ann")
            assert env.result(run).text == ending, "an hour passes in which nobody answers, or somebody does"


def programs(page: Path) -> list[tuple[str, str]]:
    """The page's programs, each with the file name that its first line gives it, else `documented`."""
    found = []
    for source in blocks(str(page.relative_to(ROOT)), "python"):
        named = re.match(r"# (\w+)\.py\n", source)
        found.append((named[1] if named else "documented", source))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page)], ids=lambda page: page.stem)
def test_every_program_of_the_documents_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app is accepted, and a test passes. Programs with a name are files that the next ones may import."""
    for name, source in programs(page):
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, f"{page.name}: {name}", "exec"), module.__dict__)  # noqa: S102  that is the test
        tests = [value for key, value in vars(module).items() if key.startswith("test_")]
        declared = tests or module.app.directory.definitions() or module.app.directory.agents()
        assert declared, f"{name} has neither an app nor a test"
        for test in tests:
            asyncio.run(test()) if iscoroutinefunction(test) else test()


def test_the_programs_that_are_run_are_there() -> None:
    assert sum(len(programs(page)) for page in PAGES) >= 20


async def test_every_query_of_the_sql_page_is_answered(fresh_database: str) -> None:
    await migrate(fresh_database)
    from tests.support import programs

    async with programs.app.running(PostgresStore(fresh_database)) as runs:
        await runs.start(StartRun("sequence", b"1", id="ticket-4711", attributes={"customer": "acme"}))
        await runs.start(StartRun("stubborn", b"null", id="waits"))
        await runs.wait("ticket-4711", timeout_s=10)
        connection = await asyncpg.connect(fresh_database)
        answers = [await connection.fetch(query) for query in blocks("docs/howto/query-with-sql.md", "sql")]
        await connection.close()
    assert len(answers) == 11
    assert [row["id"] for row in answers[2]] == ["ticket-4711"]
    assert len(answers[3]) == 10
    assert len(answers[6]) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_row_of_the_failure_semantics_names_a_test() -> None:
    rows = [row for row in (ROOT / "docs/failure-semantics.md").read_text().splitlines() if row.startswith("| ")][1:]
    previous = ""
    for row in rows:
        cell = row.rstrip(" |").rpartition("|")[2].strip()
        for name in re.findall(r"`([^`]+)`", cell):
            path, _, function = name.partition("::")
            path = previous if path == "…" else path
            if "/" in path:
                previous = path
                assert (ROOT / path).exists(), name
                assert not function or f"def {function}(" in (ROOT / path).read_text(), name


def test_the_public_names_are_sorted_documented_and_there() -> None:
    assert sorted(pointsman.__all__) == pointsman.__all__
    for name in pointsman.__all__:
        assert getattr(pointsman, name).__doc__, name


def test_error_codes_are_unique_and_say_something() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.PointsmanError)]
    codes = [c.code for c in classes]
    assert len(set(codes)) == len(codes)
    assert all((c.__doc__ or "").strip() for c in classes)
    drawn = errors.__doc__ or ""
    assert all(c.__name__ in drawn for c in classes)


def test_changelog_names_this_version() -> None:
    assert f"## {pointsman.__version__}" in (ROOT / "CHANGELOG.md").read_text()

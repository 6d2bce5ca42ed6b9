"""How a program is declared."""

from pointsman import App, Run


def test_a_workflow_needs_no_parentheses() -> None:
    app = App("bare")

    @app.workflow
    async def ask(run: Run, text: str) -> str:
        return text

    assert [(d.workflow, d.version) for d in app.directory.definitions()] == [("ask", 1)]
    assert ask.name == "ask"

"""`--webhook`: what is wrong with it is said at once, and its secret is never shown."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from pointsman.cli.main import app

APP = "tests.support.programs:app"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK = "https://hooks.example.org/people"


@pytest.mark.parametrize("command", [["coordinator", APP, "--store", "sqlite:///x.db"], ["up", APP]])
@pytest.mark.parametrize(
    ("url", "secret", "status", "said"),
    [
        (HOOK, "", 2, "POINTSMAN_WEBHOOK_SECRET: a webhook needs a secret"),
        (HOOK, SECRET.removeprefix("whsec_"), 2, "POINTSMAN_WEBHOOK_SECRET: secret 1: whsec_ and base64"),
        ("nonsense", SECRET, 1, "address_refused: "),
        ("http://169.254.1.1/", SECRET, 1, "address_refused: "),
    ],
)
def test_a_webhook_that_can_not_be_told_is_refused(
    command: list[str], url: str, secret: str, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_WEBHOOK_SECRET", secret)
    done = CliRunner().invoke(app, [*command, "--webhook", url])
    assert done.exit_code == status
    assert said in done.stderr
    assert "MfKQ9r8" not in done.stderr


def test_private_addresses_are_refused_unless_agents_may_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_WEBHOOK_SECRET", SECRET)
    command = ["coordinator", APP, "--store", "sqlite:///x.db", "--webhook", "http://127.0.0.1:1/"]
    done = CliRunner().invoke(app, command)
    assert "address_refused: 127.0.0.1 is loopback" in done.stderr

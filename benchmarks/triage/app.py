"""The app that the cluster's coordinators load, by `benchmarks.triage.app:app`."""

from __future__ import annotations

from benchmarks.triage.agents import world
from benchmarks.triage.workflow import make_app

app = make_app(world().plan)

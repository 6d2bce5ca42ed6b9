"""`pointsman migrate`: bring a database to this release's schema."""

from __future__ import annotations

"""Processes that run one thing: a task, an endpoint. They never open the database."""

from __future__ import annotations

"""The shell: assembles the rooms' commands."""

from __future__ import annotations

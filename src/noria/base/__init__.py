"""Ground: values that every room shares. No input or output, and no word of machine learning."""

from __future__ import annotations

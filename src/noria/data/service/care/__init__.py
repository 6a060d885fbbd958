"""Garbage, damage, storage, erasure."""

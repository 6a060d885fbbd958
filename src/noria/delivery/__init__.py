"""Delivery: triggers, gates, releases through shadow and canary, promotion and rollback."""

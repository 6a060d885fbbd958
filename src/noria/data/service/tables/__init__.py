"""The verbs of tables."""

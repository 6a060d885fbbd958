"""Monitoring: windows over what was served, drift, input checks, accuracy from truth that comes late, alerts."""

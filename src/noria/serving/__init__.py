"""Serving: endpoints in worker processes on one socket, with canary, shadow and capture.

The service is imported from ``noria.serving.service``: a server that has no endpoint yet needs the small parts only.
"""

from __future__ import annotations

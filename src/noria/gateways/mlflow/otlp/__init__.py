"""OpenTelemetry's protocol for spans (OTLP over HTTP) in protobuf and in JSON, and what MLflow makes of it.

Spans are a handful of messages, and their wire format is forty lines; a protobuf runtime with generated classes would
be several packages for it (docs/decisions/dependencies.md).
"""

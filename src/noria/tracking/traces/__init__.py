"""Traces: what an application did for one request, as a tree of spans, and what people and judges say of it."""

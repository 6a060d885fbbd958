"""Traces in a folder ``mlruns``.

<experiment>/traces/<id>/trace_info.yaml, tags/<key>, request_metadata/<key>, assessments/<id>.yaml,
<experiment>/traces/<id>/artifacts/traces.json
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from noria.gateways.mlflow import tracewire as tw
from noria.gateways.mlflow.moving.records import Files, Moved, SourceTrace, spans_in_file
from noria.gateways.mlflow.moving.trace_words import assessment_of, trace_of
from noria.tracking.traces.records import Assessment

_PAGE: Final = 100
_INFO: Final = "trace_info.yaml"


@dataclass(frozen=True, slots=True)
class Reads:
    """How a folder is read: what YAML says; keys and values of small files; where artifacts lie by now."""

    source: Files
    yaml: Callable[[bytes], Any]
    texts: Callable[[Path], dict[str, str]]
    place: Callable[[str, Path], str]


def traces_in(folder: Path, reads: Reads, report: Moved) -> Iterator[list[SourceTrace]]:
    """The traces of an experiment's folder, in pages; what cannot be read is said in the report."""
    page: list[SourceTrace] = []
    for one in sorted(folder.glob(f"*/{_INFO}")):
        try:
            page.append(_trace(one.parent, reads, report))
        except (OSError, ValueError) as error:
            report.leave(str(one), f"it cannot be read: {error!s:.200}")
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


def _trace(folder: Path, reads: Reads, report: Moved) -> SourceTrace:
    info = reads.yaml((folder / _INFO).read_bytes())
    if not isinstance(info, dict):
        raise ValueError("it says nothing")
    tags = reads.texts(folder / "tags")
    judged = list(_judged(folder / "assessments", str(info.get("trace_id", "")), reads, report))
    said = trace_of(info, tags, reads.texts(folder / "request_metadata"), judged)
    place = reads.place(tags.get(tw.PLACE, ""), folder)
    return SourceTrace(said=said, place=place, extent="", spans=partial(spans_in_file, reads.source, place))


def _judged(folder: Path, trace_id: str, reads: Reads, report: Moved) -> Iterator[Assessment]:
    for one in sorted(folder.glob("*.yaml")):
        try:
            yield assessment_of(reads.yaml(one.read_bytes()), trace_id)
        except (OSError, ValueError, TypeError) as error:
            report.leave(str(one), f"it cannot be read: {error!s:.200}")

"""Wire shapes of contracts: their history, a check without a commit, what becomes of a refused batch."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.base.times import to_text
from noria.data.contract import Finding
from noria.data.records import MAIN, ContractRecord


class ContractRecordOut(msgspec.Struct):
    number: int
    in_force: bool
    digest: str
    actor: str
    at: str
    contract: dict[str, Any]


class ContractHistory(msgspec.Struct):
    items: list[ContractRecordOut]


class ContractBody(msgspec.Struct, forbid_unknown_fields=True):
    """``strict`` refuses a contract that the head of ``main`` breaks."""

    contract: dict[str, Any]
    strict: bool = False


class ContractSetOut(msgspec.Struct):
    """``findings`` is what ``commit``, the head of ``main``, breaks; ``rows`` how many were looked at."""

    number: int
    contract: dict[str, Any]
    commit: str | None
    rows: int
    findings: list[dict[str, Any]]


class CheckBody(msgspec.Struct, forbid_unknown_fields=True):
    """Without ``rows`` the table at ``ref`` is checked; without ``contract``, against the one in force."""

    rows: list[dict[str, Any]] | None = None
    contract: dict[str, Any] | None = None
    ref: str = MAIN


class CheckOut(msgspec.Struct):
    """``rows`` is how many were looked at."""

    rows: int
    findings: list[Finding]


class OfferBody(msgspec.Struct, forbid_unknown_fields=True):
    """The mended rows; without them the batch as it was."""

    rows: list[dict[str, Any]] | None = None
    message: str = ""


class DropBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: str


def contract_record_out(record: ContractRecord) -> ContractRecordOut:
    return ContractRecordOut(
        number=record.number,
        in_force=record.in_force,
        digest=record.digest,
        actor=record.actor,
        at=to_text(record.created_at),
        contract=record.spec,
    )

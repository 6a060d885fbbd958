"""What is asked of a collection, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.data.errors import ContractBroken
from noria.data.records import Commit
from noria.store.buckets import is_bucket_url


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Where a source's rows come from; secrets are resolved already.

    Attributes:
        files: a pattern below the project's root, or a folder; or a pattern of objects, ``s3://bucket/prefix/*.csv``.
        sql, url: a query and the database's URL; ``url`` alone is a file behind HTTP.
        watermark: of an SQL source, a column that grows.
        mode: ``append``, or ``overwrite`` where each reading is the whole table.
    """

    files: str | None = None
    sql: str | None = None
    url: str | None = None
    watermark: str | None = None
    checksum: str | None = None
    mode: str = "append"


@dataclass(slots=True, kw_only=True)
class Collected:
    """What a collection did.

    Attributes:
        refused: batches that lie in quarantine; ``details["source"]`` says where each came from.
        waiting: parts that the contract in force refused before, and that are as they were: they were not read again.
        held: the batches of ``waiting`` that still lie in quarantine.
        notes: what a person should hear, for instance that a file was rewritten.
        run_id: the collection's run; None where nothing was new.
        met: of a folder that is watched, the commit that held it already, where nothing was new.
    """

    commits: list[Commit] = field(default_factory=list[Commit])
    rows: int = 0
    refused: list[ContractBroken] = field(default_factory=list[ContractBroken])
    waiting: list[str] = field(default_factory=list[str])
    held: list[ContractBroken] = field(default_factory=list[ContractBroken])
    notes: list[str] = field(default_factory=list[str])
    run_id: RunId | None = None
    met: Commit | None = None


def spec_from(
    origin: str | None = None,
    *,
    sql: str | None = None,
    url: str | None = None,
    watermark: str | None = None,
    checksum: str | None = None,
) -> SourceSpec:
    """What a person wrote as a source: a pattern of files or objects, an HTTP address, or a query.

    Raises:
        Invalid: it is none of them, or several at once.
    """
    if (origin is None) == (sql is None):
        raise Invalid("A source is either files, objects or an address, or a query.", hint="--from 'in/*.csv'")
    if sql is not None:
        if url is None:
            raise Invalid("A query needs the database's URL.", hint="--url env:SHOP_DB   reads it from the environment")
        return SourceSpec(sql=sql, url=url, watermark=watermark)
    assert origin is not None
    if origin.startswith(("http://", "https://")):
        return SourceSpec(url=origin, checksum=checksum)
    if "://" in origin and not is_bucket_url(origin):
        hint = "Files, s3://, gs://, az:// or https://; a query: --sql ... --url ..."
        raise Invalid(f"{origin.partition('://')[0]}:// is no source that noria reads.", hint=hint)
    return SourceSpec(files=origin if is_bucket_url(origin) else str(Path.cwd() / origin))

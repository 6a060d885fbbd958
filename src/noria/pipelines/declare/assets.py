"""Sources and decorators."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, overload

from noria.base.errors import Invalid
from noria.base.names import check_name
from noria.base.times import parse_duration
from noria.jobs.cron import check_every
from noria.pipelines.declare.policies import Budget, Gate, Inert, Release, Space, Split, When

F = TypeVar("F", bound=Callable[..., Any])
RESERVED: Final = frozenset({"train", "valid", "evaluation"})


@dataclass(frozen=True, slots=True)
class Secret(Inert):
    """The name of a secret; its value is looked up where it is needed and never stored."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Inert):
    """Where rows come from. See ``source``."""

    name: str
    files: str | None = None
    sql: str | None = None
    url: str | Secret | None = None
    watermark: str | None = None
    every: str | None = None
    key: tuple[str, ...] = ()
    time: str | None = None
    known: str | None = None
    folder: bool = False
    pinned: str | None = None

    @property
    def collected(self) -> bool:
        """Whether noria reads it; otherwise its rows are posted. A pinned source stays as it is."""
        return self.pinned is None and bool(self.files or self.sql or self.url)

    def at(self, ref: str) -> Source:
        """The same source at a branch, tag or commit."""
        values = {name: getattr(self, name) for name in self.__slots__ if hasattr(self, name)}
        return Source(**{**values, "pinned": ref})


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Inert):
    """A step in any language. See ``command``."""

    name: str
    text: str
    out: str
    resources: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Inert):
    """A stable name that is called. See ``endpoint``."""

    name: str
    model: Any
    p99_ms: float | None
    release: Release
    follow: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a decorator says of a function.

    Attributes:
        kind: dataset, report, check, features, labels or model.
        inputs: parameter -> asset, where the name differs or a version is pinned.
        resources: cpu, gpu, memory, timeout (milliseconds), retries.
        ignore: hyperparameters that do not count for the identity.
        deps: what else the function depends on.
        options: what belongs to the kind.
    """

    kind: str
    name: str | None
    inputs: Mapping[str, Any]
    resources: dict[str, Any]
    ignore: tuple[str, ...]
    deps: tuple[Any, ...]
    version: str | None
    options: dict[str, Any] = field(default_factory=dict)


def secret(name: str) -> Secret:
    """A value that the environment holds under this name, for instance a database's URL."""
    return Secret(name)


def source(
    name: str,
    *,
    files: str | None = None,
    sql: str | None = None,
    url: str | Secret | None = None,
    watermark: str | None = None,
    every: str | None = None,
    key: str | Sequence[str] = (),
    time: str | None = None,
    known: str | None = None,
    folder: bool = False,
) -> Source:
    """Rows from outside, versioned in a repository of the same name.

    Args:
        files: a pattern below the project's folder (CSV, Parquet, JSON lines), or of objects in a bucket
            (``s3://bucket/prefix/*.parquet``, ``gs://``, ``az://``); with ``folder=True`` a folder, or a prefix of a
            bucket, whose files are kept as they are.
        sql: a query, with ``url`` the database's SQLAlchemy URL. With ``watermark``, a column that grows, only what
            is new is read.
        url: alone, a file behind HTTP(S). With neither, rows are posted over HTTP or by ``noria data append``.
        every: how often a running server collects it, once it was applied: ``"10m"``, ``"day at 18:00 Europe/Berlin"``
            or a cron expression.
        key: the column (or columns) that names a row.
        time: the column of the event time.
        known: the column that says when a row could first be known; default: when it was committed.
    """
    check_name(name, "a source")
    if sql is not None and url is None:
        raise Invalid(f"The source {name!r} has sql= but no url= of a database.", hint='url=nr.secret("SHOP_DB")')
    if every is not None:
        check_every(every)
    if files is not None and (sql is not None or url is not None):
        raise Invalid(f"The source {name!r} has files= and {'sql' if sql else 'url'}=; it takes one of them.")
    return Source(
        name=name,
        files=files,
        sql=sql,
        url=url,
        watermark=watermark,
        every=every,
        key=(key,) if isinstance(key, str) else tuple(key),
        time=time,
        known=known,
        folder=folder,
    )


def _resources(cpu: int, gpu: float, memory: str | None, timeout: str | None, retries: int) -> dict[str, Any]:
    return {
        "cpu": cpu,
        "gpu": gpu,
        "memory": _bytes(memory),
        "timeout": None if timeout is None else parse_duration(timeout),
        "retries": retries,
    }


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|KiB|MiB|GiB)", text)
    if match is None:
        raise Invalid(f"{text!r} is not an amount of memory.", hint='memory="2GiB"')
    sizes = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return round(float(match[1]) * sizes[match[2]])


def _decorate(
    kind: str,
    function: Any,
    *,
    name: str | None,
    inputs: Mapping[str, Any] | None,
    cpu: int,
    gpu: float,
    memory: str | None,
    timeout: str | None,
    retries: int,
    ignore: Sequence[str],
    deps: Sequence[Any],
    version: str | None,
    options: dict[str, Any] | None = None,
) -> Any:
    declaration = Declaration(
        kind=kind,
        name=name,
        inputs=dict(inputs or {}),
        resources=_resources(cpu, gpu, memory, timeout, retries),
        ignore=tuple(ignore),
        deps=tuple(deps),
        version=version,
        options=options or {},
    )

    def mark(target: F) -> F:
        if not callable(target) or not hasattr(target, "__code__"):
            raise Invalid(f"@nr.{kind} takes a function, not a {type(target).__name__}.")
        check_name(name or target.__name__, "an asset")
        target.__noria__ = declaration  # type: ignore[attr-defined]
        return target

    return mark if function is None else mark(function)


@overload
def dataset(function: F, /) -> F: ...
@overload
def dataset(
    *,
    name: str | None = ...,
    inputs: Mapping[str, Any] | None = ...,
    key: str | Sequence[str] = ...,
    time: str | None = ...,
    cpu: int = ...,
    gpu: float = ...,
    memory: str | None = ...,
    timeout: str | None = ...,
    retries: int = ...,
    ignore: Sequence[str] = ...,
    deps: Sequence[Any] = ...,
    version: str | None = ...,
) -> Callable[[F], F]: ...
def dataset(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    key: str | Sequence[str] = (),
    time: str | None = None,
    cpu: int = 1,
    gpu: float = 0,
    memory: str | None = None,
    timeout: str | None = None,
    retries: int = 0,
    ignore: Sequence[str] = (),
    deps: Sequence[Any] = (),
    version: str | None = None,
) -> Any:
    """A function whose result is a dataset: a table, a folder (``pathlib.Path``) or a JSON value.

    Args:
        inputs: parameter -> asset, where the name differs or a version is pinned.
        key, time: of a table.
        cpu, gpu, memory, timeout, retries: what it needs, and how often it is tried again.
        ignore: keyword-only parameters that do not change the result, for instance ``("n_jobs",)``.
        deps: functions, modules or files that it depends on and that cannot be seen.
        version: change it to run again for a reason that cannot be seen.
    """
    options = {"key": [key] if isinstance(key, str) else list(key), "time": time}
    return _decorate(
        "dataset", function, name=name, inputs=inputs, cpu=cpu, gpu=gpu, memory=memory, timeout=timeout,
        retries=retries, ignore=ignore, deps=deps, version=version, options=options,
    )  # fmt: skip


def report(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    cpu: int = 1,
    gpu: float = 0,
    memory: str | None = None,
    timeout: str | None = None,
    retries: int = 0,
    ignore: Sequence[str] = (),
    deps: Sequence[Any] = (),
    version: str | None = None,
) -> Any:
    """A function whose result is for people: text (Markdown, HTML), a folder or a JSON value."""
    return _decorate(
        "report", function, name=name, inputs=inputs, cpu=cpu, gpu=gpu, memory=memory, timeout=timeout,
        retries=retries, ignore=ignore, deps=deps, version=version,
    )  # fmt: skip


def check(
    about: Any,
    /,
    *,
    name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    timeout: str | None = None,
    retries: int = 0,
    deps: Sequence[Any] = (),
    version: str | None = None,
) -> Callable[[F], F]:
    """A test of an asset: the function raises (``assert``) where it does not hold.

    Args:
        about: the asset that it tests. Of a model, the parameter ``evaluation`` holds its test rows and scores.
    """
    return _decorate(
        "check", None, name=name, inputs=inputs, cpu=1, gpu=0, memory=None, timeout=timeout, retries=retries,
        ignore=(), deps=deps, version=version, options={"about": about},
    )  # fmt: skip


def features(
    *,
    of: Any,
    at: Any,
    name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    cpu: int = 1,
    memory: str | None = None,
    timeout: str | None = None,
    retries: int = 0,
    deps: Sequence[Any] = (),
    version: str | None = None,
) -> Callable[[F], F]:
    """A stateless function that makes one row of features for each row of ``of``.

    Args:
        of: the source whose rows are predicted for (the spine).
        at: a Polars expression over the spine: the moment up to which things are known. Other tables are seen
            through ``nr.asof`` and ``nr.history`` only.
    """
    return _decorate(
        "features", None, name=name, inputs=inputs, cpu=cpu, gpu=0, memory=memory, timeout=timeout,
        retries=retries, ignore=(), deps=deps, version=version, options={"of": of, "at": at},
    )  # fmt: skip


def labels(
    *,
    of: Any,
    after: str,
    name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    deps: Sequence[Any] = (),
    version: str | None = None,
) -> Callable[[F], F]:
    """A function that makes the truth: a table with the key of ``of`` and one column of the label.

    Args:
        of: the source whose rows it is the truth of.
        after: how long after the row's time the truth is waited for; a row without it by then is counted as missing.
    """
    parse_duration(after)
    return _decorate(
        "labels", None, name=name, inputs=inputs, cpu=1, gpu=0, memory=None, timeout=None, retries=0,
        ignore=(), deps=deps, version=version, options={"of": of, "after": after},
    )  # fmt: skip


def model(
    function: Any = None,
    /,
    *,
    features: Any = None,
    target: Any = None,
    split: Split | None = None,
    metrics: Sequence[Any] = (),
    search: Mapping[str, Space] | None = None,
    trials: int = 20,
    gates: Sequence[Gate] = (),
    retrain: Sequence[When] = (),
    budget: Budget | None = None,
    name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    cpu: int = 1,
    gpu: float = 0,
    memory: str | None = None,
    timeout: str | None = None,
    retries: int = 0,
    ignore: Sequence[str] = (),
    deps: Sequence[Any] = (),
    version: str | None = None,
) -> Any:
    """A function that fits and returns a model.

    Args:
        features, target: the features and labels that it learns from; the function then takes ``train`` and
            ``valid``. Without them it takes any assets.
        split: default by time where the features have one, else by the hash of the key.
        metrics: names or functions; the first is the primary one of gates, sweeps and triggers.
        search: keyword-only parameter -> ``nr.space``; ``trials`` is how many a sweep tries by default.
        gates, retrain, budget: policies; they never cause a new training by themselves being changed.
    """
    if (features is None) != (target is None):
        raise Invalid("@nr.model takes features= and target= together, or neither.")
    options = {
        "features": features,
        "target": target,
        "split": split,
        "metrics": tuple(metrics),
        "search": dict(search or {}),
        "trials": trials,
        "gates": tuple(gates),
        "retrain": tuple(retrain),
        "budget": budget or Budget(),
    }
    return _decorate(
        "model", function, name=name, inputs=inputs, cpu=cpu, gpu=gpu, memory=memory, timeout=timeout,
        retries=retries, ignore=ignore, deps=deps, version=version, options=options,
    )  # fmt: skip


def command(
    text: str,
    *,
    name: str,
    out: str = "folder",
    cpu: int = 1,
    gpu: float = 0,
    memory: str | None = None,
    timeout: str | None = None,
    retries: int = 0,
) -> Command:
    """A step in any language: ``nr.command("Rscript prep.R {clicks} {out}", name="sessions", out="parquet")``.

    Names in braces are inputs: a table arrives as a Parquet file, a folder as a folder. ``{out}`` is where the
    result has to be: a folder, or with ``out="parquet"`` or ``"csv"`` a table file.
    """
    check_name(name, "an asset")
    if "{out}" not in text:
        raise Invalid(f"The command of {name!r} never writes {{out}}.", hint='"prep {clicks} {out}"')
    if out not in ("folder", "parquet", "csv", "json"):
        raise Invalid(f"out={out!r} of {name!r} is not known.", hint="folder, parquet, csv or json")
    return Command(name=name, text=text, out=out, resources=_resources(cpu, gpu, memory, timeout, retries))


def endpoint(
    name: str,
    *,
    model: Any,
    p99_ms: float | None = None,
    release: Release | None = None,
    follow: str | None = None,
) -> Endpoint:
    """A stable name and contract that is called over HTTP.

    Args:
        model: the model behind it.
        p99_ms: the latency that it promises; requests above it count against a canary.
        release: how a new version takes over.
        follow: an alias whose moves start a release through the gates (decision 8).
    """
    check_name(name, "an endpoint")
    return Endpoint(
        name=name, model=model, p99_ms=p99_ms, release=release or Release(steps=(0.05, 0.25, 1.0)), follow=follow
    )


def declaration_of(thing: Any) -> Declaration | None:
    """What a decorator said of a function, or None."""
    found = getattr(thing, "__noria__", None)
    return found if isinstance(found, Declaration) else None

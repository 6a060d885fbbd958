"""Makes a package of a model that MLflow's client logged: in a worker process, which loads it in a process of its own.

Where there are rows with a truth, the model is judged on them as one of ours is on its test rows, and they become the
reference for drift. Where there are none, its input example is all that is known of it.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import polars.selectors as cs

from noria.base.names import nearest
from noria.data.rows.schema import type_name
from noria.features.function import AT, FeatureSpec, as_moments
from noria.features.slices import TableMeta
from noria.labels.records import LabelSpec
from noria.pipelines.execute import MODEL, TREE, Output, Task
from noria.training import metrics as m
from noria.training import package, reference
from noria.training.adopting import Adopting
from noria.training.apart import Apart
from noria.training.errors import AdoptionInvalid, TooFewRows
from noria.training.evaluation import PART, SCORE, TRUTH, judge
from noria.training.models import Stored
from noria.training.rows import Columns
from noria.training.signature import Signature

FLAVOR: Final = "mlflow"
FOLDER: Final = "model"
"""Where the client's own package lies in ours."""
REQUEST: Final = "request"
"""What the rows of a model are called that no table holds."""
_SAMPLE: Final = 5
_CHUNK: Final = 10_000
_MOST_ROWS: Final = 200_000
_PINNED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;#]+)")


def run_adopt(task: Task) -> list[Output]:
    """Inputs: ``model`` (the client's package) and maybe ``table``; outputs: the package, and ``evaluation``."""
    spec = task.spec.spec
    signature, settings = Signature.of_value(spec["signature"]), Adopting.of_value(spec["settings"])
    found = _Rows.of(task, signature, settings)
    folder = task.scratch / "package"
    folder.mkdir()
    shutil.copytree(task.load("model"), folder / FOLDER)
    predict = Apart(folder / FOLDER, signature, probabilities=settings.proba)
    try:
        outputs: list[Output] = []
        facts: dict[str, Any] = {"metrics": {}, "primary": "", "task": settings.task or "regression"}
        if found is None:
            head = _example(folder / FOLDER, signature)
            scores = predict(head) if len(head) else np.zeros(0)
            made, known = None, reference.freeze(np.zeros(0), pl.DataFrame())
        else:
            scores = np.concatenate([predict(part) for part in found.features.iter_slices(_CHUNK)])
            made, facts = found.judged(scores)
            known, head = reference.freeze(scores, found.features.select(_counted(found.features))), found.features
        head = head.head(_SAMPLE)
        sample = {
            "features": json.loads(json.dumps(head.to_dicts(), default=_text)),
            "scores": scores[:_SAMPLE].tolist(),
            "rows": [] if found is None else json.loads(json.dumps(found.requests(_SAMPLE), default=_text)),
        }
        _finite(scores)
        written = _package(spec, signature, settings, found, facts)
        package.write(folder, written, known, sample)
    finally:
        predict.close()
    meta = {
        "rows": 0 if found is None else len(found.features),
        "metrics": {name: value["value"] for name, value in facts["metrics"].items()},
        "task": facts["task"],
        "differs": differing(folder / FOLDER / "requirements.txt"),
        "probabilities": bool(predict.facts.get("probabilities")),
    }
    outputs.append(Output(slot="", kind=MODEL, value=folder, meta=meta))
    if made is not None:
        evaluation = task.scratch / "evaluation"
        evaluation.mkdir()
        made.write_parquet(evaluation / "scores.parquet")
        (evaluation / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        outputs.append(Output(slot="evaluation", kind=TREE, value=evaluation, meta={"metrics": meta["metrics"]}))
    return outputs


class _Rows:
    """Rows with a truth that judge a model."""

    def __init__(self, frame: pl.DataFrame, signature: Signature, settings: Adopting, meta: dict[str, Any]) -> None:
        self.table, self.settings = meta["table"], settings
        self.key = list(settings.key) or list(meta["key"])
        self.time: str | None = meta["time"]
        self.needed = signature.needed
        _check_columns(frame, [*signature.types, settings.target, *self.key], self.table)
        frame = frame.filter(pl.col(settings.target).is_not_null())
        if self.time is not None:
            frame = frame.sort(self.time, maintain_order=True, nulls_last=False)
        frame = frame.tail(_MOST_ROWS)
        if not len(frame):
            raise TooFewRows(f"No row of {self.table!r} has a {settings.target}.", hint="Put rows into it first.")
        self.frame = frame
        types = Columns(types=signature.types, levels={}).dtypes
        self.features = pl.DataFrame(
            [_cast(frame.get_column(name), dtype, self.table) for name, dtype in types.items()]
        )
        self.task, self.truth = _truth(frame[settings.target], settings)

    @classmethod
    def of(cls, task: Task, signature: Signature, settings: Adopting) -> _Rows | None:
        slot = task.inputs().get("table")
        if slot is None:
            return None
        return cls(task.load("table"), signature, settings, {**slot.meta, "table": slot.asset})

    def judged(self, scores: Any) -> tuple[pl.DataFrame, dict[str, Any]]:
        """(the rows with their scores, everything that is said of them)."""
        usual = m.DEFAULTS[self.task]
        if self.task == "binary" and bool(np.isin(scores, (0.0, 1.0)).all()):
            usual = ("accuracy", *usual)  # classes: the log of a chance means nothing of them
        rest = [metric.name for metric in m.METRICS.values() if self.task in metric.tasks]
        chosen = [m.METRICS[name] for name in dict.fromkeys([*usual, *rest])]
        names = [name for name in self.features.columns if name not in self.key]
        frame = self.frame.select(self.key).with_columns(
            self._moments(),
            *(self.features[name] for name in names),
            pl.Series(TRUTH, self.truth),
            pl.Series(SCORE, scores),
            pl.Series(PART, ["test"] * len(scores)),
            pl.Series("constant", np.full(len(scores), float(self.truth.mean()))),
        )
        facts = judge(frame, chosen, names)
        facts |= {
            "task": self.task, "rows_judged": len(frame), "valid": {}, "finite": bool(np.isfinite(scores).all()),
            "window": {}, "parts": {"test": len(frame)},
        }  # fmt: skip
        return frame, facts

    def requests(self, count: int) -> list[dict[str, Any]]:
        """Some rows as a caller would send them, of those that have what the model needs."""
        own = [name for name in self._named() if name not in self.features.columns]
        sent = self.frame.select(own).hstack(self.features.with_columns(cs.float().fill_nan(None)))
        return sent.drop_nulls([*self.needed, *self.key]).head(count).to_dicts()

    def spine(self, signature: Signature) -> TableMeta:
        own = {name: type_name(self.frame.schema[name], name) for name in self._named()}
        return TableMeta(
            name=self.table, key=tuple(self.key), time=self.time, known=None, columns=own | signature.types
        )

    def _named(self) -> list[str]:
        """Columns of a request beside the model's own: the key and the moment."""
        time = [] if self.time is None or self.time in self.key else [self.time]
        return [*self.key, *time]

    def _moments(self) -> pl.Series:
        if self.time is None:
            return pl.Series(AT, [None] * len(self.frame), pl.Datetime("us", "UTC"))
        return as_moments(self.frame[self.time]).alias(AT)


def differing(path: Path) -> list[str]:
    """Packages that the model was logged with and that are here in another version, or not at all."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found: list[str] = []
    for line in lines:
        match = _PINNED.match(line.strip())
        if match is None:
            continue
        name, wanted = match[1], match[2]
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = ""
        if here != wanted and not (name == "mlflow" and not here):
            found.append(f"{name} {wanted} (here: {here or 'none'})")
    return found


def _package(
    spec: dict[str, Any], signature: Signature, settings: Adopting, found: _Rows | None, facts: dict[str, Any]
) -> package.Package:
    labels: dict[str, Any] = {}
    if found is None:
        spine = TableMeta(name=REQUEST, key=(), time=None, known=None, columns=signature.types)
    else:
        spine = found.spine(signature)
        if found.key:
            labels = LabelSpec(
                name=f"{found.table}.{settings.target}", entry="", of=found.table, key=tuple(found.key),
                target=settings.target, type="float64", after_ms=settings.after_ms, tables={"rows": found.table},
            ).as_value()  # fmt: skip
    chosen = {name: value["value"] for name, value in facts["metrics"].items()}
    if not chosen and settings.task:
        chosen = dict.fromkeys(m.DEFAULTS[settings.task])
    return package.Package(
        name=spec["model"],
        task=facts["task"],
        target=settings.target,
        after_ms=settings.after_ms,
        labels=labels,
        columns=Columns(types=signature.types, levels={}),
        features=FeatureSpec(
            name=spine.name, entry="", spine=spine, spine_parameter="rows", tables={}, uses=(),
            columns=signature.types, online=None,
        ),
        stored=Stored(flavor=FLAVOR, file=FOLDER, trust="C", library="mlflow", version=spec["mlflow"]),
        params={},
        window={},
        metrics=chosen,
        primary=next(iter(chosen), ""),
        code="",
        adopted={**settings.as_value(), "signature": signature.as_value(), "run": spec["run"]},
    )  # fmt: skip


def _check_columns(frame: pl.DataFrame, wanted: list[str], table: str) -> None:
    for name in wanted:
        if name not in frame.columns:
            raise AdoptionInvalid(
                f"The table {table!r} has no column {name!r}.",
                hint=nearest(name, frame.columns) or f"Columns: {', '.join(frame.columns[:20])}.",
            )


def _cast(series: pl.Series, dtype: pl.DataType, table: str) -> pl.Series:
    try:
        return series.cast(dtype)
    except pl.exceptions.PolarsError:
        raise AdoptionInvalid(
            f"The column {series.name!r} of {table!r} is {series.dtype}; the model takes {dtype}.",
            hint="Choose a table with the rows that the model was made for.",
        ) from None


def _truth(series: pl.Series, settings: Adopting) -> tuple[str, Any]:
    if not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        raise AdoptionInvalid(
            f"The truth {series.name!r} is {series.dtype}; yes-or-no and numbers can be judged so far.",
            hint="Name a column of numbers with --target.",
        )
    values = series.cast(pl.Float64).to_numpy()
    yes_no = bool(np.isin(values, (0.0, 1.0)).all())
    task = settings.task or ("binary" if yes_no else "regression")
    if task == "binary" and not yes_no:
        raise AdoptionInvalid(f"The truth {series.name!r} is not yes or no.", hint="--task regression")
    return task, values


def _counted(frame: pl.DataFrame) -> list[str]:
    """Columns whose distribution is followed: moments have none that would stay."""
    return [name for name, dtype in frame.schema.items() if not dtype.is_temporal()]


def _finite(scores: Any) -> None:
    if not np.isfinite(scores).all():
        raise AdoptionInvalid(
            f"The model gave no number for {int((~np.isfinite(scores)).sum())} of {len(scores)} rows.",
            hint="Look for missing values in the table.",
        )


def _example(folder: Path, signature: Signature) -> pl.DataFrame:
    """The rows of the input example that fit the signature; none where it has none, or one of another form."""
    empty = pl.DataFrame(schema=Columns(types=signature.types, levels={}).dtypes)
    try:
        value = json.loads((folder / "serving_input_example.json").read_text(encoding="utf-8"))
        if "inputs" in value:
            rows = value["inputs"]
        else:
            names = [str(name) for name in value["dataframe_split"]["columns"]]
            places = [names.index(name) for name in signature.types]
            rows = [[row[place] for place in places] for row in value["dataframe_split"]["data"]]
        return pl.DataFrame(rows[:_SAMPLE], schema=empty.schema, orient="row", strict=False)
    except (OSError, ValueError, KeyError, TypeError, IndexError, pl.exceptions.PolarsError):
        return empty


def _text(value: Any) -> str:
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no plain value")

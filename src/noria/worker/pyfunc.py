"""``python -m noria.worker.pyfunc FOLDER SIGNATURE [1]``: a model of MLflow in a process of its own.

Loads the ``MLmodel`` in FOLDER with MLflow's own client and answers lines of JSON: ``{"columns": {name: [...]}}`` gives
``{"scores": [...]}`` or ``{"error": text}``. Imports nothing of noria but the reading of a signature. It ends when its
input does: it does not outlive who started it (``training/apart.py``).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from noria.training.signature import Signature


class Unfit(Exception):
    """What a model gave is no number for each row."""


def main() -> None:
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    lines = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a model prints must not look like an answer
    folder, text, *chosen = sys.argv[1:]
    signature = Signature.of_value(json.loads(text))
    try:
        predict, facts = load(folder, probabilities=bool(chosen and chosen[0]))
    except BaseException as error:  # noqa: BLE001 - whatever a model does while it loads is said, and this process ends
        _say(out, {"error": _words(error)})
        return
    _say(out, {"loaded": True, **facts})
    for line in lines:
        columns = json.loads(line)["columns"]
        try:
            rows = _rows(columns, signature)
            answer: dict[str, Any] = {"scores": scores(predict(rows), len(next(iter(columns.values()))))}
        except Exception as error:  # noqa: BLE001 - the model's own code: whatever it raises is the answer
            answer = {"error": _words(error)}
        _say(out, answer)


def load(folder: str, *, probabilities: bool) -> tuple[Any, dict[str, Any]]:
    """(what answers, facts)."""
    import mlflow
    from mlflow import pyfunc

    model = pyfunc.load_model(folder)
    raw = getattr(model, "get_raw_model", lambda: None)
    try:
        native = raw()
    except Exception:  # noqa: BLE001 - a wrapper that has none says so in many ways
        native = None
    chances = getattr(native, "predict_proba", None)
    if probabilities and chances is None:
        raise Unfit("it gives no probabilities: adopt it without --proba")
    facts = {"mlflow": mlflow.__version__, "probabilities": chances is not None}
    return (chances if probabilities else model.predict), facts


def _rows(columns: dict[str, list[Any]], signature: Signature) -> Any:
    """What the model takes: a pandas DataFrame, or a matrix."""
    import numpy as np

    if signature.matrix:
        values = [[np.nan if v is None else v for v in columns[name]] for name in signature.types]
        return np.array(values, dtype=signature.matrix).T
    import pandas as pd

    made: dict[Any, Any] = {}
    for place, (name, kind) in enumerate(signature.types.items()):
        values = columns[name]
        column: Any
        if kind.startswith("datetime"):
            column = pd.to_datetime(np.array(values, dtype="float64"), unit="us")
        elif kind == "str":
            column = np.array(values, dtype=object)
        elif None in values:  # as MLflow's own clients send it: the model says what it thinks of a float
            column = np.array(
                [np.nan if v is None else v for v in values], dtype=kind if "float" in kind else "float64"
            )
        else:
            column = np.array(values, dtype=kind)  # not a Series: one costs as much as a small model's answer
        made[place if signature.numbered else name] = column
    return pd.DataFrame(made)


def scores(given: Any, count: int) -> list[float | None]:
    """One number for each row: a column of numbers, or the second of two that are chances of no and yes.

    Raises:
        Unfit: it is something else.
    """
    import numpy as np

    if hasattr(given, "to_numpy"):
        given = given.to_numpy()
    found = np.asarray(given)
    if found.ndim == 2 and (found.shape[1] == 1 or _are_chances(found)):
        found = found[:, -1]
    if found.ndim == 0 and count == 1:
        found = found.reshape(1)
    if found.shape != (count,) or found.dtype.kind not in "biufO":
        what = f"{found.dtype} of the shape {list(found.shape)}"
        raise Unfit(f"it gave {what} for {count} rows; noria serves one number for each row")
    try:
        numbers = found.astype(np.float64)
    except (TypeError, ValueError):
        raise Unfit(f"it gave {found.tolist()[:3]!r:.100}; noria serves one number for each row") from None
    return [float(n) if np.isfinite(n) else None for n in numbers]


def _are_chances(found: Any) -> bool:
    """Whether these are two columns that add up to one; two targets of a regression are not."""
    import numpy as np

    if found.shape[1] != 2 or found.dtype.kind not in "fiu":
        return False
    return bool((found >= 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-4))


def _words(error: BaseException) -> str:
    return str(error)[:1000] if isinstance(error, Unfit) else f"{type(error).__name__}: {error!s:.1000}"


def _say(out: Any, value: dict[str, Any]) -> None:
    try:
        out.write(json.dumps(value).encode() + b"\n")
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()

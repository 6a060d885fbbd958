"""The models that every other one has to beat: a constant, and a linear model. Theirs is the platform's definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from noria.base.errors import MissingExtra
from noria.training.rows import Columns, to_matrix

if TYPE_CHECKING:
    import polars as pl

Floats = np.ndarray[Any, np.dtype[np.float64]]


def constant(y: Floats, rows: int) -> Floats:
    """The mean of the training rows, for every row."""
    return np.full(rows, float(y.mean()))


def linear(train: pl.DataFrame, y: Floats, others: list[pl.DataFrame], columns: Columns, task: str) -> list[Floats]:
    """Scores of a logistic (yes or no) or ridge regression on scaled numbers and one-hot texts.

    Missing numbers become the training median, with a column that says so.
    """
    try:
        from scipy import sparse
        from sklearn.linear_model import LogisticRegression, Ridge
    except ImportError:
        raise MissingExtra("scikit-learn", "ml", "The linear baseline") from None
    encode = _Encoder(train, columns)
    x = sparse.csr_matrix(encode(train))
    model: Any = LogisticRegression(max_iter=200, C=1.0) if task == "binary" else Ridge(alpha=1.0)
    if task == "binary" and len(np.unique(y)) < 2:
        return [constant(y, len(frame)) for frame in others]
    model.fit(x, y)
    if task == "binary":
        return [np.asarray(model.predict_proba(sparse.csr_matrix(encode(f)))[:, -1], np.float64) for f in others]
    return [np.asarray(model.predict(sparse.csr_matrix(encode(f))), np.float64) for f in others]


class _Encoder:
    def __init__(self, train: pl.DataFrame, columns: Columns) -> None:
        self._columns = columns
        matrix = to_matrix(train, columns)
        self._texts = [n for n, name in enumerate(columns.names) if name in columns.levels]
        self._numbers = [n for n, name in enumerate(columns.names) if name not in columns.levels]
        numbers = matrix[:, self._numbers]
        with np.errstate(all="ignore"):
            middle = np.array([np.nanmedian(c) if np.isfinite(c).any() else 0.0 for c in numbers.T])
        self._middle = np.nan_to_num(middle)
        filled = np.where(np.isnan(numbers), self._middle, numbers)
        self._mean = filled.mean(axis=0)
        spread = filled.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)

    def __call__(self, frame: pl.DataFrame) -> Any:
        from scipy import sparse

        matrix = to_matrix(frame, self._columns)
        numbers = matrix[:, self._numbers]
        missing = np.isnan(numbers)
        scaled = (np.where(missing, self._middle, numbers) - self._mean) / self._spread
        parts: list[Any] = [sparse.csr_matrix(scaled), sparse.csr_matrix(missing.astype(np.float64))]
        for n in self._texts:
            codes, size = matrix[:, n], len(self._columns.levels[self._columns.names[n]])
            known = ~np.isnan(codes)
            place = (np.nonzero(known)[0], codes[known].astype(np.int64))
            parts.append(sparse.csr_matrix((np.ones(known.sum()), place), shape=(len(frame), size)))
        return sparse.hstack(parts)

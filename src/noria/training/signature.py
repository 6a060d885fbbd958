"""What the signature in an ``MLmodel`` says of the rows that a model takes.

Two forms: columns with names and types, or one matrix of numbers, whose columns are named here by their place. The
form of the texts is MLflow's (``mlflow.types.Schema.to_json``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from noria.training.errors import SignatureUnfit

_TYPES: Final = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
    "datetime": "datetime[us]",
}
_MATRIX: Final = frozenset(
    f"{kind}{bits}" for kind, sizes in (("float", (16, 32, 64)), ("int", (8, 16, 32, 64)), ("uint", (8, 16, 32, 64)))
    for bits in sizes
)  # fmt: skip
_MOST_COLUMNS: Final = 10_000
_AGAIN: Final = "Log it with one: log_model(..., input_example=X), or signature=infer_signature(X, predictions)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The columns of a row.

    Attributes:
        types: name -> type, in the model's order.
        needed: those that must hold a value.
        matrix: the dtype of the matrix that the model takes; empty where it takes a table with names.
        numbered: the names are numbers to the model (a pandas DataFrame without names).
    """

    types: dict[str, str]
    needed: tuple[str, ...]
    matrix: str = ""
    numbered: bool = False

    def as_value(self) -> dict[str, Any]:
        return {
            "types": self.types,
            "needed": list(self.needed),
            "matrix": self.matrix,
            "numbered": self.numbered,
        }

    @classmethod
    def of_value(cls, value: Mapping[str, Any]) -> Signature:
        return cls(
            types=dict(value["types"]),
            needed=tuple(value["needed"]),
            matrix=value["matrix"],
            numbered=value["numbered"],
        )


def of_inputs(inputs: Any, model: str) -> Signature:
    """The signature of a list of inputs, as the file holds it.

    Args:
        model: for messages.

    Raises:
        SignatureUnfit: there is none, or its rows are not of plain values.
    """
    if not isinstance(inputs, list) or not inputs or not all(isinstance(field, dict) for field in inputs):
        raise SignatureUnfit(f"{model} was logged without a signature: nobody knows which rows it takes.", hint=_AGAIN)
    fields: list[dict[str, Any]] = inputs
    if any(field.get("type") == "tensor" for field in fields):
        return _matrix(fields, model)
    numbered = all(isinstance(field.get("name"), int) for field in fields)
    types: dict[str, str] = {}
    needed: list[str] = []
    for place, field in enumerate(fields):
        name = str(field.get("name", place))
        kind = _TYPES.get(str(field.get("type")))
        if kind is None or name in types:
            raise _unfit(model, f"the column {name!r} is {field.get('type')!r}")
        types[name] = kind
        if field.get("required", True):  # MLflow says so of every column that held no null when it was logged
            needed.append(name)
    return Signature(types=types, needed=tuple(needed), numbered=numbered or "name" not in fields[0])


def _matrix(fields: Sequence[Mapping[str, Any]], model: str) -> Signature:
    spec = fields[0].get("tensor-spec")
    shape = spec.get("shape") if isinstance(spec, dict) else None
    if len(fields) > 1 or not isinstance(spec, dict) or not isinstance(shape, list):
        raise _unfit(model, f"it takes {len(fields)} tensors")
    width: Any = shape[1] if len(shape) == 2 else 0
    kind = str(spec.get("dtype"))
    if kind not in _MATRIX or not isinstance(width, int) or not 0 < width <= _MOST_COLUMNS:
        raise _unfit(model, f"it takes a tensor of {kind} of the shape {shape}")
    own = "float32" if kind == "float16" else kind
    types = {f"x{place}": own for place in range(width)}
    return Signature(types=types, needed=() if own.startswith("float") else tuple(types), matrix=kind)


def _unfit(model: str, what: str) -> SignatureUnfit:
    return SignatureUnfit(
        f"{model} cannot be served from rows: {what}.",
        hint=f"Rows hold {', '.join(_TYPES)}, or one matrix of numbers with a fixed number of columns. "
        "mlflow models serve answers whatever else it takes.",
    )

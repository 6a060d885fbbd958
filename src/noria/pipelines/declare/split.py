"""``nr.split``: how rows are divided into training, validation and test rows."""

from __future__ import annotations

from noria.pipelines.declare.policies import Split, check_duration, check_share


def time(*, valid: str, test: str, gap: str = "0s", train: str | None = None) -> Split:
    """The newest rows are the test, those before them the validation; ``gap`` lies between the parts.

    Args:
        train: how far back the training rows reach, for instance ``"90d"``; default all.
    """
    for text in (valid, test, gap, *([train] if train else [])):
        check_duration(text)
    return Split(kind="time", valid=valid, test=test, gap=gap, train=train)


def group(by: str, *, valid: float = 0.2, test: float = 0.2) -> Split:
    """All rows of a group lie in the same part, chosen by the hash of the group."""
    return Split(kind="group", by=by, valid=check_share(valid, "valid"), test=check_share(test, "test"))


def random(*, valid: float = 0.2, test: float = 0.2, seed: int = 0) -> Split:
    """Each row's part is chosen by the hash of its key: stable when rows are added."""
    return Split(kind="random", valid=check_share(valid, "valid"), test=check_share(test, "test"), seed=seed)

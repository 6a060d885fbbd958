"""Which way a metric is better, as far as its name says so."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

_LOWER: Final = set(
    (  # noqa: SIM905
        "loss losses logloss error errors err mse rmse mae mape smape msle rmsle mad nll bce entropy perplexity ppl wer"
        " cer ter brier ece fid kl divergence regret latency duration seconds ms time memory cost deviance distance"
    ).split()
)
_HIGHER: Final = set(
    (  # noqa: SIM905
        "accuracy acc auc auroc auprc roc ap map f1 f2 fbeta precision recall sensitivity specificity score r2 bleu"
        " rouge meteor ndcg mrr hits iou miou dice jaccard kappa mcc correlation pearson spearman throughput reward"
        " return gain lift likelihood psnr ssim coverage profit revenue"
    ).split()
)
_TURNED: Final = frozenset(("neg", "negative", "minus"))
_WORD: Final = re.compile(r"[A-Za-z]+\d*")


def lower_is_better(name: str) -> bool | None:
    """True or False where the last telling word of a name says so; None where none does."""
    words = [word.lower() for word in _WORD.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))]
    for word in reversed(words):
        if word in _LOWER or word in _HIGHER:
            return (word in _LOWER) != bool(_TURNED.intersection(words))
    return None


def best(values: Sequence[float | None], *, lower: bool | None) -> list[int]:
    """The places of the best values; none where it is not known which way is better, or where all are equal."""
    numbers = [v for v in values if v is not None and not math.isnan(v)]
    if lower is None or not numbers or (min(numbers) == max(numbers) and len(numbers) == len(values)):
        return []
    wanted = min(numbers) if lower else max(numbers)
    return [n for n, value in enumerate(values) if value == wanted]

"""Names for runs whose client gave none, and names that several modules say."""

from __future__ import annotations

import secrets
from typing import Final

IS_PROMPT: Final = "mlflow.prompt.is_prompt"
"""The tag that makes a prompt of a registered model."""

TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
COSTS: Final = ("input_cost", "output_cost", "total_cost")
"""What MLflow counts of a trace that asked a language model."""

_HOW: Final[str] = (
    "amber brave brisk calm clear clever copper early eager fair fleet gentle glad golden keen kind light lively "
    "lucky mellow merry mild nimble noble patient plain proud quick quiet rapid ready silver smooth steady still "
    "sturdy sunny swift tidy true warm wise witty young"
)
_WHO: Final[str] = (
    "alder badger beaver birch bittern brook canal cedar creek crane current delta dipper duck eddy egret elm ferry "
    "finch ford grebe gull harbor heron ibis kingfisher lark loon marsh mill osprey otter pike plover reed rill river "
    "salmon snipe spring stork stream swan tern trout wader weir wheel willow wren"
)


def run_name() -> str:
    return f"{secrets.choice(_HOW.split())}-{secrets.choice(_WHO.split())}-{secrets.randbelow(1_000)}"

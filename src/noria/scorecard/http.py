"""Routes of the scorecard."""

from __future__ import annotations

from noria.http import Call, Route
from noria.scorecard import wire as w
from noria.scorecard.service import Scorecard


def routes(scorecard: Scorecard) -> list[Route]:
    def show(call: Call) -> w.ScoreOut:
        query: w.ScoreQuery = call.query
        return w.score_out(scorecard.score(query.model or None))

    return [
        Route(
            method="GET",
            path="/v1/scorecard",
            handler=show,
            permission="models.read",
            summary="Compute the ML Test Score of the model version that serves.",
            query=w.ScoreQuery,
            answer=w.ScoreOut,
            cli="noria scorecard [MODEL]",
        )
    ]

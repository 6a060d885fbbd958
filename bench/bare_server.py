"""``python -m bench.bare_server``: the same model behind Starlette and uvicorn, and nothing else.

No validation, no ids, no capture, no routing, and the features come with the request: the least that answers. Takes
on the command line, as JSON: the model's file, the order of its columns, and the levels of those that are categories.
Prints its port when it listens.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


def application(file: str, columns: list[str], levels: dict[str, list[str]]) -> Starlette:
    """One route, POST /predict with {"row": {...}}."""
    booster = lightgbm.Booster(model_file=file)
    codes = {name: {level: float(n) for n, level in enumerate(known)} for name, known in levels.items()}

    async def predict(request: Request) -> JSONResponse:
        row: dict[str, Any] = (await request.json())["row"]
        values = [codes[name].get(row[name], np.nan) if name in codes else row[name] for name in columns]
        scores = booster.predict(np.array([values], np.float64), num_threads=1)
        return JSONResponse({"score": float(scores[0])})

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


def main() -> None:
    given = json.loads(sys.argv[1])
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        application(given["file"], given["columns"], given["levels"]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        lifespan="off",
    )
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()

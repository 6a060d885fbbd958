from __future__ import annotations

import logging
from typing import Any

import click

from noria.terminal import Shell, command


@command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Beyond loopback NORIA_TOKEN has to be set.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65534),
              help="Of the API; endpoints listen on the next one. 0 takes free ones.")  # fmt: skip
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Processes that predict.")
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Another Host that the server answers to, besides --host and its addresses. May be given again.",
)
@click.option("--role", default="all", show_default=True, type=click.Choice(["all", "server"]),
              help="server: only the API and the loop, no processes for endpoints.")  # fmt: skip
@click.option("--webhook-host", "webhook_hosts", multiple=True, metavar="HOST[:PORT]",
              help="Where webhooks may lead; http://HOST:PORT without TLS. May be given again. SSL_CERT_FILE names an "
              "authority of your own.")  # fmt: skip
@click.option("--read-timeout", default=30.0, show_default=True, type=click.FloatRange(0.1), metavar="SECONDS",
              help="That a question of an MLflow client may take the database.")  # fmt: skip
@click.option("--init", "make", is_flag=True,
              help="Make a workspace first where there is none, as `noria init` does.")  # fmt: skip
@click.pass_obj
def up(
    shell: Shell,
    host: str,
    port: int,
    workers: int,
    hosts: tuple[str, ...],
    role: str,
    webhook_hosts: tuple[str, ...],
    read_timeout: float,
    make: bool,
) -> None:
    """Run the server: the API, the loop that trains and releases, and the endpoints. Ends on Ctrl-C or SIGTERM."""
    from noria.server.control import Server, Settings

    if make:
        from noria.workspace import ensure

        ensure(shell.url)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    settings = Settings(
        host=host,
        port=port,
        workers=workers,
        hosts=hosts,
        role=role,
        webhook_hosts=webhook_hosts,
        read_timeout=read_timeout,
    )
    server = Server(shell.ws, settings)

    def ready(server: Any) -> None:
        text = f"noria is up at {server.url} ({_endpoints(server.endpoints)}; MLflow's clients: the same address)"
        shell.emit({"url": server.url, "endpoints": server.endpoints or None}, text)

    server.run(ready)


def _endpoints(url: str) -> str:
    return f"endpoints at {url}" if url else "no endpoints"

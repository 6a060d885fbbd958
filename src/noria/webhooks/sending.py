"""Sends what waits for webhooks, in threads of its own: a receiver that hangs holds up no request and no release."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from noria.assets import Deliveries
from noria.assets.records import Event
from noria.base.errors import NoriaError
from noria.base.ids import ProjectId
from noria.webhooks.errors import NotDelivered
from noria.webhooks.post import Post
from noria.webhooks.records import Outcome, Webhook
from noria.webhooks.targets import Place, target

if TYPE_CHECKING:
    from noria.webhooks.service import Webhooks

log = logging.getLogger("noria.webhooks")

_TURN: Final = 1.0
"""Seconds between two looks at what waits."""
_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Message:
    body: bytes
    headers: dict[str, str]


class Form(Protocol):
    """How a door writes what its receivers understand."""

    def message(self, webhook: Webhook, event: Event) -> Message | None:
        """The message about an event; None where the webhook does not hear of it."""
        ...

    def example(self, webhook: Webhook, name: str) -> Message:
        """A message like those about events of this name."""
        ...


class Sender:
    """One per server.

    Args:
        places: where messages may go; compared whole.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        deliveries: Deliveries,
        project_id: ProjectId,
        form: Form,
        places: frozenset[Place],
    ) -> None:
        self._webhooks = webhooks
        self._deliveries = deliveries
        self._project_id = project_id
        self._form = form
        self._places = places
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"webhooks-{n}") for n in range(_THREADS)]
        self._tests = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook-test")
        self._posts: set[Post] = set()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends at once: a message that is on its way is sent again by the next server."""
        self._stopping.set()
        for post in list(self._posts):
            post.abort()
        self._tests.shutdown(wait=True, cancel_futures=True)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_TURN):
            try:
                self.send_due()
            except NoriaError as error:
                log.warning("%s: %s", error.code, error.message)
            except Exception:
                log.exception("webhooks go on after an error")

    def send_due(self) -> int:
        """Sends what is due; returns how many messages were tried."""
        handlers = self._webhooks.handlers(self._project_id, self._deliver)
        if not handlers:
            return 0
        return self._deliveries.run_due(handlers, project_id=self._project_id)

    def test(self, webhook: Webhook, event: str) -> Future[Outcome]:
        """Sends an example now, outside of the order of events."""
        return self._tests.submit(self._post, webhook, self._form.example(webhook, event))

    def _deliver(self, id: str, event: Event) -> None:
        webhook = self._webhooks.get(self._project_id, id)
        message = self._form.message(webhook, event) if webhook.active else None
        if message is None:
            return
        outcome = self._post(webhook, message)
        if self._stopping.is_set() and not outcome.arrived:
            raise NotDelivered("The server ended while it was sent.")
        self._webhooks.keep(self._project_id, id, outcome)
        if outcome.again:
            raise NotDelivered(outcome.error)

    def _post(self, webhook: Webhook, message: Message) -> Outcome:
        to = target(webhook.url)
        if to.place not in self._places:
            return Outcome(error=f"Sending to {to.place} is off. Allow it with: noria up --webhook-host {to.place}")
        post = Post(to)
        self._posts.add(post)
        try:
            if self._stopping.is_set():
                post.abort()
            return post.send(message.body, message.headers)
        finally:
            self._posts.discard(post)

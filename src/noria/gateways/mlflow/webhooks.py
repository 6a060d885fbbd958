"""MLflow's webhooks: its calls, the names of its events, and the messages that its receivers check."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import uuid
from typing import Final

import msgspec

from noria.assets.records import Event
from noria.base.errors import Invalid, NotFound
from noria.base.times import to_datetime
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow.names import IS_PROMPT
from noria.gateways.mlflow.routes import Asked, Route
from noria.gateways.mlflow.wire import In, Json, page
from noria.registry.records import ModelVersion
from noria.webhooks import Message, Webhook
from noria.workspace import Workspace

_TYPE: Final = "_mlflow_prompt_type"
_TEXT: Final = "mlflow.prompt.text"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_MOST: Final = 1_000

_ENTITIES: Final = (
    "registered_model", "model_version", "model_version_tag", "model_version_alias", "prompt", "prompt_version",
    "prompt_tag", "prompt_version_tag", "prompt_alias", "budget_policy",
)  # fmt: skip
_ACTIONS: Final = ("created", "updated", "deleted", "set", "exceeded")
"""Both in the order of their numbers, which begin at 1."""

EVENTS: Final = {
    "registered_model.created": "model.created",
    "model_version.created": "model.registered",
    "model_version_tag.set": "model.tagged",
    "model_version_tag.deleted": "model.untagged",
    "model_version_alias.created": "alias.moved",
    "model_version_alias.deleted": "alias.moved",
    "prompt.created": "model.created",
    "prompt_version.created": "model.registered",
    "prompt_tag.set": "model.tagged",
    "prompt_tag.deleted": "model.untagged",
    "prompt_version_tag.set": "model.tagged",
    "prompt_version_tag.deleted": "model.untagged",
    "prompt_alias.created": "alias.moved",
    "prompt_alias.deleted": "alias.moved",
}
"""Event of MLflow -> type of ours."""

_MODEL: Final = {"name": "example_model"}
_VERSION: Final = {**_MODEL, "version": "1"}
_TAG: Final = {"key": "example_key", "value": "example_value"}
_TOLD: Final[Json] = {"tags": {"example_key": "example_value"}, "description": "An example"}
_EXAMPLES: Final[dict[str, Json]] = {
    "registered_model.created": {**_MODEL, **_TOLD},
    "model_version.created": {**_VERSION, "source": "models:/123", "run_id": "abcd1234abcd5678", **_TOLD},
    "model_version_tag.set": {**_VERSION, **_TAG},
    "model_version_tag.deleted": {**_VERSION, "key": "example_key"},
    "model_version_alias.created": {**_VERSION, "alias": "example_alias"},
    "model_version_alias.deleted": {**_MODEL, "alias": "example_alias"},
}


# ---- messages of the calls


class EventWire(msgspec.Struct):
    entity: str | int | None = None
    action: str | int | None = None


class CreateWebhook(In):
    name: str | None = None
    description: str | None = None
    url: str | None = None
    events: list[EventWire] | None = None
    secret: str | None = None
    status: str | int | None = None


class ListWebhooks(In):
    max_results: int | None = None
    page_token: str | None = None


class TestWebhook(In):
    event: EventWire | None = None


def name_of(given: EventWire) -> str:
    """The name of an event, for instance model_version.created.

    Raises:
        Invalid: there is no such event, or none that noria ever sends.
    """
    entity = _word(given.entity, _ENTITIES, "entity")
    action = _word(given.action, _ACTIONS, "action")
    name = f"{entity}.{action}"
    if name in EVENTS:
        return name
    if entity == "budget_policy":
        raise Invalid("noria has no budgets, so none is ever exceeded.", hint="Leave the event budget_policy out.")
    known = sorted(event.partition(".")[2] for event in EVENTS if event.startswith(f"{entity}."))
    raise Invalid(f"Invalid action '{action}' for entity '{entity}'.", hint=f"Valid actions are: {known}")


def _word(value: str | int | None, words: tuple[str, ...], field: str) -> str:
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:9])
    if isinstance(value, int) and 0 < value <= len(words):
        return words[value - 1]
    if isinstance(value, str) and value == value.upper() and value.lower() in words:
        return value.lower()
    raise Invalid(
        f"Invalid value {value!r:.60} for parameter 'events.{field}'.", hint=", ".join(w.upper() for w in words)
    )


def _active(status: str | int | None) -> bool | None:
    if status is None or status == "":
        return None
    if str(status) not in ("ACTIVE", "DISABLED", "1", "2"):
        raise Invalid(f"Invalid value {status!r:.60} for parameter 'status'.", hint="ACTIVE or DISABLED.")
    return str(status) in ("ACTIVE", "1")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise Invalid(
            f"Webhook name {value!r:.100} is invalid.",
            hint="1 to 63 characters: a to z, digits, and between them also dots, underscores and hyphens.",
        )
    return value


def shown(webhook: Webhook) -> Json:
    """A webhook as clients see it: without its secret."""
    made: Json = {
        "webhook_id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "events": [
            {"entity": entity.upper(), "action": action.upper()}
            for entity, _, action in (event.partition(".") for event in webhook.events)
        ],
        "status": "ACTIVE" if webhook.active else "DISABLED",
        "creation_timestamp": webhook.created_at,
        "last_updated_timestamp": webhook.updated_at,
    }
    return {**made, "description": webhook.description} if webhook.description else made


class WebhookCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._webhooks = door.ws.webhooks
        self._project_id = door.project_id

    def create(self, asked: Asked) -> Json:
        message: CreateWebhook = asked.message
        events = tuple(name_of(event) for event in d.need(message.events or None, "events"))
        made = self._webhooks.create(
            self._project_id,
            name=_name(d.need(message.name, "name")),
            url=d.need(message.url, "url"),
            events=events,
            kinds=tuple(EVENTS[event] for event in events),
            description=message.description or "",
            secret=message.secret or None,
            active=_active(message.status) is not False,
            actor=asked.actor,
        )
        return {"webhook": shown(made)}

    def list(self, asked: Asked) -> Json:
        message: ListWebhooks = asked.message
        limit = d.page_size(message.max_results or None, 100, _MOST)
        found = self._webhooks.list(self._project_id, limit=limit, after=message.page_token or None)
        return page("webhooks", [shown(one) for one in found.items], found.next)

    def get(self, asked: Asked) -> Json:
        return {"webhook": shown(self._webhooks.get(self._project_id, asked.path["webhook_id"]))}

    def update(self, asked: Asked) -> Json:
        message: CreateWebhook = asked.message
        changed: Json = {}
        if message.name:
            changed["name"] = _name(message.name)
        if message.url:
            changed["url"] = message.url
        if message.description is not None:
            changed["description"] = message.description
        if message.secret is not None:
            changed["secret"] = message.secret or None
        active = _active(message.status)
        if active is not None:
            changed["active"] = active
        if message.events:
            events = tuple(name_of(event) for event in message.events)
            changed.update(events=events, kinds=tuple(EVENTS[event] for event in events))
        id = asked.path["webhook_id"]
        return {"webhook": shown(self._webhooks.update(self._project_id, id, actor=asked.actor, **changed))}

    def delete(self, asked: Asked) -> None:
        self._webhooks.delete(self._project_id, asked.path["webhook_id"], actor=asked.actor)

    async def test(self, asked: Asked) -> Json:
        given: EventWire | None = asked.message.event if asked.message else None
        event = None if given is None else name_of(given)
        id = asked.path["webhook_id"]
        begun = await self._door.in_thread(self._webhooks.test, self._project_id, id, event)
        found = await asyncio.wrap_future(begun)  # it may take long, and holds no thread of the gateway
        made: Json = {"success": found.arrived}
        if found.status is not None:
            made |= {"response_status": found.status, "response_body": found.body}
        if found.error:
            made["error_message"] = found.error
        return {"result": made}


# ---- what receivers get


class MlflowForm:
    """Writes messages as MLflow 3.17.2 does: the same body, the same three headers, the same signature."""

    def __init__(self, ws: Workspace) -> None:
        self._registry = ws.registry
        self._clock = ws.clock
        self._project_id = ws.project.id

    def message(self, webhook: Webhook, event: Event) -> Message | None:
        made = self._told(event)
        if made is None or made[0] not in webhook.events:
            return None
        # The same for each try, so that a receiver knows what it has already.
        id = str(uuid.uuid5(uuid.UUID(webhook.id), str(event.id)))
        return sealed(webhook, *made, id=id, at=event.created_at, now=self._clock.now_ms())

    def example(self, webhook: Webhook, name: str) -> Message:
        if name not in EVENTS:
            raise Invalid(f"There is no event {name!r:.100}.", hint=f"One of {', '.join(EVENTS)}.")
        now = self._clock.now_ms()
        return sealed(webhook, name, example(name), id=str(uuid.uuid4()), at=now, now=now)

    def _told(self, event: Event) -> tuple[str, Json] | None:
        """The name of an event and what is said of it; None for what MLflow says nothing of."""
        payload, name = event.payload, event.subject
        prompt = self._is_prompt(event)
        number = payload.get("number")
        at: Json = {"name": name} if number is None else {"name": name, "version": str(number)}
        kind = "prompt_version" if prompt else "model_version"
        if event.type == "model.created":
            tags = _said(payload.get("tags"), prompt)
            told = {**at, "tags": tags, "description": payload.get("description") or ""}
            return ("prompt.created" if prompt else "registered_model.created"), told
        if event.type == "model.registered":
            return f"{kind}.created", {**at, **self._version(event, prompt)}
        if event.type == "alias.moved":
            whose = "prompt_alias" if prompt else "model_version_alias"
            at = {"name": name, "alias": payload["alias"]}
            if payload["after"] is None:
                return f"{whose}.deleted", at
            return f"{whose}.created", {**at, "version": str(payload["after"])}
        if event.type not in ("model.tagged", "model.untagged"):
            return None
        if number is None:  # of the model itself: MLflow tells of prompts only
            kind = "prompt"
            if not prompt:
                return None
        if event.type == "model.tagged":
            return f"{kind}_tag.set", {**at, "key": payload["key"], "value": payload["value"]}
        return f"{kind}_tag.deleted", {**at, "key": payload["key"]}

    def _version(self, event: Event, prompt: bool) -> Json:
        payload = event.payload
        found: ModelVersion | None = None
        if "tags" not in payload or "source" not in payload:
            try:
                found = self._registry.version(self._project_id, event.subject, payload["number"])
            except NotFound:
                found = None
        tags = payload.get("tags", found.tags if found else {}) or {}
        described = payload.get("description", found.description if found else "") or None
        if prompt:
            return {"template": tags.get(_TEXT), "tags": _said(tags, prompt), "description": described}
        source = payload.get("source", found.source if found else "")
        return {
            "source": source or f"models:/{event.subject}/{payload['number']}",
            "run_id": payload.get("run"),
            "tags": tags,
            "description": described,
        }

    def _is_prompt(self, event: Event) -> bool:
        tags = event.payload.get("tags") if event.type == "model.created" else None
        if tags is None:
            try:
                tags = self._registry.get(self._project_id, event.subject).tags
            except NotFound:
                return False
        return str(tags.get(IS_PROMPT, "")).lower() == "true"


def _said(tags: dict[str, str] | None, prompt: bool) -> dict[str, str]:
    hidden = (IS_PROMPT, _TYPE, _TEXT) if prompt else ()
    return {key: value for key, value in (tags or {}).items() if key not in hidden}


def example(name: str) -> Json:
    """What a message about such an event says, with values that stand for none."""
    if not name.startswith("prompt"):
        return _EXAMPLES[name]
    twin = name.replace("prompt_version", "model_version").replace("prompt_alias", "model_version_alias")
    twin = twin.replace("prompt_tag", "model_version_tag").replace("prompt.", "registered_model.")
    made = {key: value for key, value in _EXAMPLES[twin].items() if key not in ("source", "run_id")}
    made["name"] = "example_prompt"
    if name.startswith("prompt_tag"):
        del made["version"]
    return {**made, "template": "Hello {{name}}!"} if name == "prompt_version.created" else made


def sealed(webhook: Webhook, name: str, told: Json, *, id: str, at: int, now: int) -> Message:
    """A message with its headers; signed where the webhook has a secret.

    Args:
        at: when it happened, milliseconds since 1970.
        now: when it is sent, as ``at``; receivers refuse what is old.
    """
    entity, _, action = name.partition(".")
    body = msgspec.json.encode(
        {"entity": entity, "action": action, "timestamp": to_datetime(at).isoformat(), "data": told}
    )
    sent = str(now // 1_000)
    headers = {"Content-Type": "application/json", "X-MLflow-Delivery-Id": id, "X-MLflow-Timestamp": sent}
    if webhook.secret:
        signed = f"{id}.{sent}.".encode() + body
        found = hmac.new(webhook.secret.encode(), signed, hashlib.sha256).digest()
        headers["X-MLflow-Signature"] = "v1," + base64.b64encode(found).decode()
    return Message(body, headers)


def routes(door: d.Door) -> list[Route]:
    c = WebhookCalls(door)
    at, one = "2.0/mlflow/webhooks", "2.0/mlflow/webhooks/{webhook_id}"
    return [
        Route(method="POST", path=at, handler=c.create, message=CreateWebhook),
        Route(method="GET", path=at, handler=c.list, message=ListWebhooks),
        Route(method="GET", path=one, handler=c.get),
        Route(method="PATCH", path=one, handler=c.update, message=CreateWebhook),
        Route(method="DELETE", path=one, handler=c.delete),
        Route(method="POST", path=one + "/test", handler=c.test, message=TestWebhook),
    ]

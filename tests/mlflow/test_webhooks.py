"""Webhooks: calls of the client, messages to a real receiver, and the hosts that nothing is ever sent to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from asgi import Answer, call
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from mlflow_wire import Wire

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities.webhook import WebhookEvent
from mlflow.exceptions import MlflowException
from mlflow.webhooks.types import get_example_payload_for_event

from mlflow import MlflowClient
from noria.base.actor import Actor
from noria.db.group import GroupWriter
from noria.gateways.mlflow import Gateway, MlflowForm, mlflow_gateway
from noria.gateways.mlflow.webhooks import EVENTS, example
from noria.http.access import Access
from noria.testing import ManualClock
from noria.webhooks import Sender, allowed_places
from noria.webhooks.errors import WebhookInvalid
from noria.webhooks.post import Post
from noria.webhooks.targets import target
from noria.workspace import Workspace

AT = "/api/2.0/mlflow/webhooks"
ME = Actor(name="user:me")
CREATED = {"entity": "MODEL_VERSION", "action": "CREATED"}
SECRET = "a secret: ümläut"


class Receiver:
    """A server on loopback that keeps what it gets, and answers what the test says."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        receiver = self
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"thanks"
        self.arrived = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.status)
                for name, value in {**receiver.headers, "content-length": str(len(receiver.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.body)
                receiver.arrived.set()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_address[1]
        self.place = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """What was said: the event and its data."""
        found = [json.loads(body) for _, _, body in self.got]
        return [(f"{one['entity']}.{one['action']}", one["data"]) for one in found]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Hooked:
    """A gateway with a sender whose turns are the test's."""

    def __init__(self, ws: Workspace, *places: str) -> None:
        self.ws = ws
        self.sender = Sender(ws.webhooks, ws.deliveries, ws.project.id, MlflowForm(ws), allowed_places(places))
        ws.webhooks.sender = self.sender
        self._writer = GroupWriter(ws.db)
        self.gateway: Gateway = mlflow_gateway(ws, self._writer, Access())

    def close(self) -> None:
        self.sender.stop()
        self.gateway.close()
        self._writer.close()

    def call(self, method: str, path: str = "", body: Any = None) -> Answer:
        return call(self.gateway, method, AT + path, body)

    def register(self, url: str, *events: str, **more: Any) -> str:
        """The id of a new webhook."""
        wanted = [{"entity": e.split(".")[0].upper(), "action": e.split(".")[1].upper()} for e in events]
        answer = self.call("POST", "", {"name": "hook", "url": url, "events": wanted or [CREATED], **more})
        assert answer.status == 200, answer
        return str(answer.json["webhook"]["webhook_id"])

    def settle(self) -> int:
        """Shares what happened, as a loop does, and sends what is due."""
        self.ws.deliver()
        return self.sender.send_due()


@contextlib.contextmanager
def hooked(ws: Workspace, *places: str) -> Iterator[Hooked]:
    made = Hooked(ws, *places)
    try:
        yield made
    finally:
        made.close()


def rest(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    answer = call(gateway, method, f"/api/2.0/mlflow/{path}", body)
    assert answer.status == 200, answer
    return answer.json


# ---- the calls


def test_a_webhook_is_made_listed_changed_and_deleted(both: Workspace) -> None:
    with hooked(both) as h:
        assert h.call("GET").json == {}
        body = {"name": "my.hook-1", "url": "https://hooks.example.com/a?b=c", "events": [CREATED], "secret": SECRET}
        made = h.call("POST", "", {**body, "description": "for chat"}).json["webhook"]
        id = made["webhook_id"]
        assert made == {
            "webhook_id": id, "name": "my.hook-1", "url": "https://hooks.example.com/a?b=c", "events": [CREATED],
            "description": "for chat", "status": "ACTIVE", "creation_timestamp": made["creation_timestamp"],
            "last_updated_timestamp": made["creation_timestamp"],
        }  # fmt: skip
        assert h.call("GET", f"/{id}").json == {"webhook": made}
        assert h.call("GET").json == {"webhooks": [made]}
        changed = h.call(
            "PATCH", f"/{id}", {"status": "DISABLED", "description": "", "events": [{"entity": 5, "action": 1}]}
        )
        assert changed.json["webhook"]["status"] == "DISABLED"
        assert changed.json["webhook"]["events"] == [{"entity": "PROMPT", "action": "CREATED"}]
        assert "description" not in changed.json["webhook"]
        assert changed.json["webhook"]["name"] == "my.hook-1"
        assert (h.call("DELETE", f"/{id}").status, h.call("DELETE", f"/{id}").status) == (200, 404)
        gone = h.call("GET", f"/{id}")
        assert (gone.status, gone.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        for method, path in (("PATCH", f"/{id}"), ("POST", f"/{id}/test"), ("GET", "/no-such-id")):
            assert h.call(method, path, {}).status == 404


def test_webhooks_are_paged_newest_first(both: Workspace) -> None:
    with hooked(both) as h:
        ids = [h.register(f"https://hooks.example.com/{n}") for n in range(7)]
        found, token = [], ""
        while True:
            page = h.call("GET", f"?max_results=3&page_token={token}").json
            found += [one["webhook_id"] for one in page["webhooks"]]
            token = page.get("next_page_token", "")
            if not token:
                break
        assert found == ids[::-1]
        for query in ("max_results=-1", "max_results=1001", "page_token=nonsense"):
            assert h.call("GET", f"?{query}").json["error_code"] == "INVALID_PARAMETER_VALUE"


def test_no_door_shows_a_secret(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    from noria.webhooks import wire

    with hooked(workspace) as h:
        id = h.register("https://hooks.example.com/", secret=SECRET)
        h.call("PATCH", f"/{id}", {"secret": SECRET + "2"})
        page = workspace.webhooks.list(workspace.project.id)
        said = [
            h.call("GET").body.decode(), h.call("GET", f"/{id}").body.decode(), repr(page),
            json.dumps([e.detail for e in workspace.audit.list(workspace.project.id).items]),
            str([wire.webhook_out(one) for one in page.items]),
        ]  # fmt: skip
    assert not [text for text in said if "secret: " in text]
    assert wire.webhook_out(page.items[0]).signed


@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": "x"}, {"name": "x", "url": "https://a.example"}, {"url": "https://a.example", "events": [CREATED]},
        {"name": "x", "url": "https://a.example", "events": []}, {"name": "X", "url": "https://a.example", "events": [CREATED]},
        {"name": "-x", "url": "https://a.example", "events": [CREATED]},
        {"name": "x" * 64, "url": "https://a.example", "events": [CREATED]},
        {"name": "x", "url": "https://a.example", "events": [{"entity": "MODEL_VERSION", "action": "SET"}]},
        {"name": "x", "url": "https://a.example", "events": [{"entity": "model_version", "action": "CREATED"}]},
        {"name": "x", "url": "https://a.example", "events": [{"entity": "BUDGET_POLICY", "action": "EXCEEDED"}]},
        {"name": "x", "url": "https://a.example", "events": [{"entity": 99, "action": 1}]},
        {"name": "x", "url": "https://a.example", "events": [{}]},
        {"name": "x", "url": "https://a.example", "events": [CREATED], "status": "ON"},
        {"name": "x", "url": "https://a.example", "events": [CREATED], "secret": "s" * 1_025},
        {"name": "x", "url": "https://a.example", "events": [CREATED], "description": "s" * 5_000},
        {"name": "x", "url": "https://a.example", "events": "all"}, {"name": 5, "url": "https://a.example"},
    ],
)  # fmt: skip
def test_a_webhook_that_cannot_be_is_refused(workspace: Workspace, body: dict[str, Any]) -> None:
    with hooked(workspace) as h:
        answer = h.call("POST", "", body)
        assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert h.call("GET").json == {}


def test_a_project_has_a_hundred_webhooks_at_most(workspace: Workspace) -> None:
    with hooked(workspace) as h:
        for n in range(100):
            h.register(f"https://hooks.example.com/{n}")
        body = {"name": "x", "url": "https://hooks.example.com", "events": [CREATED]}
        assert "100 webhooks already" in h.call("POST", "", body).json["message"]


# ---- addresses


BAD = [
    "", " ", "hooks.example.com", "ftp://a.example", "file:///etc/passwd", "gopher://a.example", "https://", "https:///x",
    "https://user@a.example", "https://user:pw@a.example", "https://allowed.example@evil.example", "https://a.example#x",
    "https://a.example\\@evil.example", "https://a.example\r\nX: y", "https://a.example/\nx", "https://a example/",
    "https://a.example:0", "https://a.example:65536", "https://a.example:", "https://a.example:x", "https://a..example",
    "https://[::1", "https://[::1]x", "https://[zz]", "https://bücher.example", "https://a.example/ü", "//a.example",
    "https://-a.example", "https://a.example%00.evil", "https://a.example/" + "x" * 2_000, "javascript:alert(1)",
    "https://a.example:443:80", "https:a.example", "https://\t", "http://[::ffff:127.0.0.1%25eth0]/",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_an_address_that_is_not_plain_is_refused(workspace: Workspace, url: str) -> None:
    with pytest.raises(WebhookInvalid):
        target(url)
    with hooked(workspace) as h:
        answer = h.call("POST", "", {"name": "x", "url": url, "events": [CREATED]})
        assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        id = h.register("https://a.example")
        assert h.call("PATCH", f"/{id}", {"url": url or " "}).status == 400


@pytest.mark.parametrize(
    ("url", "place", "path"),
    [
        ("https://Hooks.Example.com", "hooks.example.com", "/"), ("HTTPS://a.example:443/x?y=z", "a.example", "/x?y=z"),
        ("https://a.example:8443?x", "a.example:8443", "/?x"), ("http://a.example", "http://a.example", "/"),
        ("http://127.0.0.1:9/%20", "http://127.0.0.1:9", "/%20"), ("https://[::1]:8/", "[::1]:8", "/"),
        ("https://[0:0::1]/", "[::1]", "/"),
    ],
)  # fmt: skip
def test_an_address_has_a_place_that_is_allowed_as_it_is_typed(url: str, place: str, path: str) -> None:
    found = target(url)
    assert (str(found.place), found.path) == (place, path)
    assert allowed_places([place]) == {found.place}


def test_what_is_allowed_has_to_be_a_place() -> None:
    for text in (
        "",
        "*",
        "*.example.com",
        "a.example/x",
        "user@a.example",
        "ftp://a.example",
        "a.example:x",
        "http://",
    ):
        with pytest.raises(WebhookInvalid):
            allowed_places([text])


def test_nothing_goes_to_a_place_that_is_not_allowed(workspace: Workspace, receiver: Receiver) -> None:
    """The port, the scheme and the name count, each whole; a name that leads to an allowed address is another name."""
    port = receiver.port
    refused = [f"http://localhost:{port}", f"http://127.0.0.1.nip.io:{port}", f"https://127.0.0.1:{port}",
               f"http://127.1:{port}", f"http://2130706433:{port}", f"http://[::ffff:127.0.0.1]:{port}",
               f"http://127.0.0.1:{port + 1}", "http://127.0.0.1", "http://169.254.169.254/latest/meta-data"]  # fmt: skip
    with hooked(workspace, receiver.place, "hooks.example.com") as h:
        for url in refused:
            id = h.register(url)
            found = h.call("POST", f"/{id}/test", {}).json["result"]
            assert (found["success"], "noria up --webhook-host" in found["error_message"]) == (False, True)
        workspace.registry.create(workspace.project.id, "m", actor=ME)
        workspace.registry.register(workspace.project.id, "m", actor=ME, version_id=None, run_id=None)
        assert h.settle() == len(refused)
        assert h.settle() == 0
        listed = workspace.webhooks.list(workspace.project.id).items
        assert all(one.failed == 1 and "is off" in one.last_error for one in listed)
    assert receiver.got == []


def waiting(ws: Workspace) -> int:
    with ws.db.read() as conn:
        return conn.exec_driver_sql(
            "SELECT count(*) FROM deliveries WHERE substr(subscriber, 1, 7) = 'webhook'"
        ).scalar_one()


def test_an_event_that_nobody_hears_of_leaves_no_delivery(both: Workspace, receiver: Receiver) -> None:
    registry, project = both.registry, both.project.id
    with hooked(both, receiver.place) as h:
        registry.create(project, "a", actor=ME)
        assert waiting(both) == 0
        id = h.register(receiver.place, "registered_model.created")
        registry.register(project, "a", actor=ME, version_id=None, run_id=None)  # it hears of other events
        assert waiting(both) == 0
        h.call("PATCH", f"/{id}", {"status": "DISABLED"})
        registry.create(project, "b", actor=ME)
        assert waiting(both) == 0
        h.call("PATCH", f"/{id}", {"status": "ACTIVE"})
        registry.create(project, "c", actor=ME)
        assert waiting(both) == 1
        h.settle()
        h.call("DELETE", f"/{id}")
        before = waiting(both)
        registry.create(project, "d", actor=ME)
        assert waiting(both) == before
    assert [data["name"] for _, data in receiver.told] == ["c"]


# ---- TLS


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """What a receiver shows that is called so, and the file of those that sign for themselves."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1)).not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file, both = folder / f"{name}.pem", folder / f"{name}.key.pem"
    file.write_bytes(made.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    both.write_bytes(secret + file.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, file


@pytest.mark.parametrize(
    ("name", "trusted", "why"),
    [
        ("localhost", True, None),
        ("localhost", False, "certificate verify failed"),
        ("other.example", True, "certificate is not valid for 'localhost'"),
    ],
)
def test_only_a_trusted_certificate_of_the_very_host_hears_of_anything(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool, why: str | None
) -> None:
    context, file = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(file if trusted else certificate(tmp_path, "nobody.example")[1]))
    secure = Receiver(context)
    try:
        with hooked(workspace, f"localhost:{secure.port}") as h:
            id = h.register(f"https://localhost:{secure.port}/a", "registered_model.created", secret=SECRET)
            workspace.registry.create(workspace.project.id, "m", actor=ME)
            assert h.settle() == 1
            found = workspace.webhooks.get(workspace.project.id, id)
            assert (found.sent, found.failed) == ((1, 0) if why is None else (0, 1))
            if why is not None:
                assert why in found.last_error
        assert [data["name"] for _, data in secure.told] == (["m"] if why is None else [])
    finally:
        secure.close()


# ---- messages


def test_each_event_of_the_registry_is_told_as_mlflow_tells_it(both: Workspace, receiver: Receiver) -> None:
    with hooked(both, receiver.place) as h:
        h.register(f"{receiver.place}/hook", *EVENTS)
        g = h.gateway
        flag = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
        rest(
            g,
            "POST",
            "registered-models/create",
            {"name": "m", "tags": [{"key": "a", "value": "b"}], "description": "d"},
        )
        rest(
            g,
            "POST",
            "model-versions/create",
            {"name": "m", "source": "s3://x/y", "tags": [{"key": "c", "value": "e"}]},
        )
        rest(g, "POST", "model-versions/set-tag", {"name": "m", "version": "1", "key": "k", "value": "v"})
        rest(g, "DELETE", "model-versions/delete-tag", {"name": "m", "version": "1", "key": "k"})
        rest(g, "POST", "registered-models/set-tag", {"name": "m", "key": "k", "value": "v"})
        rest(g, "POST", "registered-models/alias", {"name": "m", "alias": "best", "version": "1"})
        rest(g, "DELETE", "registered-models/alias", {"name": "m", "alias": "best"})
        rest(g, "POST", "registered-models/create", {"name": "p", "tags": flag})
        text = [{"key": "mlflow.prompt.text", "value": "Hello {{name}}"}, {"key": "t", "value": "u"}]
        rest(g, "POST", "model-versions/create", {"name": "p", "source": "prompt-template", "tags": [*flag, *text]})
        rest(g, "POST", "registered-models/set-tag", {"name": "p", "key": "k", "value": "v"})
        rest(g, "DELETE", "registered-models/delete-tag", {"name": "p", "key": "k"})
        rest(g, "POST", "model-versions/set-tag", {"name": "p", "version": "1", "key": "k", "value": "v"})
        rest(g, "DELETE", "model-versions/delete-tag", {"name": "p", "version": "1", "key": "k"})
        rest(g, "POST", "registered-models/alias", {"name": "p", "alias": "best", "version": "1"})
        rest(g, "DELETE", "registered-models/alias", {"name": "p", "alias": "best"})
        h.settle()
    m, p, one, best = {"name": "m"}, {"name": "p"}, {"version": "1"}, {"alias": "best"}
    kv = {"key": "k", "value": "v"}
    assert receiver.told == [
        ("registered_model.created", {**m, "tags": {"a": "b"}, "description": "d"}),
        ("model_version.created", {**m, **one, "source": "s3://x/y", "run_id": None, "tags": {"c": "e"}, "description": None}),
        ("model_version_tag.set", {**m, **one, **kv}),
        ("model_version_tag.deleted", {**m, **one, "key": "k"}),
        ("model_version_alias.created", {**m, **best, **one}),
        ("model_version_alias.deleted", {**m, **best}),
        ("prompt.created", {**p, "tags": {}, "description": ""}),
        ("prompt_version.created", {**p, **one, "template": "Hello {{name}}", "tags": {"t": "u"}, "description": None}),
        ("prompt_tag.set", {**p, **kv}),
        ("prompt_tag.deleted", {**p, "key": "k"}),
        ("prompt_version_tag.set", {**p, **one, **kv}),
        ("prompt_version_tag.deleted", {**p, **one, "key": "k"}),
        ("prompt_alias.created", {**p, **best, **one}),
        ("prompt_alias.deleted", {**p, **best}),
    ]  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
def test_an_example_has_the_fields_of_mlflow_s(name: str) -> None:
    assert set(example(name)) == set(get_example_payload_for_event(WebhookEvent.from_str(name)))


def test_a_message_is_signed_over_its_id_its_time_and_its_body(
    workspace: Workspace, receiver: Receiver, clock: ManualClock
) -> None:
    with hooked(workspace, receiver.place) as h:
        id = h.register(f"{receiver.place}/a?b=c", "registered_model.created", secret=SECRET)
        workspace.registry.create(workspace.project.id, "m", actor=ME)
        h.settle()
        h.call("PATCH", f"/{id}", {"secret": ""})
        h.call("POST", f"/{id}/test", {})
    (path, headers, body), (_, plain, _) = receiver.got
    assert path == "/a?b=c"
    assert headers["content-type"] == "application/json"
    signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["x-mlflow-signature"] == f"v1,{wanted}"
    assert headers["x-mlflow-timestamp"] == str(clock.now_ms() // 1_000)
    assert "x-mlflow-signature" not in plain
    assert "authorization" not in headers


def test_a_webhook_hears_of_its_events_only_and_of_none_while_disabled(both: Workspace, receiver: Receiver) -> None:
    with hooked(both, receiver.place) as h:
        h.register(f"{receiver.place}/models", "registered_model.created")
        h.register(f"{receiver.place}/versions", "model_version.created")
        off = h.register(f"{receiver.place}/off", "registered_model.created", status="DISABLED")
        late = h.register(f"{receiver.place}/late", "registered_model.created")
        both.registry.create(both.project.id, "one", actor=ME)
        both.deliver()
        h.call("PATCH", f"/{late}", {"status": "DISABLED"})  # what waits for it is dropped
        h.settle()
        assert [path for path, _, _ in receiver.got] == ["/models"]
        h.call("PATCH", f"/{off}", {"status": "ACTIVE"})
        both.registry.create(both.project.id, "two", actor=ME)
        h.settle()
        assert sorted(path for path, _, _ in receiver.got) == ["/models", "/models", "/off"]
        assert both.deliveries.waiting() == 0


def test_what_waits_for_a_deleted_webhook_is_not_sent(both: Workspace, receiver: Receiver) -> None:
    with hooked(both, receiver.place) as h:
        id = h.register(receiver.place, "registered_model.created")
        both.registry.create(both.project.id, "one", actor=ME)
        both.deliver()
        assert both.deliveries.waiting() == 1
        h.call("DELETE", f"/{id}")
        assert h.settle() == 0
        assert both.deliveries.waiting() == 0
    assert receiver.got == []


def test_a_change_that_is_taken_back_tells_nothing(both: Workspace, receiver: Receiver) -> None:
    with hooked(both, receiver.place) as h:
        h.register(receiver.place, "registered_model.created")
        with pytest.raises(ZeroDivisionError), both.db.write() as tx:
            both.registry.register(both.project.id, "one", actor=ME, version_id=None, run_id=None, tx=tx)
            raise ZeroDivisionError
        assert h.settle() == 0
    assert receiver.got == []


def test_a_message_is_tried_again_with_more_and_more_time_and_in_order(
    workspace: Workspace, receiver: Receiver, clock: ManualClock
) -> None:
    with hooked(workspace, receiver.place) as h:
        id = h.register(receiver.place, "registered_model.created", secret=SECRET)
        receiver.status = 503
        workspace.registry.create(workspace.project.id, "one", actor=ME)
        workspace.registry.create(workspace.project.id, "two", actor=ME)
        assert h.settle() == 1  # the second waits for the first
        assert h.settle() == 0  # and that for its time
        for _ in range(3):
            clock.tick(600_000)
            assert h.settle() == 1
        receiver.status = 200
        clock.tick(600_000)
        assert h.settle() == 2
        names = [data["name"] for _, data in receiver.told]
        assert names == ["one"] * 5 + ["two"]
        ids = [headers["x-mlflow-delivery-id"] for _, headers, _ in receiver.got]
        assert len(set(ids[:5])) == 1 < len(set(ids))
        kept = workspace.webhooks.get(workspace.project.id, id)
        assert (kept.sent, kept.failed, kept.last_status, kept.last_error) == (2, 4, 200, "")


def test_a_receiver_that_never_comes_back_is_given_up(workspace: Workspace, clock: ManualClock) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens
        place = f"http://127.0.0.1:{held.getsockname()[1]}"
        with hooked(workspace, place) as h:
            id = h.register(place, "registered_model.created")
            workspace.registry.create(workspace.project.id, "one", actor=ME)
            for _ in range(8):
                assert h.settle() == 1
                clock.tick(600_000)
            assert h.settle() == 0
            [(event, to, error)] = workspace.deliveries.dead()
            assert (event.subject, to) == ("one", f"webhook:{id}")
            assert "refused" in error.lower()
            assert workspace.webhooks.get(workspace.project.id, id).failed == 8


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410, 422])
def test_an_answer_that_will_stay_the_same_is_not_tried_again(
    workspace: Workspace, receiver: Receiver, status: int
) -> None:
    other = Receiver()
    try:
        with hooked(workspace, receiver.place, other.place) as h:
            id = h.register(receiver.place, "registered_model.created")
            receiver.status, receiver.headers = status, {"location": f"{other.place}/elsewhere"}
            workspace.registry.create(workspace.project.id, "one", actor=ME)
            assert h.settle() == 1
            assert workspace.deliveries.waiting() == 0
            kept = workspace.webhooks.get(workspace.project.id, id)
            assert (kept.failed, kept.last_status) == (1, status)
            assert str(status) in kept.last_error
        assert other.got == []  # no redirect is followed
    finally:
        other.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 ", b"not http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
               b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500, b"HTTP/1.1 99999 X\r\n\r\n", b"\x00" * 5_000]
)  # fmt: skip
def test_a_receiver_that_talks_nonsense_harms_nobody(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            one, _ = listening.accept()
            with one:
                one.recv(65_536)
                one.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        found = Post(target(f"http://127.0.0.1:{listening.getsockname()[1]}")).send(b"{}", {})
        thread.join()
    assert found.again or b"short" in answer
    assert found.error or found.status == 200


@pytest.mark.parametrize("drip", [False, True])
def test_a_receiver_that_hangs_is_left_in_time(drip: bool) -> None:
    """Also one that sends a byte now and then, so that no single wait is long."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve() -> None:
            one, _ = listening.accept()
            with one, contextlib.suppress(OSError):
                one.recv(65_536)
                one.sendall(b"HTTP/1.1 200 OK\r\n")
                while drip:
                    one.sendall(b"x")
                    if ended.wait(0.02):
                        break
                ended.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        found = Post(target(f"http://127.0.0.1:{listening.getsockname()[1]}"), seconds=0.2).send(b"{}", {})
        ended.set()
        thread.join()
    assert (found.again, found.status) == (True, None)
    assert "0.2 seconds" in found.error


def test_the_body_of_an_answer_is_kept_in_part_only(workspace: Workspace, receiver: Receiver) -> None:
    receiver.body = b"y" * 1_000_000
    with hooked(workspace, receiver.place) as h:
        id = h.register(receiver.place)
        assert len(h.call("POST", f"/{id}/test", {}).json["result"]["response_body"]) == 4_096


def test_no_proxy_of_the_environment_is_asked(
    workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with hooked(workspace, receiver.place) as h:
        id = h.register(receiver.place)
        assert h.call("POST", f"/{id}/test", {}).json["result"]["success"]


def test_the_host_is_looked_up_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = socket.getaddrinfo

    def counted(*given: Any, **more: Any) -> Any:
        asked.append(given[0])
        return real("127.0.0.1", *given[1:], **more)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    found = Post(target(f"http://hooks.example.com:{receiver.port}/x")).send(b"{}", {})
    assert (found.status, asked) == (200, ["hooks.example.com"])
    assert receiver.got[0][1]["host"] == f"hooks.example.com:{receiver.port}"


# ---- test


def test_a_test_says_what_came_of_it(workspace: Workspace, receiver: Receiver) -> None:
    with hooked(workspace, receiver.place) as h:
        id = h.register(receiver.place, "registered_model.created", "prompt_alias.deleted")
        assert h.call("POST", f"/{id}/test", {}).json == {
            "result": {"success": True, "response_status": 200, "response_body": "thanks"}
        }
        wanted = {"event": {"entity": "PROMPT_ALIAS", "action": "DELETED"}}
        receiver.status, receiver.body = 500, b"no"
        found = h.call("POST", f"/{id}/test", wanted).json["result"]
        assert (found["success"], found["response_status"], found["response_body"]) == (False, 500, "no")
        assert [event for event, _ in receiver.told] == ["registered_model.created", "prompt_alias.deleted"]
        wrong = {"event": {"entity": "PROMPT", "action": "SET"}}
        assert h.call("POST", f"/{id}/test", wanted | wrong).status == 400


def test_without_a_server_a_test_says_what_to_type(workspace: Workspace, receiver: Receiver) -> None:
    with hooked(workspace) as h:
        workspace.webhooks.sender = None
        id = h.register(f"{receiver.place}/x")
        found = h.call("POST", f"/{id}/test", {}).json["result"]
        assert found == {
            "success": False,
            "error_message": f"Webhooks are sent by a server only: noria up --webhook-host {receiver.place}",
        }


# ---- the whole of it


def test_the_client_and_a_server_with_an_allowed_host(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real client against a real server: registered, changed in a request, sent by the threads of the server."""
    from mlflow_server import serve

    from noria import workspace as ws
    from noria.server.control import Server, Settings
    from noria.server.loop import Loop

    with ws.init(tmp_path, environment={}) as opened:
        control = Server(opened, Settings(port=0, webhook_hosts=[receiver.place]))
        control._socket.close()
        sender = opened.webhooks.sender
        assert isinstance(sender, Sender)
        loop = Loop(opened)
        with serve(opened) as url:
            opened.webhooks.sender = sender  # the other server allows no host
            client = MlflowClient(url, url)
            hook = client.create_webhook(
                name="chat", url=f"{receiver.place}/chat", events=["registered_model.created"], secret=SECRET
            )
            assert [one.webhook_id for one in client.list_webhooks()] == [hook.webhook_id]
            assert client.get_webhook(hook.webhook_id).secret is None
            client.update_webhook(hook.webhook_id, description="for chat", status="ACTIVE")
            assert client.test_webhook(hook.webhook_id).success
            receiver.arrived.clear()
            sender.start()
            client.create_registered_model("flights")
            loop.settle()
            assert receiver.arrived.wait(60)
            assert receiver.told[-1] == ("registered_model.created", {"name": "flights", "tags": {}, "description": ""})
            native = Wire(url)
            listed = native.call("GET", "/v1/admin/webhooks").json
            tested = native.call("POST", f"/v1/admin/webhooks/{hook.webhook_id}/test", {}).json
            assert (listed["items"][0]["name"], listed["items"][0]["signed"], listed["next"]) == ("chat", True, None)
            assert tested == {"arrived": True, "status": 200, "body": "thanks", "error": ""}
            assert native.call("POST", f"/v1/admin/webhooks/{hook.webhook_id}/test", {"event": "x.y"}).status == 400
            native.close()
            client.delete_webhook(hook.webhook_id)
            with pytest.raises(MlflowException, match="not found"):
                client.get_webhook(hook.webhook_id)
        sender.stop()
        control._writer.close()


def test_a_sender_ends_while_a_receiver_hangs(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with hooked(workspace, place) as h:
            h.register(place, "registered_model.created")
            workspace.registry.create(workspace.project.id, "one", actor=ME)
            workspace.deliver()
            h.sender.start()
            one, _ = listening.accept()  # it is on its way
            h.sender.stop()
            one.close()
        assert workspace.deliveries.waiting() == 1  # the next server sends it
        assert workspace.webhooks.list(workspace.project.id).items[0].failed == 0


def test_the_commands_list_and_test(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from noria import workspace as ws
    from noria.cli.main import run

    with ws.init(tmp_path, environment={}) as opened, hooked(opened) as h:
        id = h.register(f"{receiver.place}/x", secret=SECRET)
    monkeypatch.chdir(tmp_path)

    def said(*args: str) -> tuple[int, str]:
        code = run(["admin", "webhooks", *args])
        return code, capsys.readouterr().out.replace("\n", " ")

    _, listed = said("--json")
    assert json.loads(listed)["items"][0]["id"] == id
    assert "secret: " not in listed
    assert receiver.place in said()[1].replace(" ", "")
    code, off = said("--test", id)
    assert (code, f"noria up --webhook-host {receiver.place}" in off) == (1, True)
    assert receiver.got == []
    code, sent = said("--json", "--test", id, "--webhook-host", receiver.place)
    assert (code, json.loads(sent)["arrived"]) == (0, True)
    assert said("--test", "nothing")[0] == 4

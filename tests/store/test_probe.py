"""An S3 endpoint is asked once whether it does what is relied upon, and refused with the reason where it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_s3 import SmallS3, small_s3

from noria.base.errors import Unavailable
from noria.base.faults import NoFaults
from noria.store.errors import BucketUrlWrong, EndpointUnfit
from noria.store.factory import byte_store, fitness
from noria.store.s3 import S3Bytes
from noria.testing import ByteStoreContract
from noria.workspace import connect, init


def opened(environment: dict[str, str], home: Path) -> Any:
    return byte_store("s3://packs/of", home=home, environment=environment, faults=NoFaults())


@pytest.mark.parametrize(
    ("flaw", "request_"),
    [
        ("ignores Range", "GET with Range: bytes=1000-1099"),
        ("ranges are off by one", "GET with Range: bytes=1000-1099"),
        ("ignores a range from the end", "GET with Range: bytes=-100"),
        ("loses what is put", "GET"),
        ("cuts what is put", "GET"),
        ("lists late", "GET ?list-type=2"),
        ("keeps what is deleted", "GET"),
        ("replaces and says 412", "PUT with If-None-Match: *"),
    ],
)
def test_an_endpoint_with_a_wrong_answer_is_refused_with_what_it_was(flaw: str, request_: str, tmp_path: Path) -> None:
    with small_s3(flaw) as (server, environment):
        with pytest.raises(EndpointUnfit) as refused:
            opened(environment, tmp_path)
        assert refused.value.details["request"] == request_
        assert environment["AWS_ENDPOINT_URL"].removeprefix("http://") in refused.value.message
        assert not server.objects or flaw == "keeps what is deleted"  # the probe cleans up after itself
        asked = len(server.requests)
        with pytest.raises(EndpointUnfit):  # it is never taken for fit because it was asked before
            opened(environment, tmp_path)
        assert len(server.requests) > asked


def test_a_fit_endpoint_is_asked_once_for_each_workspace(tmp_path: Path) -> None:
    with small_s3() as (server, environment):
        opened(environment, tmp_path / "one")
        assert not server.objects
        asked = len(server.requests)
        opened(environment, tmp_path / "one")
        assert len(server.requests) == asked
        opened(environment, tmp_path / "two")
        assert len(server.requests) == 2 * asked


@pytest.mark.parametrize(("flaws", "conditional"), [((), True), (("ignores If-None-Match",), False),
                                                   (("unknown header",), False)])  # fmt: skip
def test_conditional_writes_are_noted_and_not_needed(flaws: Any, conditional: bool, tmp_path: Path) -> None:
    with small_s3(*flaws) as (_, environment):
        opened(environment, tmp_path)
        found = fitness("s3://packs/of", home=tmp_path, environment=environment)
    assert found is not None
    assert found.conditional is conditional


def test_init_makes_nothing_on_an_unfit_endpoint_and_warns_of_ignored_conditions(tmp_path: Path) -> None:
    def command(environment: dict[str, str], folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "noria", "init", str(folder), "--store", "s3://packs/of", *more]
        return subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True)

    with small_s3("ignores Range") as (_, environment):
        refused = command(environment, tmp_path / "one")
    assert refused.returncode == 3
    assert "Range: bytes=1000-1099" in refused.stderr
    assert not (tmp_path / "one" / ".noria" / "meta.db").exists()
    with small_s3("ignores If-None-Match") as (_, environment):
        done = command(environment, tmp_path / "two")
        assert done.returncode == 0, done.stderr
        assert "If-None-Match" in done.stderr
        told = command(environment, tmp_path / "three", "--json")
        assert json.loads(told.stdout)["store"] == {"url": "s3://packs/of", "conditional_writes": False}


def test_an_endpoint_that_became_another_one_is_asked_when_the_store_is_opened(tmp_path: Path) -> None:
    with small_s3() as (_, environment), init(tmp_path, store_url="s3://packs/of", environment=environment):
        pass
    with (
        small_s3("lists late") as (_, elsewhere),
        connect(tmp_path, environment=elsewhere) as ws,
        pytest.raises(EndpointUnfit, match="list-type"),
    ):
        _ = ws.store


def test_a_server_that_is_overloaded_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    with small_s3() as (server, environment):
        backend = opened(environment, tmp_path)
        (tmp_path / "source").write_bytes(b"x")
        server.failures = 2
        backend.put("packs/a/1", tmp_path / "source")
        server.failures = 2
        assert backend.read("packs/a/1", 0, 1) == b"x"


def test_nobody_answers(tmp_path: Path) -> None:
    with small_s3() as (server, environment):
        server.failures = 1000
        with pytest.raises(Unavailable, match="did not answer") as refused:
            opened(environment, tmp_path)
    assert "AWS_ENDPOINT_URL" in refused.value.hint


class TestSmallS3(ByteStoreContract):
    """The server of these tests is one that keeps the contract where it has no flaw (but for multipart uploads)."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Any:
        with small_s3() as (server, environment):
            assert isinstance(server, SmallS3)
            yield S3Bytes("packs", "of", environment)

    def test_a_big_file_comes_back_by_parts(self, backend: Any, tmp_path: Path) -> None:
        pytest.skip("the small server takes no multipart uploads; the real one of test_s3.py does")


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "ftp://bucket/key", "s3://user:word@bucket/key", "s3://b/../x"])
def test_urls_that_name_no_bucket(url: str) -> None:
    from noria.store.buckets import parse

    with pytest.raises(BucketUrlWrong) as refused:
        parse(url)
    assert "word" not in refused.value.message

"""Object stores for engines: an S3 server in this process, and fsspec's memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.stores import files_of

from synthgen import storage


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty bucket; what is opened in the test is forgotten after it."""
    settings = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    name = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # instances keep the settings that they were made with
    files_of(f"s3://{name}").mkdir(name)
    with forgetting(monkeypatch):
        yield f"s3://{name}"


class forgetting:  # noqa: N801
    """Stores that are opened inside are forgotten, and their copies are somewhere else than other launches'."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage, "_stores", {})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    with forgetting(monkeypatch):
        yield f"memory://{tmp_path.name}/runs"

"""A real etcd for the tests of refnet, empty at the start of each."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from refnet.errors import StoreUnavailable
from refnet.store.etcd import Etcd

START_WITHIN_S = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def etcd_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an etcd of this test run alone."""
    program = shutil.which("etcd") or pytest.fail("etcd is missing: apt-get install etcd-server", pytrace=False)
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    folder: Path = tmp_path_factory.mktemp("etcd")
    command = [program, "--data-dir", str(folder / "data"), "--listen-client-urls", client]
    command += ["--advertise-client-urls", client, "--listen-peer-urls", peer, "--log-level", "error"]
    command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(client, process, folder / "log")
        yield client
    finally:
        process.kill()
        process.wait()


def wait_for(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Look until etcd answers; say what it wrote if it does not."""
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with closing(Etcd([endpoint])) as client:
                client.put("/ready", True)
            return
        except StoreUnavailable as error:
            last = error
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(f"etcd did not start: {last}\n{log.read_text()}", pytrace=False)


@pytest.fixture
def store(etcd_endpoint: str) -> Iterator[Etcd]:
    """An empty store."""
    client = Etcd([etcd_endpoint])
    for key in client.prefix("/")[0]:
        client.delete(key)
    yield client
    client.close()

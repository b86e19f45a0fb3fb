"""What is said of a server that cannot be talked to: each cause in its own words, none a crash."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from hour_llava.videomarathon.calls.client import Client, TryError
from hour_llava.videomarathon.settings import EndpointSettings


@pytest.fixture
def rude_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the address of a server that answers every request with some bytes, or never."""
    reply: bytes | None = request.param
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        held: list[socket.socket] = []
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.recv(65536)
            if reply is None:
                held.append(connection)
            else:
                connection.sendall(reply)
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def failure(url: str, *, asks_models: bool = False) -> TryError:
    async def go() -> None:
        client = Client(EndpointSettings(base_url=url, model="m", timeout_seconds=0.5))
        try:
            await (client.models() if asks_models else client.send({"model": "m"}, {}))
        finally:
            await client.close()

    with pytest.raises(TryError) as caught:
        asyncio.run(go())
    return caught.value


@pytest.mark.parametrize("asks_models", [False, True])
@pytest.mark.parametrize(
    ("rude_server", "words"),
    [
        (None, "no answer in 0.5 s"),
        (b"", "connection: Server disconnected"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "connection: "),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "connection: "),
    ],
    indirect=["rude_server"],
)
def test_a_server_that_breaks_off_is_tried_again_and_the_cause_is_named(
    rude_server: str, words: str, asks_models: bool
) -> None:
    fault = failure(rude_server, asks_models=asks_models)
    assert fault.kind == "failed"
    assert words in str(fault)
    assert "\n" not in str(fault)


def test_a_server_that_is_not_there_is_said_to_be_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fault = failure(f"http://127.0.0.1:{port}/v1")
    assert fault.kind == "failed"
    assert "no answer" not in str(fault) and str(port) in str(fault)

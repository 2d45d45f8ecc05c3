"""Noticing that another process of a job has died, before JAX does.

JAX's client ends its process, with a stack trace, in the moment it loses the coordinator, which lives in the first
process; of any other process's death it learns after a minute. So each process reaches the coordinator through a relay,
a thread that copies bytes. A process that dies closes its connections, which the relay sees first; a host that dies
does not, so connections are probed.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from threading import Thread

_GREETING = "metarl process {:6d}\n"
_GREETING_BYTES = len(_GREETING.format(0))
_PROBES = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
"""Seconds without a word until the other host is probed, between probes, probes; milliseconds without an answer."""


class Relay:
    """Copies bytes between JAX's client and its coordinator, one of which is in another process.

    Args:
      process_id: of this process. The first one is where the coordinator is.
      coordinator: host and port that all processes agree on: where the first process's relay listens.
      on_end: called, in the relay's thread, with the number of the process that has ended.
    """

    def __init__(self, process_id: int, coordinator: tuple[str, int], on_end: Callable[[int], object]) -> None:
        self._process_id = process_id
        self._on_end = on_end
        self._is_watching = False
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True).start()
        host, port = "127.0.0.1", _free_port()
        self.address = f"{host}:{port}"
        """Where JAX's client, and in the first process its coordinator, are to be told that the coordinator is."""
        self._target = (host, port) if process_id == 0 else coordinator
        serving = (
            asyncio.start_server(self._serve, None, coordinator[1])
            if process_id == 0
            else asyncio.start_server(self._serve, host, port)
        )
        asyncio.run_coroutine_threadsafe(serving, self._loop).result()

    def watch(self, is_watching: bool) -> None:
        """From now on, the end of a connection is that of a process, or it no longer matters."""
        self._is_watching = is_watching

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; before all have joined, JAX tries again where one fails."""
        with contextlib.suppress(OSError, EOFError, ValueError), contextlib.closing(writer):
            other = 0
            if self._process_id == 0:
                greeting = (await reader.readexactly(_GREETING_BYTES)).decode()
                other = int(greeting.removeprefix(_GREETING.partition("{")[0]))
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            with contextlib.closing(far_writer):
                if self._process_id != 0:
                    far_writer.write(_GREETING.format(self._process_id).encode())
                for each in (writer, far_writer):
                    _probe(each.get_extra_info("socket"))
                both = [asyncio.ensure_future(_copy(*ends)) for ends in ((reader, far_writer), (far_reader, writer))]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if self._is_watching:
                    self._on_end(other)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()


def _probe(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):  # not all of them are everywhere
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Ctrl-C and SIGTERM as a request to stop, answered at once, whatever the main thread is doing."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any, NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(
    say: Callable[[str], object], at_once: Callable[[int], object] | None = None
) -> Iterator[Callable[[], int | None]]:
    """Take Ctrl-C and SIGTERM for a request to stop; the second one acts at once.

    Python runs handlers of signals between two of its instructions, and compiling a program is one instruction of
    minutes. So a thread of its own is woken by the arrival of a signal, and answers it. Outside the main thread (a
    notebook server's worker) signals stay as they are.

    Args:
      say: called with a sentence when the first signal arrives, from that thread.
      at_once: called with the number of the second signal, from that thread, and should end the process. If None,
        the second signal goes to the handler before this one, when the main thread next comes to it.

    Yields:
      What tells the number of the first signal, or None.

    Example:
      >>> with stop_on_signals(print) as stop_requested:
      ...     signal.raise_signal(signal.SIGTERM)
      ...     while stop_requested() is None:
      ...         pass
      stopping after this update; once more to stop now
    """
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in STOPS}

    def watch(arrivals: socket.socket) -> None:
        while number := int.from_bytes(arrivals.recv(1), "big"):  # nothing, and so 0, when the other end is closed
            if number in STOPS:
                received.append(number)
                if len(received) == 1:
                    say("stopping after this update; once more to stop now")
                elif at_once is not None:
                    at_once(number)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if at_once is None:
            _install(previous)
            if len(received) > 1:  # it was pressed again while the main thread could not come here
                signal.raise_signal(number)

    with ExitStack() as undo:
        if current_thread() is main_thread():
            arrivals, departures = socket.socketpair()
            departures.setblocking(False)
            watcher = Thread(target=watch, args=(arrivals,), daemon=True)
            watcher.start()
            undo.callback(arrivals.close)
            undo.callback(watcher.join)
            undo.callback(departures.close)
            undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(departures.fileno(), warn_on_full_buffer=False))
            undo.callback(_install, previous)
            _install(dict.fromkeys(STOPS, on_signal))
        yield lambda: received[0] if received else None


def _install(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def end_at_once(number: int) -> NoReturn:
    """End the process with the exit code of a signal, from any thread; what was not saved is lost."""
    end_process("stopped now", 128 + number)


def end_process(sentence: str, code: int) -> NoReturn:
    """Say why and end the process, from any thread, without the interpreter's farewells."""
    show_cursor = "\033[?25h" if sys.stderr.isatty() else ""  # a progress bar hides it
    print(f"{show_cursor}{sentence}", file=sys.stderr, flush=True)
    os._exit(code)

"""Signals are answered when they arrive, also where Python has no say."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from metarl_jax.runs.signals import STOPS, stop_on_signals

WORD = "stopping after this update; once more to stop now"


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", STOPS)
def test_the_first_signal_is_a_request_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in STOPS]
    said: list[str] = []
    with stop_on_signals(said.append, lambda _: None) as stop_requested:
        assert stop_requested() is None
        signal.raise_signal(number)
        wait_until(stop_requested)
        assert stop_requested() == number
    assert said == [WORD]
    assert [signal.getsignal(each) for each in STOPS] == before


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as a notebook has it, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_in_a_notebook_the_second_ctrl_c_interrupts() -> None:
    def press_twice() -> None:
        with stop_on_signals(lambda _: None) as stop_requested:
            signal.raise_signal(signal.SIGINT)
            wait_until(stop_requested)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        press_twice()


def test_both_signals_are_answered_while_the_main_thread_is_in_c() -> None:
    """Hashing stands for compiling: one call that gives the lock of the interpreter away, and does not come back."""
    events: list[str] = []

    def press(times: int) -> None:
        for _ in range(times):
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)

    with stop_on_signals(events.append, lambda number: events.append(f"end {number}")):
        presses = threading.Thread(target=press, args=(2,))
        presses.start()
        while presses.is_alive():
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1_000_000)
            events.append("back in Python")
    assert events[:2] == [WORD, f"end {int(signal.SIGTERM)}"]


def test_outside_the_main_thread_signals_stay_as_they_are() -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[object] = []

    def work() -> None:
        with stop_on_signals(pytest.fail) as stop_requested:
            found.extend([signal.getsignal(signal.SIGINT), stop_requested()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before, None]

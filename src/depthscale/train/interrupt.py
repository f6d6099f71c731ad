"""Ctrl-C as a request that the loop answers between two steps, so that what is kept is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Request:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.made = False


@contextmanager
def graceful_interrupt() -> Iterator[Request]:
    """The first Ctrl-C inside sets ``made``, the second interrupts at once; outside the main thread nothing changes."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if request.made or not callable(before):
            raise KeyboardInterrupt
        request.made = True

    if before is signal.SIG_IGN or before is None:
        yield request
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, before)

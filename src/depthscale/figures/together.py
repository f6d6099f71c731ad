"""All figures, several at a time, each in a process of its own: one that crashes or is killed does not lose the others.

Whatever is finished lies in the folder at once; a second run finds it there.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from depthscale.errors import DepthscaleError
from depthscale.figures import gallery
from depthscale.figures.gallery import Entry, Outcome

Told = Callable[[str, str], None]  # a figure's name and what it says
Done = Callable[[Outcome], None]


@dataclass
class _Running:
    entry: Entry
    process: BaseProcess
    messages: Connection
    outcome: Outcome | None = None


def make_all(
    entries: Sequence[Entry],
    out: Path,
    *,
    quick: bool,
    seed: int = 0,
    fresh: bool = False,
    jobs: int | None = None,
    told: Told = lambda _name, _words: None,
    done: Done = lambda _outcome: None,
) -> list[Outcome]:
    """The outcomes of ``entries`` in their order, from at most ``jobs`` processes (one a core by default).

    ``told(name, words)`` hears what a figure says, ``done(outcome)`` of each that is finished. On an interruption the
    processes are ended and what they finished is kept.
    """
    jobs = jobs or max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    waiting, running = list(entries), list[_Running]()
    found: dict[str, Outcome] = {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), out, quick, seed, fresh, threads))
                told(running[-1].entry.name, "starting")
            for one in _heard(running, told):
                running.remove(one)
                outcome = one.outcome or _crashed(one, out, quick, seed)
                found[one.entry.name] = outcome
                done(outcome)
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.join()
    return [found[e.name] for e in entries]


def _start(entry: Entry, out: Path, quick: bool, seed: int, fresh: bool, threads: int) -> _Running:
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context: Any = get_context(method)
    if method == "forkserver":  # heavy libraries are loaded once, before any of their threads exists
        context.set_forkserver_preload(["depthscale.figures.together", "torch", "scipy.optimize", "matplotlib.figure"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(entry.module, out, quick, seed, fresh, threads, there))
    process.start()
    there.close()
    return _Running(entry, process, here)


def _work(module: str, out: Path, quick: bool, seed: int, fresh: bool, threads: int, messages: Connection) -> None:
    """In the process: run one figure and send what it says, then what it gave."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends us
    import torch

    torch.set_num_threads(threads)
    entry = gallery.entry(module)
    assert entry is not None  # the parent found it
    try:
        outcome = gallery.make(
            entry, out, quick=quick, seed=seed, fresh=fresh, say=lambda words: messages.send(("says", words))
        )
        messages.send(("done", outcome))
    except DepthscaleError as error:
        messages.send(("stop", str(error)))


def _heard(running: list[_Running], told: Told) -> list[_Running]:
    """Listen once to whoever says something; those that have ended."""
    ended = []
    ready = wait([one.messages for one in running], timeout=1.0)
    for one in running:
        if one.messages not in ready:
            continue
        try:
            kind, value = one.messages.recv()
        except EOFError:  # the process has gone
            one.process.join()
            one.messages.close()
            ended.append(one)
            continue
        if kind == "stop":
            raise DepthscaleError(value)
        if kind == "done":
            one.outcome = value
        else:
            told(one.entry.name, value)
    return ended


def _crashed(one: _Running, out: Path, quick: bool, seed: int) -> Outcome:
    code = one.process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit status {code}"
    reason = f"its process {how}; where that is memory, try fewer --jobs"
    return gallery.keep(out, Outcome(one.entry.name, "error", reason, 0.0, quick, seed, one.entry.digest, {}, {}))

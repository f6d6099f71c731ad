"""Where groups are trained: this process, several processes, several GPUs, or a Ray cluster.

Every place takes tasks and yields (number of the task, its rows) as they finish, in whatever order.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from depthscale.errors import TrainingError
from depthscale.train.sweep.group import Row, Task, train_group

Finished = Iterator[tuple[int, list[Row]]]
Tell = Callable[[float], None]
PLACES = ("local", "ray")


def here(tasks: Sequence[Task], tell: Tell) -> Finished:
    """In this process, one after another; ``tell`` hears the share of the running task."""
    for task in tasks:
        rows = train_group(task, tell)
        if any(row["status"] == "interrupted" for row in rows):
            raise KeyboardInterrupt
        yield task.number, rows


def processes(tasks: Sequence[Task], workers: int, devices: Sequence[str]) -> Finished:
    """In ``workers`` processes of their own, one thread each; on GPUs, one process for each of ``devices``.

    Raises TrainingError when a worker dies (out of memory, say); what was finished has been yielded.
    """
    context = multiprocessing.get_context("spawn")
    names = context.Queue()
    for k in range(workers):
        names.put(devices[k % len(devices)])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(names, os.getpid()))
    try:
        waiting = {pool.submit(_in_worker, task): task.number for task in tasks}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                number = waiting.pop(future)
                yield number, future.result()
    except BrokenProcessPool:
        raise TrainingError(
            "a worker of the sweep died (out of memory?); what was finished is kept: resume it with fewer workers "
            "or less memory"
        ) from None
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)


_device = "cpu"


def _begin(names: Any, parent: int) -> None:
    """In a new worker: one thread, its device, no answer to Ctrl-C (the parent has one), an end with the parent's."""
    global _device
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _device = names.get()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_worker(task: Task) -> list[Row]:
    return train_group(replace(task, device=_device))


def ray(tasks: Sequence[Task], device: str) -> Finished:
    """On a Ray cluster (or this machine, where none is running): a task takes one CPU, or one GPU."""
    try:
        import ray as cluster
    except ImportError:
        raise TrainingError(
            "expected Ray for --on ray, but it is not installed; pip install 'depthscale[ray]'"
        ) from None
    began = not cluster.is_initialized()
    if began:
        cluster.init(ignore_reinit_error=True, log_to_driver=False)
    try:
        gpus = 1 if device.startswith("cuda") else 0
        remote = cluster.remote(num_cpus=1, num_gpus=gpus, max_retries=2)(_on_ray)
        waiting = {remote.remote(task): task.number for task in tasks}
        while waiting:
            done, _ = cluster.wait(list(waiting), num_returns=1)
            for reference in done:
                yield waiting.pop(reference), cluster.get(reference)
    finally:
        if began:
            cluster.shutdown()


def _on_ray(task: Task) -> list[Row]:
    import torch

    torch.set_num_threads(1)
    return train_group(task)

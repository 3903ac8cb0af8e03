"""Several processes that train for one desk, each on its own part of the processor.

They are forks of the process that searches, which keeps the desk: what it has imported and what a program has given it
(`autotune.given`) is there, and costs nothing again. Each calls the desk through a pipe.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import mmap
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from autotune.errors import UserError
from autotune.trial import Desk, End, Epoch, Reason, Trial

HEARD_EVERY = 0.1  # seconds at most until the others hear that the desk is interrupted
STDIO = 3

# What a step of a lane costs before it has a member, in samples of one: a hundred operations at each.
SAMPLES_A_STEP = 480.0


def counted(workers: int | str) -> int:
    """How many processes `executor.workers` means.

    Raises:
        UserError: It is no such number, or this system cannot fork.
    """
    can_fork = sys.platform == "linux"
    if workers == "auto":
        return len(os.sched_getaffinity(0)) if can_fork and not torch.cuda.is_available() else 1
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UserError("executor.workers", f"{workers} is no number of processes", "give one from 1 on, or auto")
    if workers > 1 and not can_fork:
        raise UserError("executor.workers", f"{workers} processes need Linux", "give executor.workers=1")
    return workers


def share(desk: Desk, train: Callable[[Desk], None], workers: int, slots: int) -> None:
    """Train what the desk hands out, in so many processes.

    Args:
        desk: Is called from this process alone.
        train: Trains what a desk hands out until that has no more; called in each of the processes, maybe repeatedly.
        workers: How many.
        slots: Trials in training at once, in all of them together.

    Raises:
        UserError: One of the processes died.
        BaseException: What the desk, or a mistake in a config, raised.
    """
    processes = _Processes(desk, train, workers, slots)
    try:
        processes.work()
    finally:
        processes.dismiss()


@dataclass(eq=False, slots=True)
class _Worker:
    """A process, and what it trains.

    Attributes:
        process: The fork.
        pipe: To it.
        kinds: Of the trials that it trains, by their numbers.
        queue: Trials that are its own and that it has not asked for yet.
        is_idle: Whether it waits to be told of more.
        is_gone: Whether it will not ask again.
    """

    process: BaseProcess
    pipe: Connection
    kinds: dict[int, _Kind] = field(default_factory=dict)
    queue: deque[Trial] = field(default_factory=deque)
    is_idle: bool = False
    is_gone: bool = False

    def load(self, joining: _Kind) -> float:
        """What an epoch of all its trials and a further one would cost, in epochs of one trial."""
        kinds = [*self.kinds.values(), joining]
        return len(kinds) + sum(each.lane_costs for each in set(kinds))


@dataclass(frozen=True, slots=True)
class _Kind:
    """What trials of one lane have in common, and what an epoch of the lane costs beside them."""

    key: str
    lane_costs: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Kind:
        data, optimizer = config["data"], config["optimizer"]
        size = data.get("batch_size")
        is_full = optimizer.get("name") == "bgd" or not isinstance(size, int) or size < 1
        key = json.dumps([config["model"], data, is_full], sort_keys=True, default=str)
        return cls(key, 0.0 if is_full else SAMPLES_A_STEP / size)


class _Processes:
    """The processes, seen from the desk."""

    def __init__(self, desk: Desk, train: Callable[[Desk], None], workers: int, slots: int) -> None:
        self._desk = desk
        self._slots = max(slots, workers)
        self._in_training = 0
        self._nothing_more = False
        self._raised: BaseException | None = None
        self._stop = mmap.mmap(-1, 1)  # shared with the forks
        self._workers: list[_Worker] = []
        context = multiprocessing.get_context("fork")
        threads = max(1, torch.get_num_threads() // workers)
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, self._stop, train, threads), name=f"autotune-{number}"
            )
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def work(self) -> None:
        """Serve them until nothing is left to train."""
        while present := [worker for worker in self._workers if not worker.is_gone]:
            if self._raised is not None or self._desk.interrupted:
                self._stop[0] = 1
                self._nothing_more = True
            self._feed()
            if all(worker.is_idle for worker in present):
                for worker in present:
                    worker.pipe.send(False)
                    worker.is_gone = True
                continue
            for pipe in wait([worker.pipe for worker in present], timeout=HEARD_EVERY):
                self._hear(next(worker for worker in present if worker.pipe is pipe))
        if self._raised is not None:
            raise self._raised

    def dismiss(self) -> None:
        """Wait for those that have come to their end, and make an end of the others."""
        for worker in self._workers:
            if not worker.is_gone:
                worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._stop.close()

    def _hear(self, worker: _Worker) -> None:
        try:
            what, given = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.is_gone = True
            worker.process.join()
            self._fail(
                UserError(
                    "executor.workers",
                    f"one of {len(self._workers)} processes died ({_exit(worker.process.exitcode)})",
                    "give fewer where memory ran out; the same command goes on with what was trained",
                )
            )
            return
        match what:
            case "log":
                logging.getLogger(given.name).handle(given)
            case "idle":
                worker.is_idle = True
            case "stopped":  # by what the desk raised
                worker.is_gone = True
            case "raised":
                worker.is_gone = True
                self._fail(_unpacked(given))
            case _:
                worker.pipe.send(self._answer(worker, what, given))

    def _answer(self, worker: _Worker, what: str, given: Any) -> tuple[bool, Any]:
        """What the desk answers, and whether it raised instead."""
        try:
            match what:
                case "next_trial":
                    return False, self._next_trial(worker)
                case "judge":
                    return False, self._desk.judge(given)
                case "resumed":
                    self._desk.resumed(*given)
                    return False, None
                case "ended":
                    number, reason, cost, error, logged = given
                    del worker.kinds[number]
                    self._in_training -= 1
                    self._desk.ended(End(number, reason, cost, error and _unpacked(error), logged))
                    return False, None
            raise ValueError(what)
        except Exception as error:
            self._fail(error)
            return True, None

    def _fail(self, error: BaseException) -> None:
        self._raised = self._raised or error

    def _next_trial(self, worker: _Worker) -> Trial | None:
        """The next trial that this one is to train; others that come up meanwhile wait for whom they are for."""
        while not worker.queue:
            if self._nothing_more or self._in_training >= self._slots:
                return None
            trial = self._desk.next_trial()
            if trial is None:  # there may be more once one of those in training has ended
                self._nothing_more = self._in_training == 0
                return None
            kind = _Kind.of(trial.config)
            present = [each for each in self._workers if not each.is_gone]
            # Where it costs the least in all; of equals the one that asks.
            chosen = min(present, key=lambda each: (each.load(kind), each is not worker))
            chosen.kinds[trial.number] = kind
            chosen.queue.append(trial)
            self._in_training += 1
        return worker.queue.popleft()

    def _feed(self) -> None:
        """Wake those that wait and for whom there is something; let go what is not begun where nothing is to be."""
        for worker in self._workers:
            if self._stop[0] or worker.is_gone:
                for trial in worker.queue:
                    del worker.kinds[trial.number]
                    self._in_training -= 1
                    self._desk.ended(End(trial.number, Reason.INTERRUPTED))
                worker.queue.clear()
            elif worker.is_idle:
                first = self._next_trial(worker)
                if first is not None:
                    worker.queue.appendleft(first)
                    worker.is_idle = False
                    worker.pipe.send(True)


class _Stopped(Exception):  # noqa: N818
    """The desk raised: what this process trains ends."""


class _Remote:
    """The desk, as a fork sees it."""

    def __init__(self, pipe: Connection, stop: mmap.mmap) -> None:
        self._pipe = pipe
        self._stop = stop
        self._parent = os.getppid()

    @property
    def interrupted(self) -> bool:
        """As the desk's; where the desk is no more, neither is this process."""
        if os.getppid() != self._parent:
            os._exit(1)
        return bool(self._stop[0])

    def next_trial(self) -> Trial | None:
        """As the desk's, or None where the others have what there is."""
        trial = None if self.interrupted else self._call("next_trial", None)
        assert trial is None or isinstance(trial, Trial)
        return trial

    def judge(self, epoch: Epoch) -> Reason | None:
        """As the desk's."""
        reason = self._call("judge", epoch)
        assert reason is None or isinstance(reason, Reason)
        return reason

    def resumed(self, number: int, epochs: Sequence[Epoch]) -> None:
        """As the desk's."""
        self._call("resumed", (number, epochs))

    def ended(self, end: End) -> None:
        """As the desk's."""
        error = None if end.error is None else _packed(end.error)
        self._call("ended", (end.number, end.reason, end.cost, error, end.logged))

    def waits_for_more(self) -> bool:
        """Wait until there is more to train; whether there is."""
        self._pipe.send(("idle", None))
        return bool(self._pipe.recv())

    def _call(self, what: str, given: Any) -> Any:
        self._pipe.send((what, given))
        raised, answer = self._pipe.recv()
        if raised:
            raise _Stopped
        return answer


def _work(pipe: Connection, stop: mmap.mmap, train: Callable[[Desk], None], threads: int) -> None:
    """What a fork does."""
    for number in (signal.SIGINT, signal.SIGTERM):  # which come to all of a group, and which the desk hears
        signal.signal(number, signal.SIG_IGN)
    _close_all_but(pipe.fileno())
    _log_through(pipe)
    torch.set_num_threads(threads)
    desk = _Remote(pipe, stop)
    try:
        try:
            train(desk)
            while desk.waits_for_more():
                train(desk)
        except _Stopped:
            pipe.send(("stopped", None))
        except BaseException as error:
            pipe.send(("raised", _packed(error)))
    except (EOFError, OSError):  # the desk is no more
        os._exit(1)


def _close_all_but(kept: int) -> None:
    """Let go of the study's lock and files, of MLflow's writer and of the pipes of the others."""
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor >= STDIO and descriptor != kept:
            try:
                os.close(descriptor)
            except OSError:  # that of the listing itself
                continue


class _Forward(logging.handlers.QueueHandler):
    """Has the desk's process say what a fork says."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(queue.SimpleQueue())
        self._pipe = pipe

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self._pipe.send(("log", record))
        except OSError:  # nobody is there to say it
            os._exit(1)


def _log_through(pipe: Connection) -> None:
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for logger in loggers:
        logger.handlers = []
    logging.root.handlers = [_Forward(pipe)]


class _Told(Exception):  # noqa: N818
    """Where another process raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


Packed = tuple[bytes | None, str, str, str]


def _packed(error: BaseException) -> Packed:
    """An exception as it goes through a pipe: itself where it can be pickled, its name, text and traceback."""
    told = "".join(traceback.format_exception(error))
    try:
        itself = pickle.dumps(error)
        pickle.loads(itself)
    except Exception:
        itself = None
    return itself, type(error).__name__, str(error), told


def _unpacked(packed: Packed) -> BaseException:
    itself, name, said, told = packed
    error: BaseException = type(name, (Exception,), {})(said) if itself is None else pickle.loads(itself)
    error.__cause__ = _Told(told)
    return error


def _exit(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

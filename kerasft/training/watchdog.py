"""A watchdog: when no step ends for long, it says what the pipeline is doing."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from kerasft.errors import UserError
from kerasft.system.console import listing
from kerasft.system.files import appending

# The first step traces and compiles.
PATIENCE = 3


class Watchdog(keras.callbacks.Callback):
    """Looks from a thread of its own whether training moves. It ends nothing.

    Args:
        minutes: After how many without a step it speaks; then after twice as many, and so on.
            `None` for never.
        where: Says what the input pipeline is at.
        directory: Where `stalled.txt` is written, with what each thread of Python is at; `None`
            writes none.
        say: Says a sentence to the user.
    """

    def __init__(
        self, minutes: float | None, where: Callable[[], str], directory: Path | None,
        say: Callable[[str], None],
    ):
        super().__init__()
        self.seconds = None if minutes is None else 60 * minutes
        self.where, self.directory, self.say = where, directory, say
        self.moved = time.monotonic()
        self.doing, self.next = "before the first step", 0.0
        self.epoch, self.last = 0, ""
        self._ended = threading.Event()

    def _move(self, doing: str, patience: float = 1) -> None:
        self.doing, self.moved = doing, time.monotonic()
        self.next = (self.seconds or 0.0) * patience

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._move(f"before step 1 of epoch {epoch + 1}", PATIENCE)

    def on_train_batch_begin(self, batch, logs=None):
        first = self.doing.startswith("before")
        self._move(f"in step {batch + 1} of epoch {self.epoch + 1}", PATIENCE if first else 1)

    def on_epoch_end(self, epoch, logs=None):
        # Called before the callbacks that validate and write, and those may take long.
        self._move(f"at the end of epoch {epoch + 1} (validation, callbacks)", PATIENCE)

    def reads(self, name: str) -> None:
        """Move on to reading something, where no stage trains yet."""
        self.last = name
        self._move(self.doing, PATIENCE)

    @contextmanager
    def watching(self, doing: str = "before the first step") -> Iterator[None]:
        """Watch while the block runs.

        Args:
            doing: Where the run stands at its beginning.
        """
        if self.seconds is None:
            yield
            return
        self._move(doing, PATIENCE)
        thread = threading.Thread(target=self._watch, name="kerasft-watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        assert self.seconds is not None
        while not self._ended.wait(min(self.seconds / 4, 5.0)):
            still = time.monotonic() - self.moved
            if still >= self.next:
                self.next = 2 * still
                self._speak(still)

    def _speak(self, seconds: float) -> None:
        stacks = ""
        if self.directory is not None:
            try:
                path = self.directory / "stalled.txt"
                with appending(path) as file:
                    file.write(f"after {seconds:.0f} s {self.doing}\n")
                    file.flush()
                    faulthandler.dump_traceback(file, all_threads=True)
                stacks = f" What each thread is doing: {str(path)!r}."
            except (OSError, UserError) as error:
                reason = getattr(error, "strerror", None) or str(error).rstrip(".")
                stacks = f" What each thread is at could not be written: {reason}."
        self.say(
            f"warning: nothing has moved for {_minutes(seconds)}: the run stands {self.doing}; "
            f"{self.where()}.{stacks}"
        )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"


@contextmanager
def watching_preparation(
    minutes: float | None, directory: Path | None, say: Callable[[str], None]
) -> Iterator[Callable[[str], None]]:
    """Watch while data is read and made ready.

    Args:
        minutes: See `Watchdog`, as `directory` and `say`.

    Yields:
        What is to be told of each thing that is read.
    """
    def where() -> str:
        if not watchdog.last:
            return "it has read nothing yet"
        return f"what it began to read last is {watchdog.last!r}. Look at the disk that holds it"

    watchdog = Watchdog(minutes, where, directory, say)
    with watchdog.watching("before training, where data and network are read and made ready"):
        yield watchdog.reads


def pipeline_state(batches: Any, ids: Sequence[str]) -> str:
    """Say what the input pipeline is at.

    Args:
        batches: `Batches`.
        ids: The names of the training examples, in order.
    """
    if batches.reading is not None:
        examples = [ids[i] for i in batches.order.batch(batches.reading)[1]]
        return (
            f"the input pipeline is reading the examples {listing(examples, 3)}. Look at the disk "
            "that holds cache.directory"
        )
    return (
        "the input pipeline reads nothing: it waits for augmentation, or has its batches ready, "
        "and the step itself is at work"
    )

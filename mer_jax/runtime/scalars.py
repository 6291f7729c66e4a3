"""Curves for TensorBoard, in event files as tensorboardX writes them, which needs no TensorFlow."""

import time
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np


class Scalars:
    """An event file in a folder, of the first host alone; without a folder nothing is written."""

    def __init__(self, folder: str | Path | None = None):
        self._file: Any = None
        if folder and jax.process_index() == 0:
            from tensorboardX.event_file_writer import EventsWriter  # for which `cli.parse_flags` has looked

            Path(folder).mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(Path(folder, "events")))

    def write(self, tag: str, values: Any, first_step: int = 0) -> None:
        """The means over networks of values [R, steps], at once: a kill would lose a SummaryWriter's queue."""
        if self._file:
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.summary import scalar

            for step, value in enumerate(np.asarray(values, np.float64).mean(axis=0), start=first_step):
                self._file.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
            self._file.flush()

    def close(self) -> None:
        """Ends the file, which a process does as well when it ends."""
        if self._file:
            self._file.close()


@cache
def scalars_in(folder: str | None) -> Scalars:
    """The one writer of this process to a folder."""
    return Scalars(folder)

"""Watching a run: a log of every step, a bar or plain lines, reports, curves, exams on the way.

    callbacks(...)                       what a Trainer is given
      Watch (callback.py)                measures a step, makes one line of it, hands it on
        JsonlLog, RunReport, ProgressBar, PlainLines, ...      watchers: they take lines
      Measurement                        validation, exam: numbers of the model, every so often

A watcher knows no Trainer and no torch: it takes lines (`lines.py`), which log.jsonl holds.
"""

from hour_llava.train.watching.assembly import callbacks
from hour_llava.train.watching.measurement import Measurement

__all__ = ["Measurement", "callbacks"]

"""What a run tells on its way: the log history, a progress bar or plain lines, metrics.jsonl.

Everything here goes to standard error. Results go to standard output, see results/terminal.py.
"""

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rawtrain.config import TrainingSettings
from rawtrain.errors import visible
from rawtrain.run.durable import enter, explained, json_text, write_text

logger = logging.getLogger("rawtrain")

FIRST_PLAIN_LINE_SECONDS = 10
PLAIN_LINE_SECONDS = 20


def configure_logging(settings: TrainingSettings) -> None:
    """Send the program's messages to standard error, from the level on that `log_level` names."""
    import datasets
    import huggingface_hub
    import transformers

    level = getattr(logging, settings.log_level.upper(), None)  # None: "passive"
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    for library in ("", "transformers", "datasets"):
        for handler in logging.getLogger(library).handlers:
            handler.addFilter(_show_controls)
    logger.setLevel(level or logging.INFO)
    huggingface_hub.logging.disable_propagation()  # it shows its messages itself
    transformers.logging.set_verbosity(level or logging.WARNING)
    datasets.logging.set_verbosity(level or logging.WARNING)
    transformers.logging.disable_progress_bar()  # each checkpoint's would tear ours
    if settings.disable_tqdm or not sys.stderr.isatty():
        datasets.disable_progress_bars()


def _show_controls(record):
    """A message may hold words of the data, or of files that others wrote."""
    record.msg, record.args = visible(record.getMessage()), ()
    return True


class RunLog:
    """The log history of a run, a list of dicts with Trainer's keys, shown and written as it grows.

    On a terminal there is one bar, and a line for each evaluation. Elsewhere a line every 20
    seconds tells the progress: a log file stays short and is never silent for long.
    """

    def __init__(
        self,
        metrics_file: Path | None = None,
        disable_tqdm: bool | None = None,
        trackers: Sequence[Any] = (),  # see trackers.py
    ):
        self.history: list[dict] = []
        self.metrics_file = metrics_file
        self.trackers = trackers
        show_bar = sys.stderr.isatty() if disable_tqdm is None else not disable_tqdm
        self.bar = tqdm(unit="step", file=sys.stderr, leave=False, disable=not show_bar)

    def restore(self, history: list[dict]) -> None:
        """Take the entries of a checkpoint; metrics.jsonl loses those that came after them."""
        self.history = list(history)
        if self.metrics_file is not None:
            write_text(self.metrics_file, "".join(json_text(entry) + "\n" for entry in history))
        for tracker in self.trackers:
            for entry in history:
                tracker.add(entry)

    def start(self, num_steps: int, first_step: int = 0) -> None:
        """The training starts, or resumes after `first_step` of its steps."""
        self.num_steps, self.first_step = num_steps, first_step
        self.start_time = time.monotonic()
        self.next_plain_line = self.start_time + FIRST_PLAIN_LINE_SECONDS
        self.bar.reset(total=num_steps)
        self.bar.update(first_step)

    def tick(self, step: int) -> None:
        """A step is done. Nothing here reads from the device."""
        self.bar.update(step - self.bar.n)
        if self.bar.disable and time.monotonic() >= self.next_plain_line:
            self.next_plain_line = time.monotonic() + PLAIN_LINE_SECONDS
            self.say(self._progress(step))

    def add(self, entry: dict) -> None:
        """Append an entry to the history and to metrics.jsonl, and show it."""
        self.history.append(entry)
        if self.metrics_file is not None:
            line = json_text(entry) + "\n"
            enter(self.metrics_file)
            with explained(self.metrics_file, len(line)), open(self.metrics_file, "a") as file:
                file.write(line)
        for tracker in self.trackers:
            tracker.add(entry)
        if "eval_loss" in entry:
            self.say(evaluation_line(entry))
        elif "loss" in entry:
            self.bar.set_postfix_str(f"loss {entry['loss']:.4f}")

    def say(self, line: str) -> None:
        """Log a line without tearing the bar."""
        if self.bar.disable:
            logger.info(line)
        elif logger.isEnabledFor(logging.INFO):
            self.bar.write(line, file=sys.stderr)

    def finish(self) -> None:
        """Remove the bar and close the trackers; what is said later is a plain line."""
        self.bar.close()  # which disables it
        for tracker in self.trackers:
            tracker.close()

    def _progress(self, step):
        rate = (step - self.first_step) / (time.monotonic() - self.start_time)
        time_left = tqdm.format_interval((self.num_steps - step) / rate)
        parts = [f"step {step}/{self.num_steps}"]
        if logged := [entry for entry in self.history if "loss" in entry]:
            parts.append(f"loss {logged[-1]['loss']:.4f}")
            parts.append(f"learning rate {logged[-1]['learning_rate']:.2g}")
        return "  ".join([*parts, f"{rate:.2f} steps/s", f"{time_left} left"])


def evaluation_line(entry):
    """One line for an evaluation: "epoch 1.00  step 250  loss 0.4302  f1 0.595 ...".

    >>> evaluation_line({"eval_loss": 0.43021, "eval_f1": 0.5949, "eval_LOC_f1": 0.61, "epoch": 1.0,
    ...                  "step": 250, "eval_runtime": 3.1, "eval_samples_per_second": 5.0})
    'epoch 1.00  step 250  loss 0.4302  f1 0.595'
    """
    parts = [f"epoch {entry['epoch']:.2f}", f"step {entry['step']}"]
    for key, value in entry.items():
        name = key.removeprefix("eval_")
        if name != key and name != "runtime" and "_" not in name:  # else a rate or a type's score
            precise = ".4f" if name == "loss" else ".2f" if name == "perplexity" else ".3f"
            parts.append(f"{name} {value:{precise}}")
    return "  ".join(parts)

"""What is said while a run goes on: the log history, a progress bar or plain lines, metrics.jsonl.

Everything here goes to standard error; results, which `report.py` prints, go to standard output.
"""

import json
import logging
import sys
import time

from tqdm import tqdm

from rawtrain.run.durable import explained, write_text

logger = logging.getLogger("rawtrain")

FIRST_PLAIN_LINE_SECONDS = 10
PLAIN_LINE_SECONDS = 20


def configure_logging(settings):
    """Send what the program says to standard error, as much of it as `log_level` asks for."""
    import datasets
    import huggingface_hub
    import transformers

    passive = settings.log_level == "passive"
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logger.setLevel("INFO" if passive else settings.log_level.upper())
    libraries_level = logging.WARNING if passive else getattr(logging, settings.log_level.upper())
    huggingface_hub.logging.disable_propagation()  # it shows its lines itself; ours would be twice
    transformers.logging.set_verbosity(libraries_level)
    datasets.logging.set_verbosity(libraries_level)
    transformers.logging.disable_progress_bar()  # one for each checkpoint would tear ours
    if settings.disable_tqdm or not sys.stderr.isatty():
        datasets.disable_progress_bars()


class RunLog:
    """The log history of a run, a list of dicts with Trainer's keys, shown and written as it grows.

    On a terminal there is one bar, and a line for each evaluation. Elsewhere a plain line tells of
    the progress every 20 seconds: a log file stays short, and is never silent for long.
    """

    def __init__(self, metrics_file=None, disable_tqdm=None, trackers=()):
        self.history = []
        self.metrics_file = metrics_file
        self.trackers = trackers  # see trackers.py
        show_bar = sys.stderr.isatty() if disable_tqdm is None else not disable_tqdm
        self.bar = tqdm(unit="step", file=sys.stderr, leave=False) if show_bar else None
        self.num_steps = self.first_step = 0
        self.last_loss = self.last_learning_rate = None

    def restore(self, history):
        """Go on after the entries of a checkpoint; metrics.jsonl loses what came after them."""
        self.history = list(history)
        if self.metrics_file is not None:
            write_text(self.metrics_file, "".join(json.dumps(entry) + "\n" for entry in history))
        for tracker in self.trackers:
            tracker.resume(self.history)

    def start(self, num_steps, first_step=0):
        """The training begins, `first_step` of its steps having been done before."""
        self.num_steps, self.first_step = num_steps, first_step
        self.start_time = time.monotonic()
        self.next_plain_line = self.start_time + FIRST_PLAIN_LINE_SECONDS
        if self.bar is not None:
            self.bar.reset(total=num_steps)
            self.bar.update(first_step)

    def tick(self, step):
        """A step is done; nothing here looks at the device."""
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
        elif time.monotonic() >= self.next_plain_line:
            self.next_plain_line = time.monotonic() + PLAIN_LINE_SECONDS
            self.say(self._progress(step))

    def add(self, entry):
        """Append an entry to the history and to metrics.jsonl, and show it."""
        self.history.append(entry)
        if self.metrics_file is not None:
            line = json.dumps(entry) + "\n"
            with explained(self.metrics_file, len(line)), open(self.metrics_file, "a") as file:
                file.write(line)
        for tracker in self.trackers:
            tracker.add(entry)
        if "learning_rate" in entry:
            self.last_loss, self.last_learning_rate = entry.get("loss"), entry["learning_rate"]
            if self.bar is not None and self.last_loss is not None:
                self.bar.set_postfix_str(f"loss {self.last_loss:.4f}")
        elif "eval_loss" in entry:
            self.say(evaluation_line(entry))

    def say(self, line):
        """Log a line without tearing the bar."""
        if self.bar is None:
            logger.info(line)
        elif logger.isEnabledFor(logging.INFO):
            self.bar.write(line, file=sys.stderr)

    def close(self):
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def finish(self):
        """Nothing follows any more."""
        self.close()
        for tracker in self.trackers:
            tracker.close()

    def _progress(self, step):
        rate = (step - self.first_step) / (time.monotonic() - self.start_time)
        parts = [f"step {step}/{self.num_steps}"]
        if self.last_loss is not None:
            parts.append(f"loss {self.last_loss:.4f}")
            parts.append(f"learning rate {self.last_learning_rate:.2g}")
        parts.append(f"{rate:.2f} steps/s")
        parts.append(f"{tqdm.format_interval((self.num_steps - step) / rate)} left")
        return "  ".join(parts)


def evaluation_line(entry):
    """One line for an evaluation: "epoch 1.00  step 250  loss 0.4302  f1 0.595 ...".

    >>> evaluation_line({"eval_loss": 0.43021, "eval_f1": 0.5949, "eval_LOC_f1": 0.61, "epoch": 1.0,
    ...                  "step": 250, "eval_runtime": 3.1, "eval_samples_per_second": 5.0})
    'epoch 1.00  step 250  loss 0.4302  f1 0.595'
    """
    parts = [f"epoch {entry['epoch']:.2f}", f"step {entry['step']}"]
    for key, value in entry.items():
        name = key.removeprefix("eval_")
        if name != key and name != "runtime" and "_" not in name:  # else rates, or of one type
            precise = ".4f" if name == "loss" else ".2f" if name == "perplexity" else ".3f"
            parts.append(f"{name} {value:{precise}}")
    return "  ".join(parts)

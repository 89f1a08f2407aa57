"""What every job does around its own story: decide the work, open the run, train, save, publish.

    repository = job.prepare(settings)           before anything is read
    settings = job.decide_work(settings, splits)
    run = job.open_run(...)                      new, resumed or finished; mistakes are told by now
    run.train(...)                               until what was learnt is on the disk
    run.write_scores(...)                        of each split in `run.to_score`
    run.close()                                  the model card, and the upload if it was asked for

ner.py and mlm.py fill in what is special about a task, and so does any other task.
"""

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rawtrain.config import TrainingSettings
from rawtrain.errors import raise_problems
from rawtrain.evaluation import Score
from rawtrain.fast.cpu import tune_process
from rawtrain.loop import train
from rawtrain.loss import BatchLoss
from rawtrain.optim import learning_rate_schedule
from rawtrain.precision import choose_device
from rawtrain.randomness import seed_as_trainer
from rawtrain.results import terminal
from rawtrain.results.card import write_card
from rawtrain.results.files import PREFIXES, read_metrics, write_metrics, write_training_results
from rawtrain.results.hub import log_in, upload
from rawtrain.run import directory, signals
from rawtrain.run.checkpoint import Checkpoints, save_model
from rawtrain.run.durable import MANIFEST
from rawtrain.run.identity import identity_of
from rawtrain.run.log import RunLog, configure_logging
from rawtrain.run.state import load_weights
from rawtrain.run.trackers import start_trackers

WORK = {"do_train": "train", "do_eval": "validation", "do_predict": "test"}  # and its split


def prepare(settings: TrainingSettings) -> str | None:
    """Set the process up; the repository to upload to, if there is one.

    Raises ValueError for a token, precision or learning rate schedule that will not do, before any
    data is read.
    """
    configure_logging(settings)
    device = choose_device(settings)
    learning_rate_schedule(settings, max(settings.max_steps, 1000))  # of any length: does it work?
    if settings.is_fast:
        tune_process(device)
    return log_in(settings)


def decide_work(settings, splits):
    """The settings with do_train, do_eval and do_predict decided.

    Without any of them it is all that there is data for. Raises ValueError for work without data.
    """
    work = {do: getattr(settings, do) for do in WORK}
    needs_validation = {
        f"--eval_strategy {settings.eval_strategy}": settings.eval_strategy in ("steps", "epoch"),
        "--load_best_model_at_end": settings.load_best_model_at_end,
        "--save_strategy best": settings.save_strategy == "best",
    }
    problems = [
        f"--{do} is given, but the data has no {split} split"
        for do, split in WORK.items()
        if work[do] and split not in splits
    ]
    problems += [
        f"{flag} is given, but there is no validation data"
        for flag, is_given in needs_validation.items()
        if is_given and "validation" not in splits
    ]
    replaces = settings.overwrite_output_dir or settings.resume_from_checkpoint == "false"
    if not any(work.values()):
        work = {do: split in splits for do, split in WORK.items()}
    elif (Path(settings.output_dir) / MANIFEST).exists() and not replaces:
        work["do_train"] = "train" in splits  # or it would not be known as the finished run
    if settings.push_to_hub and not work["do_train"]:
        problems.append("--push_to_hub uploads what a run trains, and this one trains nothing")
    raise_problems(problems)
    return dataclasses.replace(settings, **work)


def open_run(settings, repository, splits, tokenizer, model) -> "Run":
    """Claim the output directory, and put the model on its device.

    splits: the data, each with a `fingerprint` and a `source`. model: before its first step.
    Of a finished run the results are shown, the weights loaded, and what it lacks is left to do.
    Raises ValueError if the directory is another run's, or in use.
    """
    model.to(choose_device(settings))
    claim = directory.claim(settings, identity_of(settings, splits, tokenizer, model))
    trackers = start_trackers(settings, claim)
    if claim.is_finished:
        settings = _what_is_missing(settings, claim.path)
        terminal.show(terminal.stored_results(read_metrics(claim.path)))
        print(f"to score other data: --model_name_or_path {claim.path}, and another --output_dir")
        model.load_state_dict(load_weights(model, claim.path))
    return Run(settings, model, tokenizer, claim, trackers, repository)


def _what_is_missing(settings, output_dir):
    """The work of a finished run that has no results yet."""
    missing = {
        do: getattr(settings, do) and not (output_dir / f"{PREFIXES[split]}_results.json").exists()
        for do, split in WORK.items()
        if split in PREFIXES
    }
    return dataclasses.replace(settings, do_train=False, **missing)


@dataclass(frozen=True)
class Run:
    """A run whose directory is claimed by this process."""

    settings: TrainingSettings  # with the work decided
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    claim: directory.RunDirectory
    trackers: list
    repository: str | None  # on the Hub, to upload to

    @property
    def output_dir(self) -> Path:
        return self.claim.path

    @property
    def to_score(self) -> list[str]:
        """Which of "validation" and "test" are to be scored."""
        scored = {"validation": self.settings.do_eval, "test": self.settings.do_predict}
        return [split for split, is_wanted in scored.items() if is_wanted]

    @property
    def has_work(self) -> bool:
        return self.settings.do_train or bool(self.to_score)

    def train(
        self,
        batches: dict,
        *,
        batch_loss: BatchLoss,
        eval_batch_loss: BatchLoss,
        score: Score | None,
        num_samples: int,
        first_entry: dict | None = None,
        while_training: contextlib.AbstractContextManager | None = None,
    ) -> None:
        """Train, then write the results of the training and the final model.

        batches: `TrainingBatches` under "train", and `EvaluationBatches` under "validation" if any.
        num_samples: of the training data, for train_results.json. first_entry: of the log, from
        before the first step. while_training: entered for the training and left before the save.
        """
        settings, output_dir = self.settings, self.output_dir
        log = RunLog(output_dir / "metrics.jsonl", settings.disable_tqdm, self.trackers)
        if first_entry:
            log.add(first_entry)
        seed_as_trainer(settings)
        with signals.held():  # until what was learnt is on the disk
            with while_training or contextlib.nullcontext():
                history = train(
                    self.model,
                    batches["train"],
                    settings,
                    batch_loss=batch_loss,
                    eval_batches=batches.get("validation"),
                    eval_batch_loss=eval_batch_loss,
                    score=score,
                    checkpoints=Checkpoints(settings, self.tokenizer, self.claim),
                    log=log,
                )
            write_training_results(settings, history, num_samples)
            save_model(self.model, self.tokenizer, output_dir)

    def write_scores(self, split: str, metrics: dict[str, float], num_samples: int) -> None:
        """Write the scores of a split, last of all: where they are, its other results are too."""
        prefix = PREFIXES[split]
        metrics = {**metrics, f"{prefix}_samples": num_samples}
        if split == "validation":
            trained = read_metrics(self.output_dir)
            metrics |= {name: value for name, value in trained.items() if name == "epoch"}
        write_metrics(self.output_dir, prefix, metrics)

    def close(self, what_next: str = "") -> None:
        """Say where everything is; write the model card, and upload the run if it was asked for."""
        if self.has_work:
            print(f"\nmodel and results: {self.output_dir}/")
            print(what_next, end="\n" if what_next else "")
        write_card(self.settings, self.repository)
        if self.repository:
            upload(self.settings, self.repository)

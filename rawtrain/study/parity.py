"""The loop beside transformers' Trainer: `python -m rawtrain.study.parity`.

Each case trains one small random model twice on the same rows, with `Trainer` and with
`rawtrain.train` under --match_trainer, and compares every logged number and every weight. The
program exits with 0 if all bits are equal and with 1 if not. `--quick` runs half of the cases.

With your own model and data: `python -m rawtrain.study.parity --task ner --model_name_or_path DIR
--train_file FILE`, and any other flag of the job.

What Trainer does in which of its functions, and where the same happens here, is in TRAINER.md.
"""

import argparse
import importlib.util
import sys
import tempfile
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import transformers
from transformers import PreTrainedModel, TrainingArguments

from rawtrain import mlm, ner
from rawtrain.batches import EvaluationBatches, TrainingBatches
from rawtrain.cli.command import reported_mistakes, settings_from
from rawtrain.collate.mask import DataCollatorForLanguageModeling
from rawtrain.collate.pad import DataCollatorForTokenClassification
from rawtrain.config import MlmSettings, NerSettings, TrainingSettings
from rawtrain.data.columns import collate_rows
from rawtrain.data.sources import read_tagged
from rawtrain.job import decide_work
from rawtrain.loop import train
from rawtrain.study.tiny import tiny_model, tiny_rows, tiny_tokenizer

SETTINGS = {"ner": NerSettings, "mlm": MlmSettings}
HEADER = "     loss grad norm      rate eval loss   weights steps  bits   case"


@dataclass(frozen=True)
class Case:
    """One comparison: a task, an architecture, and settings with Trainer's names."""

    task: str
    architecture: str = "bert"
    settings: dict[str, Any] = field(default_factory=dict)
    special: Literal["", "model_init", "whole words", "all tokens labelled"] = ""

    @property
    def name(self) -> str:
        settings = [f"{name} {value}" for name, value in self.settings.items()]
        return ", ".join(filter(None, [self.task, self.architecture, *settings, self.special]))


# Every pair of values of: task, accumulation, clipping, warm-up or schedule, evaluation, precision.
# 26 rows in batches of 4 are 7 batches: the last is short, and 3 micro-batches a step leave one.
GAS3: dict[str, Any] = {"gradient_accumulation_steps": 3}
CLIP, OFF = {"max_grad_norm": 0.1}, {"max_grad_norm": 0.0}
WARM, COSINE = {"warmup_steps": 3}, {"lr_scheduler_type": "cosine"}
EVERY3, EPOCH = {"eval_strategy": "steps", "eval_steps": 3}, {"eval_strategy": "epoch"}
BF16 = {"bf16": True}
CASES = [
    Case("ner"),
    Case("mlm"),
    Case("ner", settings=GAS3 | CLIP | WARM | EVERY3 | BF16),
    Case("mlm", settings=GAS3 | OFF | COSINE | EPOCH),
    Case("ner", settings=OFF | COSINE | EVERY3),
    Case("ner", settings=OFF | EPOCH),
    Case("mlm", settings=CLIP | WARM | EPOCH | BF16),
    Case("mlm", settings=GAS3 | EVERY3 | {"dataloader_num_workers": 2}),
    Case("ner", "modernbert", settings=GAS3 | CLIP | EPOCH),
    Case("mlm", "modernbert", settings=GAS3 | WARM | EPOCH),
    Case("ner", settings=GAS3 | OFF | WARM | BF16),
    Case("mlm", settings=CLIP | COSINE | BF16),
    Case("ner", settings=EPOCH | {"dataloader_num_workers": 2, "data_seed": 5}),
    Case("ner", settings={"num_train_epochs": 1.3, "seed": 7}),
    Case("mlm", settings={"max_steps": 10, "data_seed": 3}),
    Case("ner", settings=EVERY3, special="model_init"),
    Case("mlm", settings=GAS3, special="model_init"),
    Case("ner", settings=GAS3, special="all tokens labelled"),
    Case("mlm", settings=EPOCH, special="whole words"),
    Case("ner", "xlm-roberta", settings=GAS3 | WARM),
    Case("mlm", "xlm-roberta", settings=BF16 | EVERY3),
    Case("ner", "distilbert", settings=BF16 | COSINE),
    Case("mlm", "distilbert", settings=GAS3 | CLIP),
]


class Difference(NamedTuple):
    """The largest |difference| between two runs in each column of the table; None: not logged."""

    numbers: dict[str, float | None]
    num_steps: int

    @property
    def equal(self) -> bool:
        """Whether all bits are."""
        return not any(self.numbers.values())


def compare(case: Case, use_cpu: bool = True) -> Difference:
    """Run a case with Trainer and with the loop."""
    settings = SETTINGS[case.task](
        use_cpu=use_cpu, disable_tqdm=True, save_strategy="no", match_trainer=True, logging_steps=1,
        per_device_train_batch_size=4, per_device_eval_batch_size=4, learning_rate=1e-3,
        **{"weight_decay": 0.01, "num_train_epochs": 2.0} | case.settings,
    )  # fmt: skip
    whole_words = case.special == "whole words"
    unlabelled = 0.0 if case.special == "all tokens labelled" else 0.4
    columns, eval_columns = (
        tiny_rows(case.task, num_rows, seed, unlabelled, whole_words)
        for num_rows, seed in ((26, 0), (10, 1))
    )
    make_model = lambda: tiny_model(case.task, case.architecture)  # noqa: E731
    collator = make_collator(case.task, tiny_tokenizer(), whole_words)
    init = case.special == "model_init"
    return run_both(settings, make_model, collator, columns, eval_columns, init)


def run_both(settings, make_model, collator, columns, eval_columns, init=False) -> Difference:
    """The difference between Trainer's run and the loop's on the same rows.

    columns: what to train on, and to evaluate on. init: the model comes from Trainer's model_init.
    """
    if settings.eval_strategy in (None, "no"):
        eval_columns = None
    torch.manual_seed(0)
    model = make_model if init else make_model()
    trainer = make_trainer(settings, model, collator, columns, eval_columns)
    trainer.train()

    torch.manual_seed(0)
    model = make_model()
    transformers.set_seed(settings.seed)  # as Trainer(...) does
    if init:
        model = make_model()

    def batches(kind, columns):
        return kind(len(columns), settings, partial(collate_rows, collator, columns))

    eval_batches = eval_columns and batches(EvaluationBatches, eval_columns)
    history = train(model, batches(TrainingBatches, columns), settings, eval_batches=eval_batches)

    def largest(name):
        pairs = zip(trainer.state.log_history, history, strict=True)
        pairs = [(theirs.get(name), ours.get(name)) for theirs, ours in pairs]
        assert all((a is None) == (b is None) for a, b in pairs), f"{name} is logged at other steps"
        return max((abs(a - b) for a, b in pairs if a is not None), default=None)

    numbers = {name: largest(name) for name in ("loss", "grad_norm", "learning_rate", "eval_loss")}
    numbers["loss"] = max(numbers["loss"], largest("train_loss"))
    numbers["weights"] = largest_difference(trainer.model, model)
    return Difference(numbers, num_steps=history[-1]["step"])


def make_trainer(settings, model, collator, columns, eval_columns=None) -> transformers.Trainer:
    """A quiet Trainer of the same settings. model: a model, or a function that makes one."""

    def features(columns):  # as a data set hands them to the collator
        rows = map(columns.row, range(len(columns)))
        return [{name: values.tolist() for name, values in row.items()} for row in rows]

    trainer = transformers.Trainer(
        # Trainer makes the folder, and writes nothing into it
        args=training_arguments(settings, tempfile.gettempdir()),
        data_collator=collator,
        train_dataset=features(columns),
        eval_dataset=eval_columns and features(eval_columns),
        **{"model" if isinstance(model, PreTrainedModel) else "model_init": model},
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def training_arguments(settings: TrainingSettings, output_dir: str) -> TrainingArguments:
    """The settings that are TrainingArguments, by name; those left at None at their default.

    The collator is given all columns: one for whole words needs those that the model does not take.
    """
    names = {argument.name for argument in fields(TrainingArguments)}
    names -= {"output_dir", "gradient_checkpointing"}  # the latter has a new name
    values = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    given = {name: value for name, value in values.items() if value is not None}
    return TrainingArguments(output_dir, remove_unused_columns=False, **given)


def largest_difference(one, other) -> float:
    """The largest |difference| of a weight between two models."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


def make_collator(task, tokenizer, whole_words=False):
    if task == "ner":
        return DataCollatorForTokenClassification(tokenizer)
    whole = {"whole_word_mask": True, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    return DataCollatorForLanguageModeling(tokenizer, **whole if whole_words else {})


def compare_own(task: str, flags: list[str]) -> Difference:
    """The difference on the model and data that the job's own flags name."""
    with tempfile.TemporaryDirectory() as nothing:
        main_flags = ["--match_trainer", "--use_cpu", "--disable_tqdm", "--output_dir", nothing]
        settings = settings_from(SETTINGS[task], [*flags, *main_flags])
    settings = replace(settings, save_strategy="no", logging_steps=1)
    if task == "ner":
        corpus = read_tagged(settings)
        settings = decide_work(settings, corpus.splits)
        tokenizer = ner.make_tokenizer(settings, embedded=None)
        model, label_names = ner.make_model(settings, corpus, tokenizer)
        splits = ner.first_samples(settings, corpus.splits)
        encoded = ner.encode(settings, splits, tokenizer, model, label_names)
        columns = {name: rows.columns.only("input_ids", "labels") for name, rows in encoded.items()}
        make_model = lambda: ner.make_model(settings, corpus, tokenizer)[0]  # noqa: E731
    else:
        splits = mlm.read_splits(settings)
        settings = decide_work(settings, splits)
        tokenizer = mlm.make_tokenizer(settings, splits)
        encoded = mlm.encode(settings, splits, tokenizer, mlm.make_model(settings, tokenizer))
        columns = {name: rows.columns.only("input_ids") for name, rows in encoded.items()}
        make_model = partial(mlm.make_model, settings, tokenizer)
    if settings.eval_strategy is None:  # the job's default, which is not Trainer's
        settings = replace(settings, eval_strategy="epoch" if "validation" in columns else "no")
    collator = make_collator(task, tokenizer)
    return run_both(settings, make_model, collator, columns["train"], columns.get("validation"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rawtrain.study.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="half of the cases, and no more")
    parser.add_argument("--task", choices=SETTINGS, help="compare on a model and data of your own")
    options, flags = parser.parse_known_args()
    if flags and not options.task:
        parser.error(f"{flags[0]} belongs to a job; add --task ner or --task mlm")
    if importlib.util.find_spec("accelerate") is None:
        sys.exit("Trainer needs accelerate: pip install accelerate")
    transformers.logging.set_verbosity_error()
    print(HEADER)
    if options.task:
        with reported_mistakes():
            all_hold = [show(f"{options.task} {' '.join(flags)}", compare_own(options.task, flags))]
    else:
        torch.set_num_threads(1)  # the models are tiny: a second thread only waits
        cases = CASES[::2] if options.quick else CASES
        all_hold = [show(case.name, compare(case)) for case in cases]
        if not options.quick:
            all_hold += show_differences()
    num_wrong = all_hold.count(False)
    print(f"{num_wrong} of {len(all_hold)} DIFFER" if num_wrong else f"all {len(all_hold)} hold")
    sys.exit(1 if num_wrong else 0)


def show(name: str, found: Difference) -> bool:
    """Print a line of the table; whether all bits are equal."""
    numbers = found.numbers.values()
    cells = [f"{'-' if n is None else f'{n:.1e}' if n else '0':>9}" for n in numbers]
    verdict = "equal" if found.equal else "DIFFER"
    print(f"{' '.join(cells)} {found.num_steps:>5}  {verdict:<6} {name}", flush=True)
    return found.equal


def show_differences() -> list[bool]:
    """Print what the loop does otherwise than Trainer; whether each holds."""
    from rawtrain.study.differences import DIFFERENCES  # which builds on this module

    print("\nWithout --match_trainer the loop does what is right instead:")
    all_hold = []
    for compared in DIFFERENCES:
        shown = compared()
        print(f"\n{shown.sentence}\n  Trainer: {shown.trainer}\n  ours:    {shown.ours}")
        all_hold.append(shown.holds)
    print()
    return all_hold


if __name__ == "__main__":
    main()

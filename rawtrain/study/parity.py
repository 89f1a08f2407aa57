"""The loop beside transformers' Trainer: `python -m rawtrain.study.parity`.

Each case trains one small random model twice on the same rows, with `Trainer` and with
`rawtrain.train` under --match_trainer, and compares every logged number and every weight. The
program exits with 0 if all bits are equal and with 1 if not. `--quick` runs half of the cases.

A model and data of one's own: `python -m rawtrain.study.parity --task ner --model_name_or_path DIR
--train_file FILE`, with any flag of the job, compares on these instead.

What Trainer does in which of its functions, and where the same happens here, is in TRAINER.md.
"""

import argparse
import importlib.util
import sys
import tempfile
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
import transformers
from transformers import TrainingArguments

from rawtrain import mlm, ner
from rawtrain.batches import EvaluationBatches, TrainingBatches
from rawtrain.cli.command import reported_mistakes, settings_from
from rawtrain.collate.mask import DataCollatorForLanguageModeling
from rawtrain.collate.pad import DataCollatorForTokenClassification
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.data.columns import Columns
from rawtrain.data.small_bert import train_small_tokenizer
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.job import decide_work
from rawtrain.loop import train

JOBS = {
    "ner": (NerSettings, transformers.AutoModelForTokenClassification),
    "mlm": (MlmSettings, transformers.AutoModelForMaskedLM),
}
TEXT = """the small model reads a few words and learns what it can from them in a moment
    before another one comes with more of these words to read again""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Case:
    """One comparison: a task, an architecture, and settings with Trainer's names."""

    task: str
    architecture: str = "bert"
    settings: dict = field(default_factory=dict)
    init: bool = False  # the model comes from Trainer's model_init
    whole_words: bool = False
    label_all_tokens: bool = False

    @property
    def name(self):
        parts = [self.task, self.architecture]
        parts += [f"{name} {value}" for name, value in self.settings.items()]
        parts += [
            name for name in ("init", "whole_words", "label_all_tokens") if getattr(self, name)
        ]
        return ", ".join(parts)


# Every pair of values of: task, accumulation, clipping, warm-up or schedule, evaluation, precision.
# 26 rows in batches of 4 are 7 batches: the last is short, and 3 micro-batches a step leave one.
GAS3 = {"gradient_accumulation_steps": 3}
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
    Case("ner", init=True, settings=EVERY3),
    Case("mlm", init=True, settings=GAS3),
    Case("ner", label_all_tokens=True, settings=GAS3),
    Case("mlm", whole_words=True, settings=EPOCH),
    Case("ner", "xlm-roberta", settings=GAS3 | WARM),
    Case("mlm", "xlm-roberta", settings=BF16 | EVERY3),
    Case("ner", "distilbert", settings=BF16 | COSINE),
    Case("mlm", "distilbert", settings=GAS3 | CLIP),
]


HEADER = (
    f"{'loss':>9}{'grad norm':>10}{'rate':>10}{'eval loss':>10}{'weights':>10} "
    f"{'steps':>5}  {'bits':<6} case"
)


@dataclass(frozen=True)
class Difference:
    """The largest |difference| of each kind between two runs, and whether all bits are equal."""

    num_steps: int
    loss: float
    grad_norm: float
    learning_rate: float
    eval_loss: float | None  # None: nothing was evaluated
    weights: float

    @property
    def equal(self):
        return not any(
            (self.loss, self.grad_norm, self.learning_rate, self.eval_loss, self.weights)
        )


def compare(case, use_cpu=True):
    """Run a case with Trainer and with the loop."""
    tokenizer, columns, eval_columns = small_data(case)
    settings_class, _ = JOBS[case.task]
    values = {"num_train_epochs": 2.0, "logging_steps": 1, "per_device_train_batch_size": 4}
    values |= {"per_device_eval_batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.01}
    settings = settings_class(
        use_cpu=use_cpu, disable_tqdm=True, save_strategy="no", match_trainer=True,
        **values | case.settings,
    )  # fmt: skip
    collator = make_collator(case, tokenizer)
    make = lambda: small_model(case, tokenizer)  # noqa: E731
    return run_both(settings, make, collator, columns, eval_columns, case.init, case.whole_words)


def run_both(settings, make_model, collator, columns, eval_columns, init=False, keep_columns=False):
    """The difference between Trainer's run and the loop's."""
    evaluates = settings.eval_strategy not in (None, "no")
    torch.manual_seed(0)
    theirs = run_trainer(
        settings,
        make_model,
        collator,
        columns,
        eval_columns if evaluates else None,
        init,
        keep_columns,
    )
    torch.manual_seed(0)
    model = make_model()
    transformers.set_seed(settings.seed)  # as Trainer(...) does
    if init:
        model = make_model()

    def collate(rows, epoch=0):
        return collator([columns_row(columns, row) for row in rows])

    def collate_eval(rows, epoch):
        return collator([columns_row(eval_columns, row) for row in rows])

    history = train(
        model,
        TrainingBatches(len(columns), settings, collate),
        settings,
        eval_batches=EvaluationBatches(len(eval_columns), settings, collate_eval)
        if evaluates
        else None,
    )
    return difference(theirs.state.log_history, history, theirs.model, model)


def run_trainer(settings, make_model, collator, columns, eval_columns, init, keep_columns):
    """Trainer's run of the same settings."""
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = transformers.Trainer(
            args=training_arguments(settings, output_dir, keep_columns),
            data_collator=collator,
            train_dataset=[columns_row(columns, row) for row in range(len(columns))],
            eval_dataset=eval_columns
            and [columns_row(eval_columns, row) for row in range(len(eval_columns))],
            **{"model_init" if init else "model": make_model if init else make_model()},
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return trainer


def training_arguments(settings, output_dir, keep_columns=False):
    """The settings that are TrainingArguments, by name; those left at None at their default."""
    names = {argument.name for argument in fields(TrainingArguments)}
    names -= {"output_dir", "gradient_checkpointing"}  # the latter has a new name
    values = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    given = {name: value for name, value in values.items() if value is not None}
    return TrainingArguments(output_dir, remove_unused_columns=not keep_columns, **given)


def difference(their_history, our_history, their_model, our_model):
    def largest(name):
        pairs = [
            (theirs.get(name), ours.get(name))
            for theirs, ours in zip(their_history, our_history, strict=True)
        ]
        assert all((a is None) == (b is None) for a, b in pairs), f"{name} is logged at other steps"
        return max((abs(a - b) for a, b in pairs if a is not None), default=None)

    weights = [
        (theirs.double() - ours.double()).abs().max().item() if not torch.equal(theirs, ours) else 0
        for theirs, ours in zip(their_model.parameters(), our_model.parameters(), strict=True)
    ]
    return Difference(
        num_steps=our_history[-1]["step"],
        loss=max(largest("loss"), largest("train_loss")),
        grad_norm=largest("grad_norm"),
        learning_rate=largest("learning_rate"),
        eval_loss=largest("eval_loss"),
        weights=max(weights),
    )


def columns_row(columns, number):
    """A feature as lists, the form in which a data set hands it to Trainer's collator."""
    return {name: values.tolist() for name, values in columns.row(number).items()}


def small_data(case):
    """A tokenizer, 26 training rows and 10 evaluation rows of random words."""
    tokenizer = train_small_tokenizer([" ".join(TEXT)] * 3, vocab_size=60, model_max_length=40)
    return tokenizer, random_rows(case, tokenizer, 26, 0), random_rows(case, tokenizer, 10, 1)


def random_rows(case, tokenizer, num_rows, seed):
    texts = random_texts(num_rows, seed)
    # transformers' collator cannot pad the offsets that its whole-word form needs
    padding = "max_length" if case.whole_words else False
    encoded = tokenizer(texts, return_offsets_mapping=True, truncation=True, padding=padding)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    values = {"input_ids": np.concatenate(encoded["input_ids"])}
    if case.task == "ner":
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 5, sum(lengths))
        share = 0.0 if case.label_all_tokens else 0.4
        labels[rng.random(len(labels)) < share] = -100
        values["labels"] = labels
    if case.whole_words:
        values["offset_mapping"] = np.concatenate(encoded["offset_mapping"])
        values["attention_mask"] = np.concatenate(encoded["attention_mask"])
    return Columns(values, np.concatenate([[0], np.cumsum(lengths)]))


def random_texts(num_rows, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(TEXT, rng.integers(2, 12))) for _ in range(num_rows)]


def make_collator(case, tokenizer):
    if case.task == "ner":
        return DataCollatorForTokenClassification(tokenizer)
    if case.whole_words:
        return DataCollatorForLanguageModeling(
            tokenizer, whole_word_mask=True, mask_replace_prob=1.0, random_replace_prob=0.0
        )
    return DataCollatorForLanguageModeling(tokenizer)


def small_model(case, tokenizer, dropout=0.1):
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if case.architecture == "distilbert":
        sizes |= {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}
    else:
        sizes |= {"hidden_size": 16, "intermediate_size": 24}
        sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if case.architecture == "modernbert":
        sizes |= {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = transformers.AutoConfig.for_model(case.architecture, **sizes, num_labels=5)
    return JOBS[case.task][1].from_config(config)


def compare_own(task, flags):
    """The difference on the model and data that the job's own flags name."""
    settings_class, _ = JOBS[task]
    with tempfile.TemporaryDirectory() as nothing:
        main_flags = ["--match_trainer", "--use_cpu", "--disable_tqdm", "true"]
        settings = settings_from(settings_class, [*flags, *main_flags, "--output_dir", nothing])
    settings = replace(settings, save_strategy="no", logging_steps=1)
    if task == "ner":
        corpus = read_tagged(settings)
        settings = decide_work(settings, corpus.splits)
        tokenizer = ner.make_tokenizer(settings, embedded=None)
        model, label_names = ner.make_model(settings, corpus, tokenizer)
        splits = ner.first_samples(settings, corpus.splits)
        encoded = ner.encode(settings, splits, tokenizer, model, label_names)
        columns = {name: rows.columns for name, rows in encoded.items()}
        make_model = lambda: ner.make_model(settings, corpus, tokenizer)[0]  # noqa: E731
    else:
        splits = mlm.with_validation(read_documents(settings), settings)
        settings = decide_work(settings, splits)
        tokenizer = mlm.make_tokenizer(settings, splits)
        encoded = mlm.encode(settings, splits, tokenizer, mlm.make_model(settings, tokenizer))
        columns = {name: rows.columns.only("input_ids") for name, rows in encoded.items()}
        make_model = lambda: mlm.make_model(settings, tokenizer)  # noqa: E731
    if settings.eval_strategy is None:  # the job's default, which is not Trainer's
        settings = replace(settings, eval_strategy="epoch" if "validation" in columns else "no")
    collator = make_collator(Case(task), tokenizer)
    return run_both(settings, make_model, collator, columns["train"], columns.get("validation"))


def main():
    from rawtrain.study import differences  # which builds on this module

    parser = argparse.ArgumentParser(
        prog="python -m rawtrain.study.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="half of the cases, and no more")
    parser.add_argument("--task", choices=JOBS, help="compare on a model and data of your own")
    parser.add_argument("--model", help="short for --model_name_or_path")
    options, flags = parser.parse_known_args()
    if options.model:
        flags += ["--model_name_or_path", options.model]
    if flags and not options.task:
        parser.error(f"{flags[0]} belongs to a job; add --task ner or --task mlm")
    if importlib.util.find_spec("accelerate") is None:
        sys.exit("Trainer needs accelerate: pip install accelerate")
    transformers.logging.set_verbosity_error()
    print(HEADER)
    if options.task:
        with reported_mistakes():
            found = compare_own(options.task, flags)
        report_and_exit([show(f"{options.task} {' '.join(flags)}", found)])
    torch.set_num_threads(1)  # the models are tiny: a second thread only waits
    cases = CASES[::2] if options.quick else CASES
    all_equal = [show(case.name, compare(case)) for case in cases]
    if options.quick:
        report_and_exit(all_equal)
    print("\nWithout --match_trainer the loop does what is right instead:")
    for shown in differences.all_differences():
        print(
            f"\n{shown.sentence}\n  Trainer: {shown.trainer}\n  ours:    {shown.ours}", flush=True
        )
        all_equal.append(shown.holds)
    print()
    report_and_exit(all_equal)


def show(name, found):
    """Print a line of the table; whether all bits are equal."""
    numbers = [found.loss, found.grad_norm, found.learning_rate, found.eval_loss, found.weights]
    cells = [f"{'-' if n is None else f'{n:.1e}' if n else '0':>9}" for n in numbers]
    verdict = "equal" if found.equal else "DIFFER"
    print(f"{' '.join(cells)} {found.num_steps:>5}  {verdict:<6} {name}", flush=True)
    return found.equal


def report_and_exit(all_equal):
    """The verdict in one line and in the exit code."""
    num_wrong = all_equal.count(False)
    print(f"{num_wrong} of {len(all_equal)} DIFFER" if num_wrong else f"all {len(all_equal)} hold")
    sys.exit(1 if num_wrong else 0)


if __name__ == "__main__":
    main()

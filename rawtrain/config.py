"""The settings of both jobs, and what is allowed in them.

A setting that means what a field of `transformers.TrainingArguments` 5.23 or an argument of its
run_ner.py / run_mlm.py means has that name and, where its help says nothing else, that default.
`command.py` makes these dataclasses from a command line or a settings file.
"""

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from rawtrain.data.files import raise_problems

LEARNING_RATE_SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
)


def setting(default, help_text, **options):
    """A field with the options of its flag, see `argparse.ArgumentParser.add_argument`."""
    return dataclasses.field(default=default, metadata={"help": help_text, **options})


@dataclass(frozen=True)
class ModelSettings:
    _argument_group_name: ClassVar[str] = "model"

    model_name_or_path: str | None = setting(None, "model to fine-tune: a folder or a hub name")
    config_name: str | None = setting(
        None, "configuration of a new model (random weights), or of the model if it needs another"
    )
    tokenizer_name: str | None = setting(None, "tokenizer, if not the model's own")
    model_revision: str = setting("main", "branch, tag or commit of the model on the hub")
    trust_remote_code: bool = setting(
        False, "run Python code that comes with the model; never asked for on the terminal"
    )


@dataclass(frozen=True)
class DataSettings:
    _argument_group_name: ClassVar[str] = (
        "data (without any: text that comes with Python and torch)"
    )

    dataset_name: str | None = setting(None, "data set on the hub, or a folder of one")
    dataset_config_name: str | None = setting(
        None, "configuration of the data set, such as PAN-X.de"
    )
    train_file: str | None = setting(None, "training data")
    validation_file: str | None = setting(None, "validation data")
    text_column_name: str | None = setting(None, "column of the words or of the text")
    max_seq_length: int | None = setting(
        None, "longest row in sub-words, special tokens counted (default: what the model can take)"
    )
    max_train_samples: int | None = setting(None, "train on the first n only")
    max_eval_samples: int | None = setting(None, "evaluate on the first n only")


@dataclass(frozen=True)
class NerDataSettings(DataSettings):
    test_file: str | None = setting(None, "test data, tagged by the trained model")
    label_column_name: str | None = setting(None, "column of the tags")
    sentence_column_name: str | None = setting(
        None, "column of the sentence id (CSV: a row a word)"
    )
    token_column: int = setting(
        0, "column of the word in CoNLL files, from 0; negative: from the end"
    )
    tag_column: int = setting(
        -1, "column of the tag in CoNLL files, from 0; negative: from the end"
    )
    max_predict_samples: int | None = setting(None, "predict the first n only")
    task_name: Literal["ner", "chunk", "pos"] = setting(
        "ner", "ner and chunk: spans in IOB tags; pos: one tag a word, nothing converted"
    )
    label_all_tokens: bool = setting(
        False, "train on every sub-word of a word, not on the first alone; the first is scored"
    )
    return_entity_level_metrics: bool = setting(
        False, "write the scores per type to the JSON files"
    )
    stride: int | None = setting(
        None,
        "overlap, in sub-words, of the windows over a sentence longer than max_seq_length "
        "(default: a quarter of the window; 0: cut it there, as run_ner.py does)",
    )


@dataclass(frozen=True)
class MlmDataSettings(DataSettings):
    validation_split_percentage: int = setting(
        5, "percent of the training documents, the first ones, that validate if nothing else does"
    )
    line_by_line: bool = setting(
        False, "a row is a document cut at max_seq_length; else blocks of it over all documents"
    )
    mlm_probability: float = setting(0.15, "share of the tokens to predict")
    mask_replace_prob: float = setting(0.8, "share of these that the mask token replaces")
    random_replace_prob: float = setting(0.1, "share of these that a random token replaces")
    whole_word_mask: bool = setting(False, "choose whole words instead of single sub-words")


@dataclass(frozen=True)
class TrainingSettings:
    _argument_group_name: ClassVar[str] = "training"

    output_dir: str = setting("", "where everything is written")
    overwrite_output_dir: bool = setting(False, "replace what an earlier run wrote there")
    do_train: bool = setting(
        False, "train (default without any of the three: do all that there is data for)"
    )
    do_eval: bool = setting(False, "evaluate on the validation data")
    do_predict: bool = setting(False, "predict the test data (ner)")
    per_device_train_batch_size: int = setting(8, "rows per micro-batch")
    per_device_eval_batch_size: int = setting(8, "rows per batch in evaluation")
    gradient_accumulation_steps: int = setting(1, "micro-batches per step")
    gradient_checkpointing: bool = setting(False, "recompute activations: less memory, more time")
    num_train_epochs: float = setting(3.0, "passes over the data; 1.3 ends within the second")
    max_steps: int = setting(-1, "steps; above 0 it takes the place of num_train_epochs")
    learning_rate: float = setting(5e-5, "highest learning rate")
    weight_decay: float = setting(0.0, "AdamW: decay of all weights but biases and normalisation")
    adam_beta1: float = setting(0.9, "AdamW: decay of the running mean of gradients")
    adam_beta2: float = setting(0.999, "AdamW: decay of the running mean of their squares")
    adam_epsilon: float = setting(1e-8, "AdamW: added to the divisor")
    max_grad_norm: float = setting(1.0, "clip the gradient norm to this; 0: do not clip")
    lr_scheduler_type: Literal[LEARNING_RATE_SCHEDULES] = setting(
        "linear",
        f"learning-rate schedule: {', '.join(LEARNING_RATE_SCHEDULES)}",
        metavar="name",
    )
    lr_scheduler_kwargs: dict | str | None = setting(
        None, "more arguments for the schedule, a JSON object"
    )
    warmup_steps: float = setting(
        0, "steps to the highest learning rate; below 1: share of the run"
    )
    seed: int = setting(42, "seed of everything random")
    data_seed: int | None = setting(None, "seed of the order of the rows (default: seed)")
    bf16: bool = setting(False, "autocast to bfloat16")
    fp16: bool = setting(False, "autocast to float16 with a gradient scaler (CUDA only)")
    use_cpu: bool = setting(False, "stay on the CPU although there is a CUDA device")
    logging_strategy: Literal["no", "steps", "epoch"] = setting("steps", "when to log the loss")
    logging_steps: float | None = setting(
        None,
        "steps between log lines; below 1: share of the run (default: 500, or at least 20 lines)",
    )
    eval_strategy: Literal["no", "steps", "epoch"] | None = setting(
        None, "when to evaluate (default: epoch, if there is validation data)"
    )
    eval_steps: float | None = setting(
        None, "steps between evaluations; below 1: share of the run (default: logging_steps)"
    )
    save_strategy: Literal["no", "steps", "epoch", "best"] = setting(
        "steps", "when to keep the model as checkpoint-<step> on the way"
    )
    save_steps: float = setting(500, "steps between checkpoints; below 1: share of the run")
    save_total_limit: int | None = setting(
        None, "keep the last n checkpoints, and the best one (default: all)"
    )
    load_best_model_at_end: bool = setting(
        False, "end with the model of the best evaluation instead of the last"
    )
    metric_for_best_model: str | None = setting(
        None, "metric that decides which evaluation is best (default: loss)"
    )
    greater_is_better: bool | None = setting(
        None, "whether more of it is better (default: unless loss or perplexity)"
    )
    dataloader_num_workers: int = setting(0, "processes that prepare batches; 0: the main one")
    disable_tqdm: bool | None = setting(None, "no progress bar (default: only on a terminal)")
    log_level: Literal["debug", "info", "warning", "error", "critical", "passive"] = setting(
        "passive", "what is said on standard error; passive means info"
    )

    @property
    def best_metric_key(self) -> str:
        """The key of the log entries that decides which evaluation is best."""
        name = self.metric_for_best_model or "loss"
        return name if name.startswith("eval_") else f"eval_{name}"

    @property
    def best_is_greater(self) -> bool:
        if self.greater_is_better is not None:
            return self.greater_is_better
        return not self.best_metric_key.endswith(("loss", "perplexity"))


@dataclass(frozen=True)
class NerSettings(TrainingSettings, NerDataSettings, ModelSettings):
    """Fine-tune an encoder for named-entity recognition (token classification)."""

    command: ClassVar[str] = "python -m rawtrain.ner"
    groups: ClassVar[tuple] = (ModelSettings, NerDataSettings, TrainingSettings)
    metrics: ClassVar[tuple] = ("loss", "f1", "precision", "recall", "accuracy")
    embedded_recipe: ClassVar[dict] = {"num_train_epochs": 5.0, "learning_rate": 5e-4}

    output_dir: str = setting("ner_output", "where everything is written")


@dataclass(frozen=True)
class MlmSettings(TrainingSettings, MlmDataSettings, ModelSettings):
    """Adapt an encoder to a domain by masked-language modelling."""

    command: ClassVar[str] = "python -m rawtrain.mlm"
    groups: ClassVar[tuple] = (ModelSettings, MlmDataSettings, TrainingSettings)
    metrics: ClassVar[tuple] = ("loss", "perplexity", "accuracy")
    embedded_recipe: ClassVar[dict] = {"num_train_epochs": 5.0, "learning_rate": 5e-4}

    output_dir: str = setting("mlm_output", "where everything is written")


def check(settings):
    """Raise one ValueError that names every value out of range and every contradiction."""
    raise_problems(
        [
            *_out_of_range(settings),
            *_contradictions(settings),
            *_model_problems(settings),
            *_metric_problems(settings),
            *_job_contradictions(settings),
            *_file_problems(settings),
            *_output_problems(settings),
        ]
    )


def uses_own_data(settings) -> bool:
    """Whether the command names any data; without, the embedded corpus is used."""
    return any((settings.dataset_name, settings.train_file, settings.validation_file)) or bool(
        getattr(settings, "test_file", None)
    )


AT_LEAST_1 = ("a whole number from 1", lambda value: value >= 1)
AT_LEAST_0 = ("0 or more", lambda value: value >= 0)
PROBABILITY = ("from 0 to 1", lambda value: 0 <= value <= 1)
BELOW_1 = ("from 0 to below 1", lambda value: 0 <= value < 1)
SEED = ("a whole number from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)
POSITIVE = ("above 0", lambda value: value > 0)
STEPS = (
    "above 0: a share of the run below 1, else whole steps",
    lambda value: value > 0 and (value < 1 or value == int(value)),
)
ALLOWED = {
    "max_seq_length": ("a whole number from 3", lambda value: value >= 3),
    "max_train_samples": AT_LEAST_1,
    "max_eval_samples": AT_LEAST_1,
    "max_predict_samples": AT_LEAST_1,
    "stride": AT_LEAST_0,
    "validation_split_percentage": ("from 1 to 99", lambda value: 1 <= value <= 99),
    "mlm_probability": ("above 0 and up to 1", lambda value: 0 < value <= 1),
    "mask_replace_prob": PROBABILITY,
    "random_replace_prob": PROBABILITY,
    "per_device_train_batch_size": AT_LEAST_1,
    "per_device_eval_batch_size": AT_LEAST_1,
    "gradient_accumulation_steps": AT_LEAST_1,
    "num_train_epochs": POSITIVE,
    "max_steps": ("-1 (off) or from 1", lambda value: value == -1 or value >= 1),
    "learning_rate": POSITIVE,
    "weight_decay": AT_LEAST_0,
    "adam_beta1": BELOW_1,
    "adam_beta2": BELOW_1,
    "adam_epsilon": POSITIVE,
    "max_grad_norm": AT_LEAST_0,
    "warmup_steps": (
        "0 or more: a share of the run below 1, else whole steps",
        lambda value: value >= 0 and (value < 1 or value == int(value)),
    ),
    "seed": SEED,
    "data_seed": SEED,
    "logging_steps": STEPS,
    "eval_steps": STEPS,
    "save_steps": STEPS,
    "save_total_limit": AT_LEAST_1,
    "dataloader_num_workers": AT_LEAST_0,
}


def _out_of_range(settings):
    for name, (allowed, is_allowed) in ALLOWED.items():
        value = getattr(settings, name, None)
        # the first comparison is False for NaN and, unlike math.isfinite, takes any integer
        if value is not None and not (abs(value) < math.inf and is_allowed(value)):
            yield f"--{name} is {value}; allowed: {allowed}"
    try:
        json.dumps(settings.lr_scheduler_kwargs, allow_nan=False)
    except (TypeError, ValueError):
        yield (
            f"--lr_scheduler_kwargs is {settings.lr_scheduler_kwargs}; "
            f"allowed: what JSON can hold, no NaN and no infinity"
        )


def _contradictions(settings):
    if settings.bf16 and settings.fp16:
        yield "--bf16 and --fp16 are both given; choose one"
    if settings.fp16 and settings.use_cpu:
        yield "--fp16 needs a CUDA device and --use_cpu forbids it; use --bf16 on a CPU"
    if settings.dataset_name and (settings.train_file or settings.validation_file):
        yield "--dataset_name and data files are both given; choose one"
    if settings.dataset_config_name and not settings.dataset_name:
        yield "--dataset_config_name is given without --dataset_name"
    if settings.load_best_model_at_end and settings.eval_strategy == "no":
        yield "--load_best_model_at_end needs evaluations; --eval_strategy is no"
    if settings.save_strategy == "best" and settings.eval_strategy == "no":
        yield "--save_strategy best needs evaluations; --eval_strategy is no"
    if 1 <= settings.max_steps < settings.warmup_steps:
        yield (
            f"--warmup_steps {settings.warmup_steps:g} is more than "
            f"--max_steps {settings.max_steps}"
        )
    world_size = os.environ.get("WORLD_SIZE", "")
    if world_size.isdecimal() and int(world_size) > 1:
        yield f"WORLD_SIZE is {world_size}; this version runs in one process only"


def _model_problems(settings):
    if settings.model_name_or_path:
        return
    own_data = uses_own_data(settings)
    if own_data and not settings.config_name:
        yield (
            "own data but no model; name one with --model_name_or_path, "
            "or its configuration with --config_name for a new one"
        )
    if own_data and settings.config_name and not settings.tokenizer_name:
        yield "--config_name makes a new model, which needs a --tokenizer_name"
    for name in ("config_name", "tokenizer_name"):
        if not own_data and getattr(settings, name):
            yield (
                f"--{name} is given without data, and the run on embedded text makes a small "
                f"model of its own; name data, or a --model_name_or_path"
            )


def _metric_problems(settings):
    name = settings.best_metric_key.removeprefix("eval_")
    per_type = getattr(settings, "return_entity_level_metrics", False) and "_" in name
    if name not in settings.metrics and not per_type:
        yield (
            f"--metric_for_best_model is {settings.metric_for_best_model}; "
            f"allowed: {', '.join(settings.metrics)}"
        )


def _job_contradictions(settings):
    if isinstance(settings, MlmSettings):
        if settings.mask_replace_prob + settings.random_replace_prob > 1:
            yield (
                f"--mask_replace_prob {settings.mask_replace_prob} and --random_replace_prob "
                f"{settings.random_replace_prob} add up to more than 1"
            )
        if settings.do_predict:
            yield "--do_predict is for ner; mlm has nothing to predict"
    elif settings.stride and settings.max_seq_length:
        longest = max(0, settings.max_seq_length - 3)  # two special tokens and one new sub-word
        if settings.stride > longest:
            yield (
                f"--stride {settings.stride} leaves nothing new in a window of --max_seq_length "
                f"{settings.max_seq_length}; allowed: up to {longest}"
            )


def _file_problems(settings):
    for name in ("train_file", "validation_file", "test_file"):
        file = getattr(settings, name, None)
        if file is not None and not Path(file).is_file():
            what = "is a folder" if Path(file).is_dir() else "does not exist"
            yield f"--{name} {file} {what}; a data file is expected"
    needed = {"do_train": "train_file", "do_eval": "validation_file", "do_predict": "test_file"}
    if uses_own_data(settings) and not settings.dataset_name:
        for do, file in needed.items():
            splits_train = file == "validation_file" and isinstance(settings, MlmSettings)
            if getattr(settings, do) and not getattr(settings, file, None) and not splits_train:
                yield f"--{do} is given without --{file}"


def _output_problems(settings):
    output_dir = Path(settings.output_dir)
    if output_dir.is_file():
        yield f"--output_dir {output_dir} is a file; a folder is expected"
    elif output_dir.is_dir() and any(output_dir.iterdir()) and not settings.overwrite_output_dir:
        yield (
            f"--output_dir {output_dir} is not empty; choose another, or add "
            f"--overwrite_output_dir to replace what an earlier run wrote there"
        )
    sources = ("model_name_or_path", "config_name", "tokenizer_name", "dataset_name")
    for name in (*sources, "train_file", "validation_file", "test_file"):
        source = getattr(settings, name, None)
        exists = source and Path(source).exists()
        if exists and Path(source).resolve().is_relative_to(output_dir.resolve()):
            yield f"--{name} {source} lies in --output_dir {output_dir}; choose another output"

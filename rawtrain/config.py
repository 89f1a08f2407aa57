"""The settings of both jobs. cli/allowed.py says which values are allowed.

A setting with the meaning of a field of `transformers.TrainingArguments` 5.23, or of an argument of
run_ner.py or run_mlm.py, has its name and, unless its help says otherwise, its default.
cli/command.py makes these dataclasses from a command line or a settings file.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

LearningRateSchedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup",
    "inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay",
]  # fmt: skip


def setting(default: Any, help_text: str, *, is_secret: bool = False, **options: Any) -> Any:
    """A field, with the options of its flag for `argparse.ArgumentParser.add_argument`."""
    metadata = {"help": help_text, **options}
    return dataclasses.field(default=default, repr=not is_secret, metadata=metadata)


@dataclass(frozen=True)
class ModelSettings:
    title: ClassVar[str] = "model"

    model_name_or_path: str | None = setting(None, "model to fine-tune: a folder or a hub name")
    config_name: str | None = setting(None, "configuration of a new model, or in place of its own")
    tokenizer_name: str | None = setting(None, "tokenizer, if not the model's own")
    model_revision: str = setting("main", "branch, tag or commit of the model on the hub")
    trust_remote_code: bool = setting(False, "run Python code that comes with the model")


@dataclass(frozen=True)
class DataSettings:
    title: ClassVar[str] = "data (default: text that comes with Python and torch)"

    dataset_name: str | None = setting(None, "data set on the hub, or a folder of one")
    dataset_config_name: str | None = setting(None, "its configuration, such as PAN-X.de")
    train_file: str | None = setting(None, "training data")
    validation_file: str | None = setting(None, "validation data")
    text_column_name: str | None = setting(None, "column of the words or of the text")
    encoding: str = setting("utf-8", "encoding of text files, as Python names it")
    max_seq_length: int | None = setting(None, "longest row in sub-words (default: model's limit)")
    max_train_samples: int | None = setting(None, "train on the first n only")
    max_eval_samples: int | None = setting(None, "evaluate on the first n only")
    overwrite_cache: bool = setting(False, "encode the data again even if it is cached")
    preprocessing_num_workers: int | None = setting(None, "threads that encode (default: cores)")


@dataclass(frozen=True)
class NerDataSettings(DataSettings):
    test_file: str | None = setting(None, "test data")
    label_column_name: str | None = setting(None, "column of the tags")
    sentence_column_name: str | None = setting(None, "column of the sentence id (CSV)")
    token_column: int | str = setting(
        0, "CoNLL: column of the word: its name, or number from 0; negative: from the end"
    )
    tag_column: int | str = setting(
        -1, "CoNLL: column of the tag; MISC:name: what follows name= in the column MISC"
    )
    max_predict_samples: int | None = setting(None, "predict the first n only")
    task_name: Literal["ner", "chunk", "pos"] = setting(
        "ner", "pos: any tags; else entities, in IOB"
    )
    label_list: str | list[str] | None = setting(
        None, "types or tags to have labels for besides those of the data", metavar="name"
    )
    repair_tags: bool = setting(False, "read tags of a broken scheme: begin where none continues")
    label_all_tokens: bool = setting(False, "train on all sub-words of a word; score the first")
    return_entity_level_metrics: bool = setting(False, "write scores per type to the JSON files")
    stride: int | None = setting(
        None, "sub-words that windows over a long sentence share (default: a quarter; 0: truncate)"
    )


@dataclass(frozen=True)
class MlmDataSettings(DataSettings):
    validation_split_percentage: int = setting(
        5, "without validation data: percent of the training documents to validate on, the first"
    )
    line_by_line: bool = setting(False, "a row is a document, cut at max_seq_length, not a block")
    mlm_probability: float = setting(0.15, "share of the tokens to predict")
    mask_replace_prob: float = setting(0.8, "share of these that the mask token replaces")
    random_replace_prob: float = setting(0.1, "share of these that a random token replaces")
    whole_word_mask: bool = setting(False, "choose whole words instead of single sub-words")


@dataclass(frozen=True)
class TrainingSettings:
    title: ClassVar[str] = "training"
    # The settings class of a task sets all of these.
    task: ClassVar[str]  # kept with a run, so that no other task resumes it
    pipeline_tag: ClassVar[str]  # name of the task on the Hub, and for `pipeline`
    command: ClassVar[str]
    groups: ClassVar[tuple[type, ...]]  # of the flags, in the order of --help
    metrics: ClassVar[tuple[str, ...]]  # of an evaluation, for --metric_for_best_model
    embedded_recipe: ClassVar[dict[str, Any]]  # settings of the run without any data

    output_dir: str = setting("", "where everything is written")
    overwrite_output_dir: bool = setting(False, "replace a finished or another run there")
    resume_from_checkpoint: str | None = setting(
        None, "a checkpoint; true: the newest; false: from scratch (default: resume if interrupted)"
    )
    do_train: bool = setting(False, "train (without any do_ flag: do all there is data for)")
    do_eval: bool = setting(False, "evaluate on the validation data")
    do_predict: bool = setting(False, "predict the test data (ner)")
    per_device_train_batch_size: int = setting(8, "rows per micro-batch")
    per_device_eval_batch_size: int = setting(8, "rows per batch in evaluation")
    gradient_accumulation_steps: int = setting(1, "micro-batches per step")
    gradient_checkpointing: bool = setting(False, "recompute activations: less memory, more time")
    num_train_epochs: float = setting(3.0, "passes over the data; 1.3 ends within the second")
    max_steps: int = setting(-1, "steps; above 0 it replaces num_train_epochs")
    learning_rate: float = setting(5e-5, "highest learning rate")
    weight_decay: float = setting(0.0, "AdamW: decay of all weights but biases and normalisation")
    adam_beta1: float = setting(0.9, "AdamW: decay of the running mean of gradients")
    adam_beta2: float = setting(0.999, "AdamW: decay of the running mean of their squares")
    adam_epsilon: float = setting(1e-8, "AdamW: added to the divisor")
    max_grad_norm: float = setting(1.0, "clip the gradient norm to this; 0: do not clip")
    lr_scheduler_type: LearningRateSchedule = setting(
        "linear", f"learning rate: {', '.join(get_args(LearningRateSchedule))}", metavar="name"
    )
    lr_scheduler_kwargs: dict | str | None = setting(
        None, "further arguments of the schedule, a JSON object", metavar="json"
    )
    warmup_steps: float = setting(0, "steps to the highest learning rate; below 1: share of run")
    seed: int = setting(42, "seed of everything random")
    data_seed: int | None = setting(None, "seed of the order of the rows (default: seed)")
    bf16: bool = setting(False, "autocast to bfloat16")
    fp16: bool = setting(False, "autocast to float16 with a gradient scaler (CUDA only)")
    use_cpu: bool = setting(False, "stay on the CPU even if there is a CUDA device")
    logging_strategy: Literal["no", "steps", "epoch"] = setting("steps", "when to log the loss")
    logging_steps: float | None = setting(
        None, "steps between log lines; below 1: share of run (default: 500, or fewer for 20 lines)"
    )
    eval_strategy: Literal["no", "steps", "epoch"] | None = setting(
        None, "when to evaluate (default: epoch, if there is validation data)"
    )
    eval_steps: float | None = setting(
        None, "steps between evaluations; below 1: share of the run (default: logging_steps)"
    )
    save_strategy: Literal["no", "steps", "epoch", "best"] = setting(
        "steps", "when to save checkpoint-<step>, to resume from or to use its model"
    )
    save_steps: float = setting(500, "steps between checkpoints; below 1: share of the run")
    save_total_limit: int | None = setting(None, "keep the last n checkpoints, and the best one")
    load_best_model_at_end: bool = setting(False, "end with the model of the best evaluation")
    metric_for_best_model: str | None = setting(None, "metric of the best one (default: loss)")
    greater_is_better: bool | None = setting(
        None, "whether a greater metric is better (default: yes, but not for loss and perplexity)"
    )
    early_stopping_patience: int | None = setting(None, "stop after n evaluations with no new best")
    match_trainer: bool = setting(False, "end with the weights of Trainer 5.23, to compare; slow")
    padding: bool = setting(False, "pad rows to the longest of a micro-batch; do not pack them")
    fast: bool = setting(True, "use rawtrain/fast, which makes the same mathematics cheaper")
    dataloader_num_workers: int = setting(0, "processes that prepare batches; 0: the main one")
    disable_tqdm: bool | None = setting(None, "no progress bar (default: only on a terminal)")
    log_level: Literal["debug", "info", "warning", "error", "critical", "passive"] = setting(
        "passive", "least severe messages on standard error; passive means info"
    )
    report_to: str | list[str] | None = setting(
        "none", "also log to tensorboard, wandb or both", metavar="tracker"
    )
    push_to_hub: bool = setting(False, "upload the final model and its results to the hub")
    hub_model_id: str | None = setting(None, "repository (default: the name of output_dir)")
    hub_token: str | None = setting(
        None,
        "others may see it in the list of processes (default: HF_TOKEN or `hf auth login`)",
        is_secret=True,  # shown and written nowhere, see `public_values`
    )
    hub_private_repo: bool | None = setting(None, "whether a new repository is private")
    hub_commit_message: str = setting("End of training", "message of the commit")

    @property
    def is_fast(self) -> bool:
        return self.fast and not self.match_trainer

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names in `report_to`."""
        named = [self.report_to] if isinstance(self.report_to, str) else self.report_to or []
        return tuple(name for name in named if name != "none")

    @property
    def best_metric_key(self) -> str:
        """The key, in the log, of the metric that decides which evaluation is best."""
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

    task: ClassVar[str] = "ner"
    pipeline_tag: ClassVar[str] = "token-classification"
    command: ClassVar[str] = "python -m rawtrain.ner"
    groups: ClassVar[tuple] = (ModelSettings, NerDataSettings, TrainingSettings)
    metrics: ClassVar[tuple] = ("loss", "f1", "precision", "recall", "accuracy")
    embedded_recipe: ClassVar[dict] = {
        "num_train_epochs": 8.0,
        "per_device_train_batch_size": 16, "per_device_eval_batch_size": 32,
        "learning_rate": 1e-3, "warmup_steps": 0.1, "weight_decay": 0.01,
    }  # fmt: skip

    output_dir: str = setting("ner_output", "where everything is written")


@dataclass(frozen=True)
class MlmSettings(TrainingSettings, MlmDataSettings, ModelSettings):
    """Adapt an encoder to a domain by masked-language modelling."""

    task: ClassVar[str] = "mlm"
    pipeline_tag: ClassVar[str] = "fill-mask"
    command: ClassVar[str] = "python -m rawtrain.mlm"
    groups: ClassVar[tuple] = (ModelSettings, MlmDataSettings, TrainingSettings)
    metrics: ClassVar[tuple] = ("loss", "perplexity", "accuracy")
    embedded_recipe: ClassVar[dict] = {
        "max_steps": 400, "line_by_line": True, "max_seq_length": 64, "max_eval_samples": 300,
        "per_device_train_batch_size": 16, "per_device_eval_batch_size": 32,
        "learning_rate": 2e-3, "warmup_steps": 0.1, "weight_decay": 0.01,
        "eval_strategy": "steps", "eval_steps": 0.25,
    }  # fmt: skip

    output_dir: str = setting("mlm_output", "where everything is written")


def public_values(settings: TrainingSettings) -> dict[str, Any]:
    """Every setting by its name but the token: what may be written to files and shown to others."""
    values = dataclasses.asdict(settings)
    del values["hub_token"]
    return values


def uses_own_data(settings: DataSettings | TrainingSettings) -> bool:
    """Whether any data is named; without, the run uses the embedded corpus."""
    names = ("dataset_name", "train_file", "validation_file", "test_file")
    return any(getattr(settings, name, None) for name in names)

"""What is allowed in settings: the range of each value, and which ones contradict each other."""

import json
import math
import os
from pathlib import Path

from rawtrain.config import MlmDataSettings, TrainingSettings, uses_own_data
from rawtrain.errors import raise_problems
from rawtrain.results import hub
from rawtrain.run import trackers
from rawtrain.run.identity import output_dir_problem


def check(settings: TrainingSettings) -> None:
    """Raise one ValueError that names every value out of range and every contradiction."""
    rules = (
        *(_out_of_range, _contradictions, _model_problems, _metric_problems),
        *(_data_contradictions, _file_problems, _output_problems),
        *(trackers.problems_of, hub.problems_of),
    )
    raise_problems([problem for rule in rules for problem in rule(settings)])


STEPS = "a share of the run below 1, else whole steps"


def is_steps(n: float) -> bool:
    """Whether a number may be a share of the run or a number of steps."""
    return 0 <= n < 1 or n == int(n) >= 1


RANGES = (  # settings, what a message says is allowed, and whether a finite number is
    (
        "max_train_samples max_eval_samples max_predict_samples preprocessing_num_workers "
        "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps "
        "early_stopping_patience",
        "a whole number from 1",
        lambda n: n >= 1,
    ),
    ("max_seq_length", "a whole number from 3", lambda n: n >= 3),
    ("max_steps", "-1 (off) or from 1", lambda n: n == -1 or n >= 1),
    ("seed data_seed", "a whole number from 0 to 2**32 - 1", lambda n: 0 <= n < 2**32),
    ("stride weight_decay max_grad_norm dataloader_num_workers", "0 or more", lambda n: n >= 0),
    ("num_train_epochs learning_rate adam_epsilon", "above 0", lambda n: n > 0),
    ("adam_beta1 adam_beta2", "from 0 to below 1", lambda n: 0 <= n < 1),
    ("mask_replace_prob random_replace_prob", "from 0 to 1", lambda n: 0 <= n <= 1),
    ("mlm_probability", "above 0 and up to 1", lambda n: 0 < n <= 1),
    ("validation_split_percentage", "from 1 to 99", lambda n: 1 <= n <= 99),
    ("logging_steps eval_steps save_steps", f"above 0: {STEPS}", lambda n: n and is_steps(n)),
    ("warmup_steps", f"0 or more: {STEPS}", is_steps),
    ("save_total_limit", "from 2, since the newest may turn out damaged", lambda n: n >= 2),
)
ALLOWED = {name: rule for names, *rule in RANGES for name in names.split()}


def _out_of_range(settings):
    for name, (allowed, is_allowed) in ALLOWED.items():
        value = getattr(settings, name, None)
        # the first comparison is False for NaN and, unlike math.isfinite, takes any integer
        if value is not None and not (abs(value) < math.inf and is_allowed(value)):
            yield f"--{name} is {value}; allowed: {allowed}"
    try:
        json.dumps(settings.lr_scheduler_kwargs, allow_nan=False)
    except (TypeError, ValueError):
        yield f"--lr_scheduler_kwargs is {settings.lr_scheduler_kwargs}; allowed: strict JSON"


def _contradictions(settings):
    if settings.bf16 and settings.fp16:
        yield "--bf16 and --fp16 are both given; choose one"
    if settings.fp16 and settings.use_cpu:
        yield "--fp16 needs a CUDA device and --use_cpu forbids it; use --bf16 on a CPU"
    if settings.dataset_name and (settings.train_file or settings.validation_file):
        yield "--dataset_name and data files are both given; choose one"
    if settings.dataset_config_name and not settings.dataset_name:
        yield "--dataset_config_name is given without --dataset_name"
    if settings.eval_strategy == "no":
        for name in ("load_best_model_at_end", "early_stopping_patience"):
            if getattr(settings, name):
                yield f"--{name} needs evaluations; --eval_strategy is no"
        if settings.save_strategy == "best":
            yield "--save_strategy best needs evaluations; --eval_strategy is no"
    if settings.match_trainer and settings.resume_from_checkpoint not in (None, "false"):
        yield "--match_trainer is given with --resume_from_checkpoint, but its runs cannot resume"
    if 1 <= settings.max_steps < settings.warmup_steps:
        warmup, steps = settings.warmup_steps, settings.max_steps
        yield f"--warmup_steps {warmup:g} is more than --max_steps {steps}"
    world_size = os.environ.get("WORLD_SIZE", "")
    if world_size.isdecimal() and int(world_size) > 1:
        yield f"WORLD_SIZE is {world_size}; this version runs in one process only"


def _model_problems(settings):
    if settings.model_name_or_path:
        return
    if not uses_own_data(settings):
        for name in ("config_name", "tokenizer_name"):
            if getattr(settings, name):
                yield f"--{name} is given without data; name data, or a --model_name_or_path"
    elif not settings.config_name:
        yield "own data but no model; give --model_name_or_path, or --config_name for a new model"
    elif not settings.tokenizer_name:
        yield "--config_name makes a new model, which needs a --tokenizer_name"


def _metric_problems(settings):
    name = settings.best_metric_key.removeprefix("eval_")
    per_type = getattr(settings, "return_entity_level_metrics", False) and "_" in name
    if name not in settings.metrics and not per_type:
        allowed = ", ".join(settings.metrics)
        yield f"--metric_for_best_model is {settings.metric_for_best_model}; allowed: {allowed}"


def _data_contradictions(settings):
    if settings.do_predict and not hasattr(settings, "test_file"):
        yield f"--do_predict needs test data, and {settings.task} takes none; leave it out"
    if settings.match_trainer and getattr(settings, "stride", None):
        yield f"--match_trainer truncates long sentences, but --stride is {settings.stride}"
    if not isinstance(settings, MlmDataSettings):
        return
    if settings.match_trainer and settings.whole_word_mask:
        yield "--match_trainer is given with --whole_word_mask, which run_mlm.py does not have"
    if settings.mask_replace_prob + settings.random_replace_prob > 1:
        yield "--mask_replace_prob and --random_replace_prob add up to more than 1"


def _file_problems(settings):
    for name in ("train_file", "validation_file", "test_file"):
        file = getattr(settings, name, None)
        if file is not None and (Path(file).is_dir() or not Path(file).exists()):
            what = "is a folder" if Path(file).is_dir() else "does not exist"
            yield f"--{name} {file} {what}; a data file is expected (a folder: --dataset_name)"
    needed = {"do_train": "train_file", "do_eval": "validation_file", "do_predict": "test_file"}
    if hasattr(settings, "validation_split_percentage"):
        del needed["do_eval"]  # a share of the training data validates, if need be
    if uses_own_data(settings) and not settings.dataset_name:
        for do, file in needed.items():
            if getattr(settings, do) and not getattr(settings, file, True):
                yield f"--{do} is given without --{file}"


def _output_problems(settings):
    if problem := output_dir_problem(settings):
        yield problem
    if settings.overwrite_output_dir and settings.resume_from_checkpoint not in (None, "false"):
        yield (
            "--resume_from_checkpoint and --overwrite_output_dir are both given; choose one. "
            "Without either, an interrupted run resumes"
        )
    output_dir = Path(settings.output_dir)
    sources = ("model_name_or_path", "config_name", "tokenizer_name", "dataset_name")
    for name in (*sources, "train_file", "validation_file", "test_file"):
        source = getattr(settings, name, None)
        exists = source and Path(source).exists()
        if exists and Path(source).resolve().is_relative_to(output_dir.resolve()):
            yield f"--{name} {source} lies in --output_dir {output_dir}; choose another output"

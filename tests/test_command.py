"""From a command line or a file to settings: every flag, every refusal, every default."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from transformers import TrainingArguments
from transformers.training_args import trainer_log_levels

from rawtrain.cli.allowed import ALLOWED
from rawtrain.cli.command import parse, reported_mistakes, run, settings_from
from rawtrain.cli.old_names import RENAMED
from rawtrain.config import (
    DataSettings,
    LearningRateSchedule,
    MlmSettings,
    ModelSettings,
    NerSettings,
    TrainingSettings,
    setting,
    uses_own_data,
)
from rawtrain.run.directory import write_settings
from rawtrain.run.signals import Interrupted
from rawtrain.run.step_record import NonFiniteError

many_cases = drawing(max_examples=50)
JOBS = pytest.mark.parametrize("job", [NerSettings, MlmSettings])

# Every setting there is, by the job that has it.
SHARED = """model_name_or_path config_name tokenizer_name model_revision trust_remote_code
    dataset_name dataset_config_name train_file validation_file text_column_name max_seq_length
    max_train_samples max_eval_samples encoding overwrite_cache preprocessing_num_workers
    output_dir overwrite_output_dir resume_from_checkpoint do_train do_eval do_predict
    per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps
    gradient_checkpointing num_train_epochs max_steps learning_rate weight_decay adam_beta1
    adam_beta2 adam_epsilon max_grad_norm lr_scheduler_type lr_scheduler_kwargs warmup_steps seed
    data_seed bf16 fp16 use_cpu logging_strategy logging_steps eval_strategy eval_steps
    match_trainer padding fast save_strategy save_steps save_total_limit load_best_model_at_end
    early_stopping_patience
    metric_for_best_model greater_is_better dataloader_num_workers disable_tqdm log_level
    report_to push_to_hub hub_model_id hub_token hub_private_repo hub_commit_message"""
NER_ALONE = """test_file label_column_name max_predict_samples task_name label_all_tokens
    return_entity_level_metrics token_column tag_column stride sentence_column_name label_list
    repair_tags"""
MLM_ALONE = """mlm_probability mask_replace_prob random_replace_prob whole_word_mask line_by_line
    validation_split_percentage"""

# Where a default is not that of TrainingArguments, and why.
OTHER_DEFAULTS = {
    "output_dir": "each job has a folder of its own",
    "gradient_checkpointing": "None there, which means False",
    "logging_steps": "at least twenty log lines a run",
    "eval_strategy": "each epoch if there is validation data",
}

# The arguments of run_ner.py 5.8 and run_mlm.py 4.33 that are settings here, with their defaults.
SCRIPT_DEFAULTS = {
    NerSettings: {"task_name": "ner", "label_all_tokens": False}
    | {"return_entity_level_metrics": False}
    | dict.fromkeys(["test_file", "label_column_name", "max_predict_samples"]),
    MlmSettings: {"validation_split_percentage": 5, "mlm_probability": 0.15, "line_by_line": False},
}
SHARED_SCRIPT_DEFAULTS = {"model_revision": "main", "trust_remote_code": False}
SHARED_SCRIPT_DEFAULTS |= {"overwrite_cache": False, "preprocessing_num_workers": None}
SHARED_SCRIPT_DEFAULT_NONE = """model_name_or_path config_name tokenizer_name dataset_name
    dataset_config_name train_file validation_file text_column_name max_seq_length
    max_train_samples max_eval_samples"""

# All other arguments of these scripts and of their no_trainer forms.
OTHER_SCRIPT_ARGUMENTS = """cache_dir token use_auth_token ignore_mismatched_sizes
    pad_to_max_length max_length model_type max_train_steps
    num_warmup_steps debug checkpointing_steps
    with_tracking config_overrides use_fast_tokenizer
    use_slow_tokenizer low_cpu_mem_usage streaming"""
# Fields that TrainingArguments 4.x had, and what the book's chapters 4 and 9 pass to it.
OTHER_TRAINING_ARGUMENTS = """evaluation_strategy warmup_ratio logging_dir group_by_length no_cuda
    save_safetensors half_precision_backend fp16_backend fp16_opt_level per_gpu_train_batch_size
    per_gpu_eval_batch_size push_to_hub_token push_to_hub_model_id push_to_hub_organization
    adafactor epochs local_rank optim hub_strategy hub_always_push hub_revision run_name project"""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test runs where there is nothing but the files that it makes, in one process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


def ner(*arguments):
    return settings_from(NerSettings, arguments)


def mlm(*arguments):
    return settings_from(MlmSettings, arguments)


def mistakes(settings_of, *arguments):
    with pytest.raises(ValueError) as caught:
        settings_of(*arguments)
    return str(caught.value).splitlines()


def names(job):
    return [field.name for field in dataclasses.fields(job)]


def choices_in(hint):
    """The words that a type hint lists, such as Literal["no", "steps"] | None."""
    literals = [part for part in (hint, *typing.get_args(hint)) if hasattr(part, "__args__")]
    return {word for part in literals for word in typing.get_args(part) if isinstance(word, str)}


def own_data(*flags):
    """The arguments that name files of own data, which are made here, and a model."""
    arguments = ["--model_name_or_path", "some/model"]
    for flag in flags:
        Path(f"{flag}.txt").write_text("data", encoding="utf-8")
        arguments += [f"--{flag}", f"{flag}.txt"]
    return arguments


# Names, types, defaults


def test_each_job_has_these_settings_and_no_others():
    assert sorted(names(NerSettings)) == sorted((SHARED + " " + NER_ALONE).split())
    assert sorted(names(MlmSettings)) == sorted((SHARED + " " + MLM_ALONE).split())


@JOBS
def test_a_setting_of_trainingarguments_has_its_type_and_default(job):
    types, their_types = typing.get_type_hints(job), typing.get_type_hints(TrainingArguments)
    defaults = {field.name: field.default for field in dataclasses.fields(job)}
    fields = [field for field in dataclasses.fields(TrainingArguments) if field.name in types]
    assert len(fields) == 43
    for field in fields:
        choices = choices_in(types[field.name])
        if field.name == "log_level":
            assert choices == set(trainer_log_levels) - {"detail"}
        elif choices:
            (enum, *_) = typing.get_args(their_types[field.name])
            not_here = {"greedy", "reduce_lr_on_plateau"}  # they look at evaluations, not at steps
            assert choices == {member.value for member in enum} - not_here
        elif field.name not in OTHER_DEFAULTS:
            assert types[field.name] == their_types[field.name], field.name
        if field.name not in OTHER_DEFAULTS:
            assert defaults[field.name] == field.default, field.name


@JOBS
def test_an_argument_of_the_scripts_has_its_default(job):
    none = dict.fromkeys(SHARED_SCRIPT_DEFAULT_NONE.split())
    for name, default in (none | SHARED_SCRIPT_DEFAULTS | SCRIPT_DEFAULTS[job]).items():
        assert getattr(job(), name) == default, name


# Flags


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--learning_rate", "1e-3"], "learning_rate", 1e-3),
        (["--learning-rate=1e-3"], "learning_rate", 1e-3),
        (["--tag_column", "-2"], "tag_column", -2),
        (["--max_steps", "-1"], "max_steps", -1),
        (["--do_train"], "do_train", True),
        (["--do_train", "true"], "do_train", True),
        (["--do_train", "False"], "do_train", False),
        (["--do-train", "--seed", "1"], "do_train", True),
        (["--greater_is_better", "false"], "greater_is_better", False),
        (["--eval_strategy", "steps"], "eval_strategy", "steps"),
        (["--warmup_steps", "0.1"], "warmup_steps", 0.1),
        (["--seed", "1", "--seed", "2"], "seed", 2),
        (["--lr_scheduler_kwargs", '{"num_cycles": 2}'], "lr_scheduler_kwargs", {"num_cycles": 2}),
        (["--report_to", "none"], "report_to", ["none"]),
    ],
)
def test_a_flag_sets_its_setting(arguments, name, value):
    assert getattr(ner(*arguments), name) == value


@JOBS
def test_a_boolean_is_set_by_its_flag_alone_and_by_its_flag_with_a_value(job, monkeypatch):
    monkeypatch.setattr("rawtrain.cli.command.check", lambda settings: None)  # allowed or not
    hints = typing.get_type_hints(job)
    booleans = [name for name, hint in hints.items() if hint in (bool, bool | None)]
    assert {"padding", "fast", "disable_tqdm", "greater_is_better"} <= set(booleans)
    for name in booleans:
        for value, expected in ([], True), (["true"], True), (["false"], False):
            settings = settings_from(job, [f"--{name}", *value, "--seed", "1"])
            assert (getattr(settings, name), settings.seed) == (expected, 1), name


def test_control_characters_in_an_error_are_shown_and_never_sent(capsys):
    with pytest.raises(SystemExit), reported_mistakes():
        raise ValueError("data.txt:3: \x1b]0;owned\x07 is no tag\nmore")
    expected = "error: data.txt:3: \\x1b]0;owned\\x07 is no tag\nerror: more\n"
    assert capsys.readouterr().err == expected


@JOBS
def test_a_mistyped_flag_is_answered_with_the_nearest_name(job):
    for name in names(job):
        typo = name[: len(name) // 2] + name[len(name) // 2 + 1 :]
        found = mistakes(lambda *arguments: settings_from(job, arguments), f"--{typo}", "1")
        assert found == [f"--{typo} is not a setting; did you mean --{name}?"]


@pytest.mark.parametrize(
    ("settings_of", "arguments", "answer"),
    [
        (ner, ["--max_seq", "7"], "--max_seq is not a setting; did you mean --max_seq_length?"),
        (ner, ["-seed", "7"], "-seed is not a setting; did you mean --seed?"),
        (ner, ["--qqq"], "--qqq is not a setting; see --help"),
        (ner, ["--seed", "x"], "--seed is x; expected a whole number"),
        (ner, ["--seed", "1.5"], "--seed is 1.5; expected a whole number"),
        (ner, ["--weight-decay", "x"], "--weight_decay is x; expected a number"),
        (ner, ["--bf16", "maybe"], "--bf16 is maybe; expected true or false"),
        (ner, ["--task_name", "x"], "--task_name is x; expected ner or chunk or pos"),
        (ner, ["--seed"], "--seed: expected one argument; see --help"),
        (ner, ["x", "--seed", "1"], "unexpected argument 'x'; every value follows its --flag, and"),
        (ner, ["--seed", "1", "a.toml"], "unexpected argument 'a.toml'; every value follows its"),
        (ner, ["--lr_scheduler_kwargs", "{"], "--lr_scheduler_kwargs is {; expected a JSON object"),
        (ner, ["--lr_scheduler_kwargs", "1"], "--lr_scheduler_kwargs is 1; expected a JSON object"),
        (
            ner,
            ["--mlm_probability", "0.2"],
            "--mlm_probability is a setting of python -m rawtrain.mlm alone; leave it out",
        ),
        (
            mlm,
            ["--test_file", "x"],
            "--test_file is a setting of python -m rawtrain.ner alone; leave it out",
        ),
    ],
)
def test_a_command_line_that_cannot_be_read_is_answered(settings_of, arguments, answer):
    (found,) = mistakes(settings_of, *arguments)
    assert found.startswith(answer)


@JOBS
def test_an_old_name_is_answered_with_what_to_do_instead(job):
    real = {*names(NerSettings), *names(MlmSettings)}
    for name, answer in RENAMED.items():
        assert name not in real
        assert set(re.findall(r"--(\w+)", answer)) <= real, answer
        for typed in (f"--{name}", f"--{name.replace('_', '-')}"):
            found = mistakes(lambda *arguments: settings_from(job, arguments), typed, "1")
            assert found == [f"{typed} is not a setting here; {answer}"]


def test_every_argument_of_the_scripts_and_of_old_trainingarguments_is_answered():
    assert set((OTHER_SCRIPT_ARGUMENTS + " " + OTHER_TRAINING_ARGUMENTS).split()) <= set(RENAMED)


@pytest.mark.parametrize("name", ["token", "use_auth_token", "hub_tokn", "push_to_hub_token"])
def test_a_token_is_refused_and_never_shown(name):
    Path("cfg.json").write_text(json.dumps({name: "hf_secret"}), encoding="utf-8")
    for arguments in (f"--{name} hf_secret", f"--{name}=hf_secret", "cfg.json"):
        (message,) = mistakes(ner, *arguments.split())
        assert name in message and "hf_secret" not in message


# Settings files


def test_a_file_overrides_the_recipe_and_a_flag_overrides_the_file():
    Path("a.toml").write_text("seed = 1\nlearning_rate = 5e-3\nbf16 = true\n", encoding="utf-8")
    settings = ner("a.toml", "--seed", "2", "--bf16", "false")
    assert (settings.seed, settings.learning_rate, settings.bf16) == (2, 5e-3, False)
    assert settings.num_train_epochs == NerSettings.embedded_recipe["num_train_epochs"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "num_train_epochs = 2\n[lr_scheduler_kwargs]\nnum_cycles = 2\n"),
        ("a.toml", "\ufeffnum_train_epochs = 2.0\r\nlr_scheduler_kwargs.num_cycles = 2\r\n"),
        ("a.json", '{"num_train_epochs": 2, "lr_scheduler_kwargs": {"num_cycles": 2}}'),
        ("a.json", '\ufeff{"num_train_epochs": 2, "lr_scheduler_kwargs": "{\\"num_cycles\\": 2}"}'),
    ],
)
def test_a_file_may_be_toml_or_json_with_or_without_a_byte_order_mark(name, text):
    Path(name).write_bytes(text.encode())
    settings = ner(name)
    assert settings.num_train_epochs == 2 and settings.lr_scheduler_kwargs == {"num_cycles": 2}


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("a.toml", "seed = 'x'", 'a.toml: seed is "x"; expected a whole number'),
        ("a.toml", "seed = 1.0", "a.toml: seed is 1.0; expected a whole number"),
        ("a.toml", "seed = true", "a.toml: seed is true; expected a whole number"),
        ("a.toml", "seed = 2020-01-01", 'a.toml: seed is "2020-01-01"; expected a whole number'),
        ("a.json", '{"seed": null}', "a.json: seed is null; expected a whole number"),
        ("a.json", '{"bf16": 1}', "a.json: bf16 is 1; expected true or false"),
        ("a.json", '{"task_name": "x"}', 'a.json: task_name is "x"; expected ner or chunk or pos'),
        ("a.json", '{"train_file": []}', "a.json: train_file is []; expected text"),
        ("a.json", '{"see": 1}', "a.json: see is not a setting; did you mean seed?"),
        ("a.json", '{"learning-rate": 1}', "a.json: learning-rate is not a setting; did you mean"),
        ("a.json", '{"report_to": 1}', "a.json: report_to is 1; expected text or a list"),
        (
            "a.json",
            '{"report_to": ["none", 1]}',
            "--report_to is 1; allowed: none, tensorboard, wandb",
        ),
        ("a.json", '{"lr": 1}', "a.json: lr is not a setting here; use --learning_rate"),
        ("a.json", "[1]", "a.json: holds a list; expected names and values"),
        ("a.toml", "seed = 1\nbf16 =\n", "a.toml: not readable as TOML: .*line 2, column 7"),
        ("a.json", '{"seed": 1,\n "bf16" 2}', "a.json: not readable as JSON: .*line 2 column 9"),
        ("a.json", '{"learning_rate": NaN}', "--learning_rate is nan; allowed: above 0"),
        ("a.toml", "lr_scheduler_kwargs.x = nan", "--lr_scheduler_kwargs is {'x': nan}; allowed: "),
        ("a.toml", "", "a.toml: the file is empty"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_name(name, text, answer):
    Path(name).write_text(text, encoding="utf-8")
    (found,) = mistakes(ner, name)
    assert re.match(answer if ".*" in answer else re.escape(answer), found)


def test_a_file_that_is_missing_or_no_text_is_refused_by_its_name():
    assert mistakes(ner, "none.toml") == ["none.toml: no such file"]
    Path("latin.toml").write_bytes(b"output_dir = 'gr\xfcn'")
    (found,) = mistakes(ner, "latin.toml")
    assert found.startswith("latin.toml: not readable as TOML: ") and "byte 0xfc" in found
    assert "--encoding" not in found  # which is for data


def test_a_flag_whose_value_ends_in_json_is_no_settings_file():
    assert ner("--output_dir=run.json").output_dir == "run.json"


def values_of(job):
    """Valid settings that contradict each other in no combination, as keyword arguments."""
    share, whole = st.floats(0.001, 0.999), st.integers(1, 10**6)
    text = st.text('ab/é😀\u2028"\\\n%{', max_size=5)
    special = {
        "seed": st.integers(0, 2**32 - 1),
        "model_name_or_path": st.none() | text,
        "lr_scheduler_type": st.sampled_from(get_args(LearningRateSchedule)),
        "lr_scheduler_kwargs": st.none() | st.dictionaries(text, st.integers() | share),
        "learning_rate": share | whole,
        "weight_decay": share | st.just(0.0),
        "warmup_steps": share,
        "max_steps": whole | st.just(-1),
        "logging_steps": st.none() | share | whole,
        "logging_strategy": st.sampled_from(["no", "steps", "epoch"]),
        "eval_strategy": st.sampled_from([None, "steps", "epoch"]),
        "greater_is_better": st.sampled_from([None, True, False]),
        "text_column_name": st.none() | text,
        "bf16": st.booleans(),
        "max_train_samples": st.none() | whole,
    }
    alone = {
        NerSettings: {"task_name": st.sampled_from(["ner", "chunk", "pos"]), "stride": whole},
        MlmSettings: {"mlm_probability": share, "line_by_line": st.booleans()},
    }
    return st.fixed_dictionaries({}, optional=special | alone[job])


@pytest.fixture(scope="module")
def settings_json(tmp_path_factory):
    return tmp_path_factory.mktemp("settings") / "settings.json"


@JOBS
@many_cases
@given(data=st.data())
def test_written_settings_are_read_back_as_they_were(job, settings_json, data):
    settings = job(**data.draw(values_of(job)))
    write_settings(settings, settings_json)
    assert settings_from(job, [str(settings_json)]) == settings
    written = json.loads(settings_json.read_text(encoding="utf-8"))
    assert list(written) == [name for name in names(job) if name != "hub_token"]


# What is allowed

STEPS = (["0", "-1", "1.5"], ["0.01", "0.5", "1", "1e6"])
FROM_1 = (["0", "-1"], ["1", "100000"])
FROM_0 = (["-1"], ["0", "1"])
PROBABILITY = (["-0.01", "1.01"], ["0", "0.1"])
SEED = (["-1", str(2**32), "9" * 400], ["0", str(2**32 - 1)])
BORDERS = {  # just outside, and inside, of what is allowed
    "max_seq_length": (["2"], ["3"]),
    "max_train_samples": FROM_1,
    "max_eval_samples": FROM_1,
    "preprocessing_num_workers": FROM_1,
    "max_predict_samples": FROM_1,
    "stride": FROM_0,
    "validation_split_percentage": (["0", "100"], ["1", "99"]),
    "mlm_probability": (["0", "1.01"], ["0.01", "1"]),
    "mask_replace_prob": PROBABILITY,
    "random_replace_prob": PROBABILITY,
    "per_device_train_batch_size": FROM_1,
    "per_device_eval_batch_size": FROM_1,
    "gradient_accumulation_steps": FROM_1,
    "num_train_epochs": (["0", "-1"], ["0.01", "3"]),
    "max_steps": (["0", "-2"], ["-1", "1"]),
    "learning_rate": (["0", "-0.1"], ["1e-9", "1"]),
    "weight_decay": (["-0.01"], ["0", "0.1"]),
    "adam_beta1": (["-0.01", "1"], ["0", "0.999"]),
    "adam_beta2": (["-0.01", "1"], ["0", "0.999"]),
    "adam_epsilon": (["0", "-0.1"], ["1e-12"]),
    "max_grad_norm": (["-0.1"], ["0", "1"]),
    "warmup_steps": (["-0.1", "1.5"], ["0", "0.1", "1", "100"]),
    "seed": SEED,
    "data_seed": SEED,
    "logging_steps": STEPS,
    "eval_steps": STEPS,
    "save_steps": STEPS,
    "save_total_limit": (["1", "0", "-1"], ["2", "5"]),
    "early_stopping_patience": FROM_1,
    "dataloader_num_workers": FROM_0,
}


def job_of(name):
    return mlm if name in names(MlmSettings) else ner


@pytest.mark.parametrize("name", ALLOWED)
def test_a_value_out_of_range_is_refused_and_one_at_its_border_is_not(name):
    refused, allowed = BORDERS[name]
    for value in refused:
        message, *_ = mistakes(job_of(name), f"--{name}={value}")
        assert message.startswith(f"--{name} is {value}"[:40])
        assert message.endswith(f"; allowed: {ALLOWED[name][0]}")
    for value in allowed:
        assert getattr(job_of(name)(f"--{name}={value}"), name) == float(value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_every_number_with_a_point_refuses_nan_and_infinity(value):
    hints = typing.get_type_hints(MlmSettings)
    numbers = [name for name, hint in hints.items() if float in (hint, *typing.get_args(hint))]
    assert len(numbers) == 14
    for name in numbers:
        messages = mistakes(mlm, f"--{name}={value}")
        assert any(line.startswith(f"--{name} is {value}; allowed: ") for line in messages), name


@pytest.mark.parametrize(
    ("settings_of", "command", "answer"),
    [
        (ner, "--bf16 --fp16", "--bf16 and --fp16 are both given"),
        (ner, "--fp16 --use_cpu", "--fp16 needs a CUDA device"),
        (ner, "--dataset_name x", "own data but no model"),
        (ner, "--dataset_name x --tokenizer_name y", "own data but no model"),
        (ner, "--dataset_name x --config_name y", "--config_name makes a new model"),
        (ner, "--tokenizer_name y", "--tokenizer_name is given without data"),
        (mlm, "--config_name y", "--config_name is given without data"),
        (ner, "--dataset_config_name x", "--dataset_config_name is given without --dataset_name"),
        (ner, "--load_best_model_at_end --eval_strategy no", "--load_best_model_at_end needs"),
        (ner, "--save_strategy best --eval_strategy no", "--save_strategy best needs"),
        (ner, "--max_steps 5 --warmup_steps 6", "--warmup_steps 6 is more than --max_steps 5"),
        (ner, "--metric_for_best_model perplexity", "--metric_for_best_model is perplexity; allow"),
        (ner, "--metric_for_best_model PER_f1", "--metric_for_best_model is PER_f1; allowed: loss"),
        (mlm, "--metric_for_best_model eval_f1", "--metric_for_best_model is eval_f1; allowed: lo"),
        (mlm, "--mask_replace_prob 0.8 --random_replace_prob 0.3", "--mask_replace_prob and"),
        (mlm, "--do_predict", "--do_predict needs test data, and mlm takes none"),
    ],
)
def test_a_contradiction_is_refused_and_explained(settings_of, command, answer):
    (message,) = mistakes(settings_of, *command.split())
    assert message.startswith(answer)


@pytest.mark.parametrize(
    ("settings_of", "command"),
    [
        (ner, "--bf16 --use_cpu"),
        (ner, "--dataset_name x --dataset_config_name z --model_name_or_path y"),
        (ner, "--dataset_name x --config_name y --tokenizer_name z"),
        (ner, "--model_name_or_path y --tokenizer_name z"),
        (ner, "--max_steps 5 --warmup_steps 5"),
        (ner, "--save_strategy best --load_best_model_at_end"),
        (ner, "--metric_for_best_model eval_f1"),
        (ner, "--metric_for_best_model PER_f1 --return_entity_level_metrics"),
        (mlm, "--metric_for_best_model perplexity"),
        (mlm, "--mask_replace_prob 0.8 --random_replace_prob 0.2"),
    ],
)
def test_what_only_looks_like_a_contradiction_is_allowed(settings_of, command):
    settings_of(*command.split())


def test_perplexity_and_loss_are_better_when_smaller_and_scores_when_greater():
    greater = {"loss": False, "eval_loss": False, "perplexity": False, "f1": True, "PER_f1": True}
    for metric, is_greater in greater.items():
        settings = NerSettings(metric_for_best_model=metric)
        assert settings.best_is_greater is is_greater
        assert settings.best_metric_key == f"eval_{metric.removeprefix('eval_')}"
    assert NerSettings().best_metric_key == "eval_loss"
    assert NerSettings(greater_is_better=True).best_is_greater is True


@pytest.mark.parametrize(("value", "is_refused"), [("2", True), ("1", False), ("x", False)])
def test_more_than_one_process_is_refused(monkeypatch, value, is_refused):
    monkeypatch.setenv("WORLD_SIZE", value)
    if is_refused:
        expected = "WORLD_SIZE is 2; this version runs in one process only"
        assert mistakes(ner) == [expected]
    else:
        ner()


@pytest.mark.parametrize(
    ("settings_of", "flags", "more", "answer"),
    [
        (ner, [], "--train_file none.txt", "--train_file none.txt does not exist"),
        (ner, [], "--test_file .", "--test_file . is a folder"),
        (ner, ["train_file"], "--do_eval", "--do_eval is given without --validation_file"),
        (ner, ["train_file"], "--do_predict", "--do_predict is given without --test_file"),
        (mlm, ["validation_file"], "--do_train", "--do_train is given without --train_file"),
        (ner, ["train_file"], "--dataset_name x", "--dataset_name and data files are both given"),
        (ner, ["train_file"], "--output_dir train_file.txt", "--output_dir train_file.txt is a f"),
    ],
)
def test_a_file_that_is_missing_is_named(settings_of, flags, more, answer):
    assert mistakes(settings_of, *own_data(*flags), *more.split())[0].startswith(answer)


def test_mlm_evaluates_on_a_share_of_the_training_file():
    assert mlm(*own_data("train_file"), "--do_eval").do_eval


def test_an_output_folder_with_something_in_it_that_no_run_wrote_is_refused():
    Path("out").mkdir()
    ner("--output_dir", "out")
    Path("out/model.safetensors").touch()
    for flags in [], ["--overwrite_output_dir"], ["--resume_from_checkpoint", "false"]:
        (message,) = mistakes(ner, "--output_dir", "out", *flags)
        assert message.startswith("--output_dir out is not empty, and no run listed in written.js")


@pytest.mark.parametrize("source", ["out", "out/checkpoint-5", "../{}/out"])
def test_the_model_to_start_from_may_not_lie_in_the_output_folder(empty_folder, source):
    Path("out/checkpoint-5").mkdir(parents=True)
    Path("out/written.json").write_text("[]")
    source = source.format(empty_folder.name)
    command = f"--model_name_or_path {source} --output_dir out --overwrite_output_dir"
    expected = f"--model_name_or_path {source} lies in --output_dir out; choose another output"
    assert mistakes(ner, *command.split()) == [expected]


# A third task


@dataclasses.dataclass(frozen=True)
class ThirdSettings(TrainingSettings, DataSettings, ModelSettings):
    """A task of somebody else's, with none of the settings of the two tasks here."""

    task = "third"
    command = "python third.py"
    groups = (ModelSettings, DataSettings, TrainingSettings)
    metrics = ("loss", "accuracy")
    embedded_recipe: typing.ClassVar = {"max_steps": 7}
    output_dir: str = setting("third_output", "where everything is written")


def third(*arguments):
    return settings_from(ThirdSettings, arguments)


def test_a_third_task_has_the_settings_that_its_class_has():
    assert not uses_own_data(third()) and third().max_steps == 7
    settings = third(*own_data("train_file", "validation_file"), "--do_train", "--do_eval")
    assert uses_own_data(settings) and settings.max_steps == -1
    assert third("--match_trainer", "--max_seq_length", "9").output_dir == "third_output"


@pytest.mark.parametrize(
    ("flags", "command", "answer"),
    [
        ([], "--do_predict", "--do_predict needs test data, and third takes none"),
        (["train_file"], "--do_eval", "--do_eval is given without --validation_file"),
        ([], "--metric_for_best_model f1", "--metric_for_best_model is f1; allowed: loss, accur"),
        ([], "--stride 3", "--stride is a setting of python -m rawtrain.ner alone"),
    ],
)
def test_what_is_wrong_with_the_settings_of_a_third_task_is_reported(flags, command, answer):
    (message,) = mistakes(third, *(own_data(*flags) if flags else []), *command.split())
    assert message.startswith(answer)


# All together, and what a shell sees


def test_everything_that_cannot_be_read_is_reported_together():
    Path("a.json").write_text('{"seed": "x", "lr": 1}', encoding="utf-8")
    found = mistakes(ner, "a.json", "--bf16", "maybe", "--epochs", "3", "--max_steps", "many")
    starts = ["a.json: seed", "a.json: lr", "--bf16", "--max_steps", "--epochs"]
    assert len(found) == len(starts)
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True))


def test_everything_that_is_not_allowed_is_reported_together():
    command = "--seed -1 --bf16 --fp16 --do_predict --train_file no"
    found = mistakes(mlm, *command.split())
    starts = ["--seed", "--bf16", "own data", "--do_predict", "--train_file"]
    assert len(found) == len(starts)
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True))


def test_a_long_list_of_mistakes_is_cut_at_twenty():
    Path("a.json").write_text(json.dumps(dict.fromkeys(map(str, range(25)))), encoding="utf-8")
    found = mistakes(ner, "a.json")
    assert len(found) == 21 and found[-1] == "and 5 more"


@JOBS
@pytest.mark.parametrize("arguments", [["--lerning_rate", "1"], ["--learning_rate", "0"]])
def test_a_mistake_exits_with_2_and_writes_nothing(job, arguments, capsys, empty_folder):
    with pytest.raises(SystemExit) as exit_:
        parse(job, arguments)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == "" and err.startswith(f"error: {arguments[0]} is ") and err.count("\n") == 1
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (Interrupted(143), 143), (NonFiniteError("the loss is nan at step 3"), 1)],
)
def test_the_exit_code_says_why_a_run_ended(error, code, capsys):
    def main(settings):
        if error:
            raise error

    if code == 0:
        run(main, NerSettings())
    else:
        with pytest.raises(SystemExit) as exit_:
            run(main, NerSettings())
        assert exit_.value.code == code
    assert (
        capsys.readouterr().err == {0: "", 143: "", 1: "error: the loss is nan at step 3\n"}[code]
    )


def test_an_error_of_our_own_keeps_its_traceback():
    def main(settings):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run(main, NerSettings())


PRINTS = """if True:
    import sys
    from rawtrain.cli.command import run
    def main(_):
        for stream in (sys.stdout, sys.stderr):
            print("Zoë \\u4eba" * 50_000, file=stream, flush=True)
            print("end", file=stream)
        open("results.txt", "w").close()
    run(main, None)
"""


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_run_goes_on_when_nobody_reads_its_output_any_more(closed, empty_folder):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
    done = subprocess.run([sys.executable, "-c", PRINTS], **streams)
    os.close(writer)
    assert done.returncode == 0 and Path("results.txt").exists()
    other = done.stdout if closed == "stderr" else done.stderr
    assert other.endswith(b"end\n") and b"Traceback" not in other


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", rb"Zo\xeb \u4eba"), ("cp1252", b"Zo\xeb \\u4eba"), ("utf-8", "Zoë 人".encode())],
)
def test_what_the_terminal_cannot_show_is_printed_as_escapes(encoding, expected, empty_folder):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", PRINTS], capture_output=True, env=environment, check=True
    )
    assert done.stdout == done.stderr == expected * 50_000 + b"\nend\n"


# The embedded run, and the help


@JOBS
def test_the_recipe_of_the_embedded_run_holds_where_no_data_is_named(job):
    def is_recipe(*arguments):
        settings = settings_from(job, arguments)
        return {name: getattr(settings, name) for name in recipe} == recipe

    recipe = job.embedded_recipe
    assert recipe and {name: getattr(job(), name) for name in recipe} != recipe
    assert is_recipe() and is_recipe("--seed", "3")
    assert not is_recipe(*own_data("train_file"))
    assert not is_recipe("--dataset_name", "x", "--model_name_or_path", "y")
    settings = settings_from(job, ["--learning_rate", "5e-5"])
    assert settings.learning_rate == 5e-5
    assert settings.warmup_steps == recipe["warmup_steps"]


@JOBS
def test_the_help_shows_every_flag_and_the_recipe_in_100_columns(job, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(job, ["--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith(f"usage: {job.command} [settings.toml")
    words = " ".join(text.split())
    for field in dataclasses.fields(job):
        shown = rf"--{field.name}( \S+){{0,3}} {re.escape(field.metadata['help'])}"
        assert re.search(shown, words), field.name
    assert f"--output_dir str where everything is written (default: {job().output_dir})" in words
    for name, value in job.embedded_recipe.items():
        assert f"--{name} {value}" in words


@pytest.mark.slow
def test_help_and_a_wrong_flag_are_answered_without_torch_and_transformers():
    script = """if True:
        import runpy, sys
        for job in ("rawtrain.ner", "rawtrain.mlm"):
            for arguments, code in ((["--help"], 0), (["--lerning_rate", "1"], 2)):
                sys.argv = [job, *arguments]
                try:
                    runpy.run_module(job, run_name="__main__")
                except SystemExit as exit_:
                    assert exit_.code == code, (exit_.code, code)
                loaded = {"torch", "transformers", "datasets"} & set(sys.modules)
                assert not loaded, loaded
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr == "error: --lerning_rate is not a setting; did you mean --learning_rate?\n" * 2
    )

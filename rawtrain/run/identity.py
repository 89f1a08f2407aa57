"""What makes two runs the same run: everything that its results follow from.

It is written when a run starts. A run resumes only if nothing in it has changed; then it ends with
the same bits as without the interruption. Nothing here imports torch.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rawtrain.config import TrainingSettings, public_values
from rawtrain.data.files import sha256_of
from rawtrain.run.durable import DELETING, LIST, LOCK, WRITING, listed, reading

IDENTITY_FILE = "identity.json"
TRAINERS = ("trainer_state.json", "optimizer.pt", "training_args.bin")  # of a Trainer checkpoint

# Settings that may change before a run resumes: they move no bit of what is learnt. Paths are among
# them, since what they lead to is compared itself.
FREE = frozenset(
    (
        *("output_dir", "overwrite_output_dir", "resume_from_checkpoint"),
        *("do_train", "do_eval", "do_predict", "use_cpu"),
        *("model_name_or_path", "config_name", "tokenizer_name", "model_revision"),
        *("trust_remote_code", "dataset_name", "dataset_config_name"),
        *("train_file", "validation_file", "test_file"),
        *("text_column_name", "label_column_name", "sentence_column_name", "encoding"),
        *("token_column", "tag_column", "repair_tags", "label_list"),  # see "data" and "model"
        *("max_predict_samples", "return_entity_level_metrics"),
        *("overwrite_cache", "preprocessing_num_workers", "dataloader_num_workers"),
        *("logging_strategy", "logging_steps", "disable_tqdm", "log_level"),
        *("save_strategy", "save_steps", "save_total_limit"),
        *("report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_commit_message"),
    )
)

# Beside its tokenizer.json: settings in tokenizer_config.json that change rows or their meaning.
OF_A_TOKENIZER = (
    *("model_input_names", "model_max_length", "padding_side", "truncation_side"),
    *("split_special_tokens", "clean_up_tokenization_spaces", "pad_token_type_id"),
    *("special_tokens_map", "all_special_ids"),
)

Identity = dict[str, Any]  # as JSON can hold it


def identity_of(settings: TrainingSettings, splits: Mapping, tokenizer, model) -> Identity:
    """The identity of a run.

    splits: the data, each with a `fingerprint` that other data do not have. Test data is left out:
    nothing is learnt from it. model: as it is before the first step.
    """
    try:
        vocabulary = tokenizer.backend_tokenizer.to_str()
    except Exception:  # a tokenizer with a part in Python, as RoFormer's has
        vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    others = [(name, str(getattr(tokenizer, name, None))) for name in OF_A_TOKENIZER]
    return {
        "task": settings.task,
        "settings": settings_that_count(settings),
        "data": {name: split.fingerprint for name, split in splits.items() if name != "test"},
        "tokenizer": sha256_of(f"{vocabulary}\n{others}"),
        "model": _model_digest(model),
        "num_processes": 1,
        "device": model.device.type,
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def settings_that_count(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that the results follow from."""
    values = public_values(settings)
    if settings.eval_strategy == "steps" and settings.eval_steps is None:
        values["eval_steps"] = settings.logging_steps  # see plan.make_plan
    return {name: value for name, value in values.items() if name not in FREE}


def differences(old: Identity, new: Identity) -> list[str]:
    """How `new` differs from `old`, as lines "--learning_rate: 5e-05 -> 0.0001"."""
    if old.get("task") != new.get("task"):
        return _changes(old, new, ["task"])  # alone: nearly all of its settings differ too
    return [
        *_changes(old.get("settings", {}), new["settings"], prefix="--"),
        *_changes(old.get("data", {}), new["data"], prefix="sha256 of the data, "),
        *_changes(old, new, [name for name in new if name not in ("settings", "data")]),
    ]


def output_dir_problem(settings: TrainingSettings) -> str | None:
    """What is wrong with the output directory, as far as it shows before any data is read."""
    path = Path(settings.output_dir)
    if path.exists() and not path.is_dir():
        return f"--output_dir {path} is a file; a folder is expected"
    if not path.is_dir():
        return None
    if trainers := trainer_checkpoint(path):
        return f"--output_dir {path} is not empty: {trainers}"
    if listed(path) is None:
        if all(entry.name.startswith((LOCK, WRITING, DELETING)) for entry in path.iterdir()):
            return None  # these are left by a start that did not get far
        return (
            f"--output_dir {path} is not empty, and no run listed in {LIST} what it wrote there. "
            f"Nothing in it is written over or deleted; choose another"
        )
    earlier = read_identity(path)
    if earlier is None or settings.overwrite_output_dir:
        return None
    known_now = {"task": settings.task, "settings": settings_that_count(settings)}
    changes = differences(earlier, earlier | known_now)
    return another_run(f"--output_dir {path}", changes) if changes else None


def trainer_checkpoint(folder: Path) -> str | None:
    """What to do with a checkpoint of Trainer, if there is one in `folder`, or it is one."""
    for place in (folder, *sorted(folder.glob("checkpoint-*"))):
        is_ours = (place / IDENTITY_FILE).exists()
        if not is_ours and any((place / file).exists() for file in TRAINERS):
            return (
                f"{place} is a checkpoint of transformers' Trainer, which cannot be resumed here; "
                f"start from it with --model_name_or_path, and choose another --output_dir"
            )
    return None


def another_run(place: str, changes: list[str]) -> str:
    """The message that `place` holds another run, with the `differences`."""
    lines = "\n".join(f"  {change}" for change in changes)
    return (
        f"{place} holds another run; what has changed since then:\n{lines}\n"
        f"to resume that run, start it as it was started first; else choose another --output_dir, "
        f"or replace it with --overwrite_output_dir"
    )


def read_identity(folder: str | Path) -> Identity | None:
    """The identity in an output directory or checkpoint; None if there is none.

    Raises DamagedError if it cannot be read.
    """
    file = Path(folder) / IDENTITY_FILE
    if not file.exists():
        return None
    with reading(file):
        identity = dict(json.loads(file.read_bytes()))
        dict(identity["settings"]), dict(identity["data"])
        return identity


def _changes(old, new, names=None, prefix=""):
    return [
        f"{prefix}{name}: {_shown(old.get(name))} -> {_shown(new.get(name))}"
        for name in (dict.fromkeys((*new, *old)) if names is None else names)
        if old.get(name) != new.get(name)
    ]


def _shown(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 40 else f"{text[:12]}..."


def _model_digest(model):
    config = model.config.to_dict()
    for name in ("_name_or_path", "transformers_version"):  # where it came from is not what it is
        config.pop(name, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()

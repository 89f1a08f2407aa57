"""What makes two runs the same run: everything that its results follow from.

It is written at the beginning. A run goes on only under the very same; then it ends with the very
bits that it would have ended with uninterrupted. Nothing here imports torch.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from rawtrain.config import public_values
from rawtrain.run.durable import DELETING, LOCK, WRITING, DamagedError

IDENTITY_FILE = "identity.json"

# What may change on the way: it moves no bit of what is learnt. Paths are among it, for what counts
# is what they lead to, which is compared itself.
FREE = frozenset(
    (
        *("output_dir", "overwrite_output_dir", "resume_from_checkpoint"),
        *("do_train", "do_eval", "do_predict", "use_cpu"),
        *("model_name_or_path", "config_name", "tokenizer_name", "model_revision"),
        *("trust_remote_code", "dataset_name", "dataset_config_name"),
        *("train_file", "validation_file", "test_file", "general_file"),
        *("text_column_name", "label_column_name", "sentence_column_name"),
        *("token_column", "tag_column", "max_predict_samples", "return_entity_level_metrics"),
        *("overwrite_cache", "preprocessing_num_workers", "dataloader_num_workers"),
        *("logging_strategy", "logging_steps", "disable_tqdm", "log_level"),
        *("save_strategy", "save_steps", "save_total_limit"),
        *("report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_commit_message"),
    )
)
NOT_LEARNT_FROM = ("test", "general")  # splits


def identity_of(settings, splits, tokenizer, model):
    """The identity of a run as JSON can hold it.

    splits: the data, each with a `fingerprint` that other data do not have. Test data and general
    text change nothing of what is learnt, and are not part of it. model: as it is before the first
    step.
    """
    learnt_from = {name: split for name, split in splits.items() if name not in NOT_LEARNT_FROM}
    data = {name: split.fingerprint for name, split in learnt_from.items()}
    return {
        "task": settings.task,
        "settings": settings_that_count(settings),
        "data": data,
        "tokenizer": _sha256(_serial(tokenizer).encode()),
        "model": _model_digest(model),
        "num_processes": 1,
        "device": model.device.type,
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def settings_that_count(settings):
    values = public_values(settings)
    if settings.eval_strategy == "steps" and settings.eval_steps is None:
        values["eval_steps"] = settings.logging_steps  # see plan.make_plan
    return {name: value for name, value in values.items() if name not in FREE}


def differences(old, new):
    """How another identity differs, as lines "--learning_rate: 5e-05 -> 0.0001".

    Of another task it is the task alone: nearly everything else differs too.
    """
    if old.get("task") != new.get("task"):
        return _differing({"task": old.get("task")}, {"task": new.get("task")}, "")
    lines = _differing(old.get("settings", {}), new["settings"], "--")
    lines += _differing(old.get("data", {}), new["data"], "sha256 of the data, ")
    rest = {name: value for name, value in new.items() if name not in ("settings", "data")}
    return lines + _differing({name: old.get(name) for name in rest}, rest, "")


def output_dir_problem(settings):
    """What is wrong with the output directory as far as it shows before any data is read, or None.

    That is where a second start with other settings, or another run altogether, should be told.
    """
    path = Path(settings.output_dir)
    if path.exists() and not path.is_dir():
        return f"--output_dir {path} is a file; a folder is expected"
    if settings.overwrite_output_dir or not path.is_dir():
        return None
    earlier = read_identity(path)
    if earlier is None:
        leftover = (LOCK, WRITING, DELETING)  # of a start that did not get far
        if all(entry.name.startswith(leftover) for entry in path.iterdir()):
            return None
        return (
            f"--output_dir {path} is not empty; choose another, or add --overwrite_output_dir to "
            f"replace what an earlier run wrote there"
        )
    known_now = {"task": settings.task, "settings": settings_that_count(settings)}
    changes = differences(earlier, earlier | known_now)
    return another_run(f"--output_dir {path}", changes) if changes else None


def another_run(place, changes):
    lines = "\n".join(f"  {change}" for change in changes)
    return (
        f"{place} holds another run; since then there changed\n{lines}\n"
        f"start with what it was begun with to go on with it, choose another --output_dir, or "
        f"replace it with --overwrite_output_dir"
    )


def read_identity(folder):
    """The identity in an output directory or checkpoint; None if there is none.

    Raises DamagedError if it cannot be read.
    """
    file = Path(folder) / IDENTITY_FILE
    try:
        identity = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise DamagedError(f"{file}: cannot be read: {error}") from None
    if not isinstance(identity, dict):
        raise DamagedError(f"{file}: holds no identity of a run")
    return identity


def _differing(old, new, prefix):
    names = dict.fromkeys((*new, *old))
    return [
        f"{prefix}{name}: {_shown(old.get(name))} -> {_shown(new.get(name))}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _shown(value):
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) < 40 else f"{text[:12]}..."


def _serial(tokenizer):
    """The tokenizer as text; one with a part in Python (RoFormer's) has its vocabulary alone."""
    try:
        return tokenizer.backend_tokenizer.to_str()
    except Exception:  # the backend raises no kind of its own
        return json.dumps(sorted(tokenizer.get_vocab().items()))


def _model_digest(model):
    config = model.config.to_dict()
    for name in ("_name_or_path", "transformers_version"):  # where it came from is not what it is
        config.pop(name, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()

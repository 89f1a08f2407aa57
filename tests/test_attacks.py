"""Folders from elsewhere that want code run or other files read: refused, or loaded without either.

ATTACKS has them all: how the folder is changed, and what the one line must say. Each is tried on
every way to load a folder; its manifest is made again, as whoever changes a checkpoint would.
"""

import json
import pickle
import re
import shutil
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from conftest import tiny_bert
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification

from rawtrain import NerSettings
from rawtrain.errors import RunError
from rawtrain.models import loading
from rawtrain.models.tokenizers import load_tokenizer
from rawtrain.optim import make_optimizer
from rawtrain.precision import make_scaler
from rawtrain.run import checkpoint, durable
from rawtrain.run.log import RunLog
from rawtrain.run.state import RunState, load_weights
from rawtrain.run.step_record import StepRecord
from rawtrain.use.filler import MaskFiller

IDENTITY = {"task": "ner", "settings": {}, "data": {}}
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# What the hook of this process has seen since `watched` was entered; None outside of it.
seen: list[tuple[str, str]] | None = None
RUNS_CODE = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class",
    "socket.connect", "socket.getaddrinfo", "ctypes.dlopen",
}  # fmt: skip


def hook(event, arguments):
    if seen is None:
        return
    if event in RUNS_CODE or event == "open":
        seen.append((event, str(arguments[0])))
    elif event == "exec":
        seen.append((event, arguments[0].co_filename))


sys.addaudithook(hook)


@pytest.fixture
def watched(monkeypatch):
    """A function that calls another, and returns what code it ran and what it opened elsewhere."""

    def noting(original):  # safetensors opens its files outside of Python
        def safe_open(file, *args, **kwargs):
            hook("open", (file,))
            return original(file, *args, **kwargs)

        return safe_open

    for module in (safetensors.torch, sys.modules["rawtrain.models.files"]):
        monkeypatch.setattr(module, "safe_open", noting(safetensors.safe_open))
    own = [sys.prefix, sys.base_prefix, str(Path(durable.__file__).parents[2])]
    own += ["/proc", "/sys", "/dev", "/usr", "<", "None"]

    def call(function, *inside):
        global seen
        allowed = tuple([*own, *map(str, inside)])
        seen = []
        try:
            function()
        finally:
            events, seen = seen, None
        return [
            (event, what)
            for event, what in events
            if event in RUNS_CODE
            or (event == "exec" and what.startswith(tuple(map(str, inside))))
            or (event == "open" and not what.isdigit() and not what.startswith(allowed))
        ]

    return call


# The ways to load a folder


def new_state():
    model, settings = tiny_bert(seed=1), NerSettings()
    optimizer = make_optimizer(model, settings)
    scaler = make_scaler(settings, model.device)
    return RunState(model, optimizer, scaler, StepRecord(None), RunLog(), step=5)


def resume(folder):
    checkpoint.verify(folder, 5, IDENTITY)
    state = new_state()
    state.load(folder)
    return state.model.state_dict()


def finished(folder):
    durable.verify(folder, others_allowed=True)
    return load_weights(tiny_bert(seed=1), folder)


def start_from(folder):
    settings = NerSettings(model_name_or_path=str(folder), do_train=True)
    config = loading.load_config(settings)
    load_tokenizer(settings)
    return loading.load_model(AutoModelForTokenClassification, config, settings).state_dict()


def fill(folder):
    return MaskFiller.from_pretrained(folder, use_cpu=True).model.state_dict()


LOADERS = (resume, finished, start_from, fill)


@pytest.fixture(scope="module")
def sound(model_dir, tmp_path_factory):
    """A checkpoint of a ner run, and a masked language model for `fill`, as `fill`'s folder."""
    folder = tmp_path_factory.mktemp("sound")
    settings = NerSettings(model_name_or_path=model_dir)
    tokenizer = load_tokenizer(settings)
    state = new_state()
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    (folder / "checkpoint-5").mkdir()
    state.save(folder / "checkpoint-5", tokenizer)
    (folder / "checkpoint-5" / "identity.json").write_text(json.dumps(IDENTITY))
    shutil.copytree(model_dir, folder / "fill")
    return folder


# The attacks


def edited(file, **changes):
    def attack(folder, marker):
        values = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        (folder / file).write_text(json.dumps(values | changes))

    return attack


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def with_pickles(folder, marker):
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "rng_state.pth"):
        (folder / name).write_bytes(pickle.dumps(Bomb(marker)))


def pickle_instead(folder, marker):
    with_pickles(folder, marker)
    (folder / WHOLE).unlink()


def with_code(folder, marker):
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w')\nclass T: pass\n")
    for file, names in {
        "config.json": ("AutoConfig", "AutoModelForTokenClassification", "AutoModelForMaskedLM"),
        "tokenizer_config.json": ("AutoTokenizer",),
    }.items():
        edited(file, auto_map={name: "code.T" for name in names})(folder, marker)


def index_to(name):
    def attack(folder, marker):
        weights = load_file(folder / WHOLE)
        shutil.move(folder / WHOLE, folder.parent / "elsewhere.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name.format(folder.parent))}
        (folder / INDEX).write_text(json.dumps(index))

    return attack


def shard_that_is_a_link(folder, marker):
    index_to("part.safetensors")(folder, marker)
    (folder / "part.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")


def weight_missing(folder, marker):
    weights = load_file(folder / WHOLE)
    save_file(dict(list(weights.items())[1:]), folder / WHOLE, metadata={"format": "pt"})


LOADS = None
OUTSIDE = "expected .safetensors files beside it"
KERNEL = {"attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel"}
ATTACKS = {
    "kernel of the hub": (edited("config.json", **KERNEL), LOADS),
    "kernel in a part": (edited("config.json", attn_implementation={"": "evil/k"}), LOADS),
    "experts of the hub": (edited("config.json", experts_implementation="evil/kernel"), LOADS),
    "layers without end": (edited("config.json", num_hidden_layers=2**70), "hidden layers"),
    "pickles beside the weights": (with_pickles, LOADS),
    "code beside the weights": (with_code, LOADS),
    "a pickle instead": (pickle_instead, "no model.safetensors, but .*pytorch_model.bin"),
    "index out by ..": (index_to("../elsewhere.safetensors"), OUTSIDE),
    "index to an absolute path": (index_to("{}/elsewhere.safetensors"), OUTSIDE),
    "index to a pickle": (index_to("pytorch_model.bin"), OUTSIDE),
    "a shard that is a link": (shard_that_is_a_link, "a link out of its folder|not a plain file"),
    "an adapter": (edited("adapter_config.json", base_model_name_or_path="evil/x"), "an adapter"),
    "a weight is missing": (weight_missing, "missing"),
}  # fmt: skip


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_code_is_run_and_no_other_file_read(attack, load, sound, tmp_path, watched):
    change, answer = ATTACKS[attack]
    name = "fill" if load is fill else "checkpoint-5"
    folder, marker = tmp_path / "folder" / name, tmp_path / "code-was-run"
    shutil.copytree(sound / name, folder)
    expected = load_file(folder / WHOLE)
    change(folder, marker)
    if load in (resume, finished):  # a link cannot be in a manifest: it is no plain file
        durable.write_manifest(folder, [file for file in folder.iterdir() if file.is_file()])
    loaded, said = {}, []

    def run():
        try:
            loaded.update(load(folder))
        except (ValueError, RunError) as error:
            said.append(str(error))

    assert watched(run, folder) == []
    assert not marker.exists()
    if answer is LOADS or (attack == "layers without end" and load in (resume, finished)):
        assert not said, said
        assert all(torch.equal(loaded[key], weight) for key, weight in expected.items())
    else:
        assert len(said) == 1 and "\n" not in said[0]
        assert re.search(answer, said[0]), said[0]
        assert str(folder) in said[0]

"""The files of a model, in a folder or from the hub: found, and refused where they are not sound.

Nothing that a file says is obeyed beyond its purpose: no path out of the model's folder is
followed, nothing is unpickled, and no code is run or fetched without --trust_remote_code.
"""

import contextlib
import json
import logging
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open
from transformers.utils import cached_file

from rawtrain.data.files import open_data, read_text

logger = logging.getLogger(__name__)

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_FORMATS = {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pt", ".pth"}
# Ways to compute attention and experts that come with transformers itself.
BUILT_IN = (None, "eager", "sdpa", "batched_mm", "grouped_mm")
READ_AS_JSON = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)


def check_name(name, *files):
    """Raise ValueError for a path that leads to no folder, or to one without `files`.

    A name of the hub is left for the hub to judge.
    """
    path = Path(name)
    if path.is_file():
        raise ValueError(f"{name}: a file; name the folder that holds config.json and the weights")
    is_path = name[0] in "./~" or name[-1] == "/" or name.count("/") > 1 or "\\" in name
    if is_path and not path.is_dir():
        raise ValueError(f"{name}: no such directory")
    for file in files:
        if path.is_dir() and not (path / file).is_file():
            raise ValueError(f"{name}: no {file}; name a folder that save_pretrained() wrote")


@contextlib.contextmanager
def reading(name):
    """Turn what transformers raises over a model's files into a ValueError that names the culprit.

    There is no end to what a broken file can make it raise (KeyError, TypeError, tokenizers' plain
    Exception). So everything is caught, and nothing but a call of its loaders may stand in here.
    """
    try:
        yield
    except Exception as mistake:
        text = " ".join(str(mistake).split())  # some are paragraphs; ours are lines
        if not isinstance(mistake, (OSError, ValueError)):
            text = f"cannot be loaded: {type(mistake).__name__}: {text}"
        if not Path(name).is_dir():
            text = f"no such directory; from the hub: {text}"
        raise ValueError(_broken_json(name) or f"{name}: {text}") from mistake


def check_config(name, config):
    """Raise ValueError for a configuration that would have other files loaded.

    Kernels that it asks for are left out: they would be fetched from the hub and run.
    """
    parts = [config, *(getattr(config, part, None) for part in config.sub_configs)]
    for kind in ("_attn_implementation", "_experts_implementation"):
        asked = [getattr(part, kind, None) for part in parts]
        if foreign := [way for way in asked if way not in BUILT_IN]:
            logger.info(f"not used: {kind[1:]} {foreign[0]!r} of config.json, code to be fetched")
            setattr(config, kind, None)  # in its parts too
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"{name}: its weights are quantized (quantization_config in its config.json), which "
            f"cannot be trained; name the model that it was made from"
        )
    if getattr(config, "transformers_weights", None):
        raise ValueError(
            f"{name}: its config.json names a file of weights in transformers_weights; rename that "
            f"file to {WHOLE}, and delete the entry"
        )


def check_tokenizer_files(name, revision):
    """Raise ValueError for a tokenizer_config.json that names files outside the model's folder."""
    file = _find(name, "tokenizer_config.json", revision)
    listed = _read_json(Path(file)).get("fast_tokenizer_files", []) if file else []
    if not isinstance(listed, list) or any(_leads_outside(str(other)) for other in listed):
        raise ValueError(
            f"{file}: fast_tokenizer_files is {listed!r}; expected names of files beside it"
        )


def check_weight_files(name, revision):
    """Download the weights if need be; the types that they are stored in, such as {"F32"}.

    Raises ValueError for weights that are missing, ambiguous, damaged or in another format.
    """
    _refuse_what_would_be_loaded_instead(name, revision)
    whole = _find(name, WHOLE, revision)
    # the hub has models in both forms, and transformers takes the whole; in a folder one may be old
    index = _find(name, INDEX, revision) if whole is None or Path(name).is_dir() else None
    shards = _shards(Path(index)) if index else []
    if whole and set(shards) - {WHOLE}:
        raise ValueError(
            f"{name}: has both {WHOLE} and {INDEX}, which names {len(shards)} other files; move "
            f"away the one that is not meant"
        )
    if not whole and not index:
        raise ValueError(_no_safetensors(name))
    files = [whole] if whole else [_find(name, shard, revision) for shard in shards]
    for shard, file in zip(shards, files, strict=False):
        if file is None:
            raise ValueError(f"{index}: names {shard}, which is not there; copy it too")
        _check_inside(Path(file), Path(index).parent)
    return {dtype for file in files for dtype in _stored_types(file)}


def _find(name, file, revision):
    """The path of one of the model's files, downloaded if need be; None where it has none."""
    with reading(name):
        return cached_file(
            name, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )


def _broken_json(name):
    """What is wrong with the first file in a folder that is no JSON object; None without any."""
    for file in READ_AS_JSON:
        if (Path(name) / file).is_file():
            try:
                _read_json(Path(name) / file)
            except ValueError as mistake:
                return str(mistake)
    return None


def _read_json(file):
    try:
        content = json.loads(read_text(file))
    except (json.JSONDecodeError, RecursionError) as mistake:
        raise ValueError(f"{file}: not readable as JSON: {mistake}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}; expected names and values")
    return content


def _refuse_what_would_be_loaded_instead(name, revision):
    """Two kinds of files that from_pretrained prefers to, or adds to, those checked here."""
    if _find(name, "adapter_config.json", revision):
        raise ValueError(
            f"{name}: an adapter (adapter_config.json); merge it into its model first, with peft's "
            f"merge_and_unload() and save_pretrained()"
        )
    for file in Path(name).glob("shard-*-model-*.safetensors"):
        raise ValueError(f"{file}: part of a distributed checkpoint; save it as one model first")


def _shards(index):
    """The files that an index names, each once. Raises ValueError for a path that leads outside."""
    content = _read_json(index)
    weight_map = content.get("weight_map")
    if not (weight_map and isinstance(weight_map, dict) and "metadata" in content):
        raise ValueError(f"{index}: no weight_map or no metadata; expected an index of weights")
    shards = sorted({str(file) for file in weight_map.values()})
    for shard in shards:
        if _leads_outside(shard) or not shard.endswith(".safetensors"):
            raise ValueError(f"{index}: names {shard!r}; expected .safetensors files beside it")
    return shards


def _leads_outside(file):
    path = PurePosixPath(file.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


def _check_inside(file, folder):
    """Raise ValueError if a shard is a link that leads out of the model's folder.

    In a cache of the hub all files are such links: from <model>/snapshots/<commit>/ into
    <model>/blobs/. So the folder of a snapshot has that second place, and no other folder has any.
    model.safetensors itself may be a link to anywhere: no file's content chose where it leads.
    """
    folder = folder.resolve()
    places = [folder]
    if folder.parent.name == "snapshots":
        places.append((folder.parent.parent / "blobs").resolve())
    target = file.resolve()
    if not any(target.is_relative_to(place) for place in places):
        raise ValueError(
            f"{file}: a link that leads out of its folder, to {target}; copy that file here"
        )


def _stored_types(file):
    open_data(file).close()  # refuses a git-LFS pointer, a web page, an empty file
    try:
        with safe_open(file, framework="pt") as weights:
            return {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
    except SafetensorError as damage:
        raise ValueError(f"{file}: {damage}; it is damaged or incomplete, copy it again") from None


def _no_safetensors(name):
    advice = (
        "Other formats are not read, since a pickle can run code. If you trust it, convert it: "
        "transformers' from_pretrained() and then save_pretrained(), for .h5 and .ckpt those of "
        "transformers 4. Or name a --model_revision with safetensors"
    )
    if not Path(name).is_dir():
        where = "there or, without a network, in its cache"
        return f"{name}: no such directory; from the hub: no {WHOLE} {where}. {advice}"
    others = sorted(file.name for file in Path(name).iterdir() if file.suffix in OTHER_FORMATS)
    if not others:
        return f"{name}: no {WHOLE}; name a folder that save_pretrained() wrote"
    return f"{name}: no {WHOLE}, but {', '.join(others)}. {advice}"

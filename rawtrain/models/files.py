"""The files of a model, in a folder or on the hub: found, and refused if they are not sound.

Files are data and no more: no path out of the model's folder is followed, nothing is unpickled, and
no code is run or downloaded without --trust_remote_code.
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig
from transformers.utils import cached_file

from rawtrain.data.files import open_data, read_object

logger = logging.getLogger(__name__)

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_FORMATS = {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pt", ".pth"}
# Implementations of attention and of experts that are part of transformers.
BUILT_IN = (None, "eager", "sdpa", "batched_mm", "grouped_mm")
NOT_CONVERTED = (
    "has no tokenizer.json, and its SentencePiece model cannot be converted; that takes two "
    "packages: pip install sentencepiece protobuf"
)
READ_AS_JSON = """config.json tokenizer.json tokenizer_config.json special_tokens_map.json
    added_tokens.json vocab.json"""


def check_name(name: str | None, *files: str) -> str:
    """The name. Raises ValueError for a path that is not a folder, or a folder without `files`.

    A name on the hub is not checked here.
    """
    assert name
    path = Path(name)
    if path.is_file():
        raise ValueError(f"{name}: a file; name the folder that holds config.json and the weights")
    is_path = name[0] in "./~" or name[-1] == "/" or name.count("/") > 1 or "\\" in name
    if is_path and not path.is_dir():
        raise ValueError(f"{name}: no such directory")
    for file in files:
        if path.is_dir() and not (path / file).is_file():
            raise ValueError(f"{name}: no {file}; name a folder that save_pretrained() wrote")
    return name


@contextlib.contextmanager
def reading(name: str, trial: str = "") -> Iterator[None]:
    """Turn any exception of transformers' loaders into a ValueError that names the broken file.

    A broken file can raise almost anything (KeyError, TypeError, tokenizers' plain Exception and
    its panics), so everything is caught. Only a loader, or a trial of a model, may stand inside.
    """
    try:
        yield
    except BaseException as mistake:
        if not isinstance(mistake, Exception) and type(mistake).__name__ != "PanicException":
            raise  # a signal
        text = " ".join(str(mistake).split())  # some are paragraphs; ours are lines
        if trial or not isinstance(mistake, (OSError, ValueError)):
            text = f"{trial or 'cannot be loaded'}: {type(mistake).__name__}: {text}"
        if "pip install tiktoken" in text:  # transformers' last resort
            text = NOT_CONVERTED
        if not Path(name).is_dir():
            text = f"no such directory; from the hub: {text}"
        raise ValueError(_broken_json(name) or f"{name}: {text}") from mistake


def check_config(name: str, config: PretrainedConfig) -> None:
    """Raise ValueError for a configuration that needs other files than those checked here.

    Kernels that it names are not used: they would be downloaded from the hub and run.
    """
    parts = [config, *(getattr(config, part, None) for part in config.sub_configs)]
    for kind in ("_attn_implementation", "_experts_implementation"):
        asked = [getattr(part, kind, None) for part in parts]
        if foreign := [kernel for kernel in asked if kernel not in BUILT_IN]:
            logger.info(f"not used: {kind[1:]} {foreign[0]!r} of config.json, code on the hub")
            setattr(config, kind, None)  # in its parts too
    num_layers = getattr(config, "num_hidden_layers", None)
    if isinstance(num_layers, int) and num_layers > 1000:  # they would be made one by one
        raise ValueError(f"{name}: config.json has {num_layers} hidden layers; expected up to 1000")
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"{name}: its weights are quantized (quantization_config in its config.json) and "
            f"cannot be trained; name the model that it was made from"
        )
    if getattr(config, "transformers_weights", None):
        raise ValueError(
            f"{name}: its config.json names a file of weights in transformers_weights; rename that "
            f"file to {WHOLE}, and delete the entry"
        )


def check_tokenizer_files(name: str, revision: str) -> None:
    """Raise ValueError for a tokenizer_config.json that names files outside the model's folder."""
    file = find(name, "tokenizer_config.json", revision)
    listed = read_object(file).get("fast_tokenizer_files", []) if file else []
    if not isinstance(listed, list) or any(_leads_outside(str(other)) for other in listed):
        raise ValueError(
            f"{file}: fast_tokenizer_files is {listed!r}; expected names of files beside it"
        )


def check_weight_files(name: str, revision: str = "main") -> dict[Path, set[str]]:
    """The files of the weights and the types in each, such as {"F32"}; downloaded if necessary.

    Raises ValueError for weights that are missing, ambiguous, damaged or in another format.
    """
    if find(name, "adapter_config.json", revision):
        raise ValueError(
            f"{name}: an adapter (adapter_config.json); merge it into its model first, with peft's "
            f"merge_and_unload() and save_pretrained()"
        )
    for file in Path(name).glob("shard-*-model-*.safetensors"):  # from_pretrained prefers these
        raise ValueError(f"{file}: part of a distributed checkpoint; save it as one model first")
    whole = find(name, WHOLE, revision)
    # some models on the hub have both, and transformers takes the whole; in a folder one may be old
    index = find(name, INDEX, revision) if whole is None or Path(name).is_dir() else None
    shards = _shards(Path(index)) if index else []
    if whole and set(shards) - {WHOLE}:
        raise ValueError(
            f"{name}: has both {WHOLE} and {INDEX}, which names {len(shards)} other files; move "
            f"the one that you do not want away"
        )
    if whole:
        return {Path(whole): _stored_types(whole)}
    if not index:
        raise ValueError(_no_safetensors(name))
    types = {}
    for shard in shards:
        file = find(name, shard, revision)
        if file is None:
            raise ValueError(f"{index}: names {shard}, which does not exist; copy it too")
        _check_inside(Path(file), Path(index).parent)
        types[Path(file)] = _stored_types(file)
    return types


def find(name, file, revision):
    """The path of one of the model's files, downloaded if necessary; None if there is none."""
    with reading(name):
        return cached_file(
            name, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )


def _broken_json(name):
    """What is wrong with the first file in a folder that should be a JSON object; else None."""
    for file in READ_AS_JSON.split():
        if (Path(name) / file).is_file():
            try:
                read_object(Path(name) / file)
            except ValueError as mistake:
                return str(mistake)
    return None


def _shards(index):
    """The files that an index names. Raises ValueError for a path out of its folder."""
    content = read_object(index)
    weight_map = content.get("weight_map")
    if not (weight_map and isinstance(weight_map, dict) and "metadata" in content):
        raise ValueError(f"{index}: no weight_map or no metadata; expected an index of weights")
    shards = sorted({str(file) for file in weight_map.values()})
    for shard in shards:
        if _leads_outside(shard) or not shard.endswith(".safetensors"):
            raise ValueError(f"{index}: names {shard!r}; expected .safetensors files beside it")
    return shards


def _leads_outside(file):
    return file[:1] in "/\\" or ".." in re.split(r"[/\\]", file)


def _check_inside(file, folder):
    """Raise ValueError if a shard is a link out of the model's folder.

    In the hub's cache all files are links from <model>/snapshots/<commit>/ into <model>/blobs/, so
    only there a second folder is allowed. model.safetensors itself may be a link to anywhere: its
    name comes from no file.
    """
    folder, target = folder.resolve(), file.resolve()
    blobs = (folder.parent.parent / "blobs").resolve()
    is_blob = folder.parent.name == "snapshots" and target.is_relative_to(blobs)
    if not (is_blob or target.is_relative_to(folder)):
        raise ValueError(f"{file}: a link out of its folder, to {target}; copy that file here")


def _stored_types(file):
    open_data(file).close()  # raises for a git-LFS pointer, a web page, an empty file
    try:
        with safe_open(file, framework="pt") as weights:
            return {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118
    except SafetensorError as damage:
        raise ValueError(f"{file}: {damage}; it is damaged or incomplete, copy it again") from None


def _no_safetensors(name):
    advice = (
        "Other formats are not read, since a pickle can run code. If you trust it, convert it with "
        "transformers' from_pretrained() and then save_pretrained() (.h5 and .ckpt: transformers "
        "4), or name a --model_revision with safetensors"
    )
    if not Path(name).is_dir():
        where = "there or, without a network, in its cache"
        return f"{name}: no such directory; from the hub: no {WHOLE} {where}. {advice}"
    others = sorted(file.name for file in Path(name).iterdir() if file.suffix in OTHER_FORMATS)
    if not others:
        return f"{name}: no {WHOLE}; name a folder that save_pretrained() wrote"
    return f"{name}: no {WHOLE}, but {', '.join(others)}. {advice}"


def source_of(settings):  # for transformers' loaders, beside the name
    return {"revision": settings.model_revision, "trust_remote_code": settings.trust_remote_code}

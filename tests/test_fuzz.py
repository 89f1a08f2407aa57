"""Random damage to every kind of file that is read is answered, or harmless; never a traceback.

Nothing but ValueError, OSError and RunError may come out of a reader or a loader, no code may run,
and no file outside of the folder may be opened. The draws are seeded: a failure names its number.
"""

import json
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import tagged_sentences, write_conll
from safetensors.torch import load_file, save_file
from test_attacks import resume, sound, start_from, watched  # noqa: F401

from rawtrain import MlmSettings, NerSettings
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.data.words import encode_words
from rawtrain.errors import RunError
from rawtrain.models.tokenizers import load_word_tokenizer
from rawtrain.run import durable

VALUES = [
    None, True, -1, 0, 300, 2**70, 1.5, float("inf"), "", "\x1b[2J", "a" * 3000, "../../x",
    "\ud800", [], {}, [[]], ["a", 1], {"a": {"b": []}}, "evil/kernel", "[PAD]", "__import__('os')",
]  # fmt: skip


def places(value, found):
    """Every (container, key) in a JSON value."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            places(value[key], found)
    return found


def damage_json(rng, content):
    value = json.loads(content)
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places(value, []) or [([0], 0)])
        what = rng.randrange(4)
        if what == 0:
            del container[key]
        elif what == 1 and isinstance(container, dict):
            container[rng.choice(["auto_map", "x", "", "quantization_config", key + "2"])] = (
                rng.choice(VALUES)
            )
        else:
            container[key] = rng.choice(VALUES)
    return json.dumps(value).encode()


def damage_bytes(rng, content):
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        what = rng.randrange(5)
        if what == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            del content[at:]
        elif what == 2:
            del content[at : at + rng.randrange(1, 40)]
        elif what == 3:
            content[at:at] = rng.randbytes(rng.randrange(1, 20))
        else:
            other = rng.randrange(len(content) + 1)
            content[at:at] = content[other : other + rng.randrange(1, 200)]
    return bytes(content)


def damage(rng, file):
    content = file.read_bytes()
    is_json = file.suffix == ".json" and rng.random() < 0.75
    file.write_bytes((damage_json if is_json else damage_bytes)(rng, content))


# Kinds: what is made once, which files are damaged, and how it is read


def make_index(folder, model):
    shutil.copytree(model, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {}
    for number, name in enumerate(weights):
        files[name] = f"model-{number % 2}.safetensors"
    for file in set(files.values()):
        own = {name: weights[name] for name in weights if files[name] == file}
        save_file(own, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def make_data(folder, kind):
    words, tags = tagged_sentences(12)
    rows = [{"tokens": w, "ner_tags": t} for w, t in zip(words, tags, strict=True)]
    if kind == "texts":
        rows = [{"text": " ".join(sentence)} for sentence in words]
    if kind == "conll":
        write_conll(folder / "data.conll", words, tags)
    elif kind in ("jsonl", "texts"):
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")


def read_tokenizer(folder):
    tokenizer = load_word_tokenizer(NerSettings(model_name_or_path=str(folder)))
    encode_words(tokenizer, [["we", "met", "Ada"]], [["O"] * 3], {"O": 0}, 40, 10)


def read_data(folder):
    (file,) = folder.iterdir()
    read_tagged(NerSettings(train_file=str(file)))


def read_text(folder):
    (file,) = folder.iterdir()
    list(read_documents(MlmSettings(train_file=str(file)))["train"].texts)


def resume_with_a_fresh_manifest(folder):
    durable.write_manifest(folder, [f for f in folder.iterdir() if f.name != durable.MANIFEST])
    resume(folder)


KINDS = {
    "config": ("config.json", start_from),
    "weights": ("model.safetensors", start_from),
    "index": ("model.safetensors.index.json", start_from),
    "tokenizer": ("tokenizer.json", read_tokenizer),
    "tokenizer_config": ("tokenizer_config.json", read_tokenizer),
    "jsonl": ("data.jsonl", read_data),
    "texts": ("data.jsonl", read_text),
    "conll": ("data.conll", read_data),
    "parquet": ("data.parquet", read_data),
    "checkpoint": ("*", resume_with_a_fresh_manifest),
}


@pytest.fixture(scope="module")
def originals(sound, model_dir, tmp_path_factory):  # noqa: F811
    def make(kind):
        if kind == "checkpoint":
            return sound / "checkpoint-5"
        if kind in ("config", "weights", "tokenizer", "tokenizer_config"):
            return sound / "fill"
        folder = tmp_path_factory.mktemp("original")
        if kind == "index":
            make_index(folder, model_dir)
        else:
            make_data(folder, kind)
        return folder

    return make


def answers(kind, numbers, originals, tmp_path, watched):  # noqa: F811
    original = originals(kind)
    pattern, read = KINDS[kind]
    read(shutil.copytree(original, tmp_path / "sound"))
    refused = 0
    for number in numbers:
        rng = random.Random(f"{kind} {number}")
        folder = shutil.copytree(original, tmp_path / "folder")
        file = rng.choice(sorted(folder.glob(pattern)))
        damage(rng, file)
        outcome = []

        def run(folder=folder, outcome=outcome):
            try:
                read(folder)
            except (ValueError, OSError, RunError) as answer:
                outcome.append(str(answer))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                outcome.append(error)

        events = watched(run, tmp_path)
        assert not events, f"draw {number} of {kind}: {events}"
        if outcome and not isinstance(outcome[0], str):
            raise AssertionError(f"draw {number} of {kind}, in {file.name}") from outcome[0]
        refused += bool(outcome)
        shutil.rmtree(folder)
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_random_damages_are_answered(kind, originals, tmp_path, watched):  # noqa: F811
    assert answers(kind, range(12), originals, tmp_path, watched) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_random_damages_are_answered(kind, originals, tmp_path, watched):  # noqa: F811
    assert answers(kind, range(300), originals, tmp_path, watched) > 30

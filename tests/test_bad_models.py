"""Models and tokenizers that are not sound: refused before training, or loaded as is right."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
from conftest import tagged_sentences, write_conll
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    T5Config,
)

from rawtrain import MlmSettings, NerSettings, mlm, ner
from rawtrain.cli.command import settings_from
from rawtrain.data.tags import TaggedSentences, label_list
from rawtrain.models.loading import check_length
from rawtrain.study.tiny import tiny_model

WORDS, TAGS = tagged_sentences(20)
LABELS = label_list(TAGS)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
A_WEIGHT = "bert.encoder.layer.1.output.dense.weight"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
HTML = "<!DOCTYPE html><html><body>404</body></html>"


@pytest.fixture
def folder(model_dir, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


@pytest.fixture(autouse=True)
def nothing_asks_or_unpickles(monkeypatch):
    """No test of this file may read standard input, or unpickle: a pickle runs what it likes.

    Noted here and not only raised, since transformers goes on after some exceptions.
    """
    done = []

    def note(what):
        def called(*args, **kwargs):
            done.append(what)
            raise AssertionError(what)

        return called

    monkeypatch.setattr("builtins.input", note("input"))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(read=note("stdin"), readline=note("stdin")))
    for function in ("torch.load", "pickle.load", "pickle.loads"):
        monkeypatch.setattr(function, note(function))
    yield
    assert done == []


def start(job, name, **flags):
    """What a job does with a model before it trains: the tokenizer, the model, its longest row."""
    settings_class = NerSettings if job is ner else MlmSettings
    defaults = {"train_file": "train", "do_train": True}
    settings = settings_class(model_name_or_path=str(name), **defaults | flags)
    tokenizer = job.make_tokenizer(settings, None)
    if job is ner:
        splits = dict.fromkeys(("train", "test"), TaggedSentences(WORDS, TAGS, [], "a.conll"))
        corpus = SimpleNamespace(label_names=LABELS, splits=splits)
        model, labels = ner.make_model(settings, corpus, tokenizer)
    else:
        model, labels = mlm.make_model(settings, tokenizer), None
    length = check_length(settings, tokenizer, model)
    return SimpleNamespace(tokenizer=tokenizer, model=model, labels=labels, length=length)


# How a folder is damaged


def write(file, text):
    return lambda folder: (folder / file).write_text(text, encoding="utf-8")


def remove(*files):
    return lambda folder: [(folder / file).unlink() for file in files]


def cut(file, num_bytes):
    return lambda folder: os.truncate(folder / file, num_bytes)


def rename(file, new_name):
    return lambda folder: (folder / file).rename(folder / new_name)


def edit(file, **changes):
    def damage(folder):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return damage


def weights(change):
    """`change` is called with the dict of weights, and changes it."""

    def damage(folder):
        content = load_file(folder / WEIGHTS)
        change(content)
        save_file(content, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def rekey(new_key):
    def change(content):
        for key in list(content):
            content[new_key(key)] = content.pop(key)

    return weights(change)


def in_type(dtype):
    return weights(lambda w: w.update({key: weight.to(dtype) for key, weight in w.items()}))


def one_number(number):
    return weights(lambda w: w[A_WEIGHT].view(-1)[5:6].fill_(number))


def bare(key):
    """The key as in the file of a BertModel, which has no head and no prefix."""
    return key.removeprefix("bert.")


def shard(folder):
    """The same weights in two files and an index of them."""
    content = load_file(folder / WEIGHTS)
    keys = sorted(content)
    parts = dict(zip(SHARDS, (keys[:20], keys[20:]), strict=True))
    for file, its_keys in parts.items():
        save_file({key: content[key] for key in its_keys}, folder / file, {"format": "pt"})
    weight_map = {key: file for file, its_keys in parts.items() for key in its_keys}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / WEIGHTS).unlink()


def shard_elsewhere(name):
    """The second shard lies beside the folder, and the index says so by `name(its path)`."""

    def damage(folder):
        shard(folder)
        elsewhere = folder.parent / "elsewhere.safetensors"
        shutil.move(folder / SHARDS[1], elsewhere)
        text = (folder / INDEX).read_text().replace(SHARDS[1], name(elsewhere))
        (folder / INDEX).write_text(text)

    return damage


def shard_linked(folder):
    shard_elsewhere(lambda path: SHARDS[1])(folder)
    (folder / SHARDS[1]).symlink_to(folder.parent / "elsewhere.safetensors")


def as_snapshot(folder, commit="0" * 40):
    """The folder as the hub's cache holds it: every file a link. Returns where it is then."""
    repository = folder.parent / "models--maker--model"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.move(file, repository / "blobs" / f"{number:040}")
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", f"{number:040}"))
    return snapshot


def trained(names, num_labels=7):
    """A model with a head for `num_labels` labels, and `names` as id2label in its config.json."""

    def damage(folder):
        config = BertConfig.from_pretrained(folder, num_labels=num_labels)
        BertForTokenClassification(config).save_pretrained(folder)
        edit("config.json", id2label=names)(folder)

    return damage


def renumbered(folder):
    trained(dict(enumerate(LABELS)))(folder)
    as_text = dict(sorted(((str(n), name) for n, name in enumerate(LABELS)), reverse=True))
    edit("config.json", id2label=as_text)(folder)


def both(*damages):
    return lambda folder: [damage(folder) for damage in damages]


def embeddings(number):
    def damage(folder):
        config = BertConfig.from_pretrained(folder, vocab_size=number)
        BertForMaskedLM(config).save_pretrained(folder)

    return damage


def in_tokenizer(change, also_in_class=False):
    """`change` is called with the content of tokenizer.json, which no class of its own replaces."""

    def damage(folder):
        content = json.loads((folder / "tokenizer.json").read_text())
        change(content)
        (folder / "tokenizer.json").write_text(json.dumps(content))
        if not also_in_class:
            edit("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")(folder)

    return damage


def gap_in_vocabulary(content):
    vocabulary = content["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] = 500


def no_unknown_token(content):
    del content["model"]["vocab"]["[UNK]"]
    content["added_tokens"] = []


def endless_pattern(content):
    split = {"type": "Split", "pattern": {"Regex": r"(a+)+$"}, "behavior": "Isolated"}
    content["pre_tokenizer"] = split | {"invert": False}


def renamed_token(content):
    vocabulary = content["model"]["vocab"]
    vocabulary["\ud800"] = vocabulary.pop("we")


def other_kind(kind, **sizes):
    """Another architecture in the place of the BERT."""

    def damage(folder):
        (folder / WEIGHTS).unlink()
        tiny_model("mlm", kind, vocab_size=80, **sizes).save_pretrained(folder)

    return damage


def one_more_token(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["tomorrow"])
    tokenizer.save_pretrained(folder)


PREDICT = {"do_train": False, "do_predict": True}
CODE = {"AutoConfig": "code.C", "AutoModelForTokenClassification": "code.C"}

# what it is about: name, how the folder is made, the message (None: it loads), job, more settings
CASES = {
    "config": [
        ("missing", remove("config.json"), r"model: no config.json; name a folder"),
        ("empty", write("config.json", ""), r"config.json: the file is empty"),
        ("cut", cut("config.json", 30), r"config.json: not readable as JSON: .* line 2"),
        ("list", write("config.json", "[]"), r"config.json: holds a list; expected"),
        ("html", write("config.json", HTML), r"config.json: an HTML page"),
        ("nested", write("config.json", "[" * 10**5), r"config.json: not readable as JSON"),
        ("no_model_type", write("config.json", "{}"), r"model: Unrecognized model .* `model_type`"),
        ("unknown_type", edit("config.json", model_type="nobody-knows"), r"type `nobody-knows`"),
        ("wrong_value", edit("config.json", hidden_size="x"), r"model: .*'hidden_size' expected"),
        ("wrong_activation", edit("config.json", hidden_act="x"), r"model: cannot .*KeyError: 'x'"),
        ("t5", lambda f: T5Config().save_pretrained(f), r"T5Config.* one of .*BertConfig", mlm),
        ("negative_heads", edit("config.json", num_attention_heads=-2), r"does not run on token i"),
        ("five_heads", edit("config.json", num_attention_heads=5), r"model: .* multiple of the "),
        ("chunks", edit("config.json", chunk_size_feed_forward=3), None),
        ("negative_chunks", edit("config.json", chunk_size_feed_forward=-1), None, mlm),
        ("attentions", edit("config.json", output_attentions=True), None),
        ("tuples", edit("config.json", return_dict=False), None, mlm),
        ("quantized", edit("config.json", quantization_config={"bits": 4}), r"are quantized"),
    ],
    "encoder": [
        ("no_key", weights(lambda w: w.clear()), r"37 weights of the encoder are missing"),
        ("other_prefix", rekey("x.{}".format), r"37 weights of the encoder are missing, such as b"),
        ("other_model", rekey(lambda k: k.replace("bert.", "roberta.")), r"37 weights of the enc"),
        ("bare", rekey(bare), None),
        ("bare", rekey(bare), None, mlm),
        ("one_missing", weights(lambda w: w.pop(A_WEIGHT)), rf"1 weights .* such as {A_WEIGHT}"),
        ("layers_missing", edit("config.json", num_hidden_layers=3), r"16 weights .* are missing"),
        ("layers_left", edit("config.json", num_hidden_layers=1), r"16 weights .* does not count"),
        ("layers_left_bare", both(rekey(bare), edit("config.json", num_hidden_layers=1)),
         r"16 weights belong to layers that config.json does not count"),
    ],
    "shape": [
        ("encoder", edit("config.json", intermediate_size=65), r"needs \(65,\). .*same model"),
        ("head", trained({0: "O", 1: "B-X"}, 2), None),  # for other labels: a new one is drawn
    ],
    "weights": [
        ("cut", cut(WEIGHTS, 5000), r"model.safetensors: .*incomplete metadata.* copy it again"),
        ("cut_header", cut(WEIGHTS, 50), r"model.safetensors: .*invalid header length"),
        ("empty", cut(WEIGHTS, 0), r"model.safetensors: the file is empty"),
        ("lfs", write(WEIGHTS, LFS), r"model.safetensors: a git-LFS pointer.*`git lfs pull`"),
        ("html", write(WEIGHTS, HTML), r"model.safetensors: an HTML page"),
        ("nan", one_number(float("nan")), rf"{A_WEIGHT} has NaN or infinite numbers"),
        ("inf", one_number(float("inf")), rf"{A_WEIGHT} has NaN or infinite numbers"),
    ],
    "format": [
        *((suffix, rename(WEIGHTS, f"weights.{suffix}"),
           rf"no model.safetensors, but weights.{suffix}. Other formats are not read.* convert it")
          for suffix in ("bin", "h5", "ckpt", "pt")),
        ("no_weights", remove(WEIGHTS), r"model: no model.safetensors; name a folder"),
        ("named_by_config", edit("config.json", transformers_weights="adapter_model.bin"),
         r"transformers_weights; rename"),
        ("adapter", write("adapter_config.json", "{}"), r"an adapter .* merge it"),
        ("distributed", lambda f: shutil.copy(f / WEIGHTS, f / f"shard-00001-{SHARDS[0]}"),
         r"shard-00001-.*: part of a distributed checkpoint"),
    ],
    "outside": [
        ("index_up", shard_elsewhere(lambda path: "../elsewhere.safetensors"),
         r"index.json: names '../elsewhere.safetensors'; expected .safetensors files beside it"),
        ("index_absolute", shard_elsewhere(str), r"index.json: names '/.*/elsewhere.safetensors'"),
        ("index_backslash", shard_elsewhere(lambda path: r"..\\elsewhere.safetensors"), r"names '"),
        ("index_pickle", shard_elsewhere(lambda path: "x.bin"), r"index.json: names 'x.bin'"),
        ("link", shard_linked, rf"{SHARDS[1]}: a link out of its folder"),
        ("tokenizer_up",
         edit("tokenizer_config.json", fast_tokenizer_files=["../../tokenizer.4.json"]),
         r"tokenizer_config.json: fast_tokenizer_files is .* expected names of files beside it"),
        ("tokenizer_number", edit("tokenizer_config.json", fast_tokenizer_files=3),
         r"tokenizer_config.json: fast_tokenizer_files is 3"),
        ("whole_file_linked", both(
            rename(WEIGHTS, "../elsewhere.safetensors"),
            lambda f: (f / WEIGHTS).symlink_to(f.parent / "elsewhere.safetensors")), None),
    ],
    "shards": [
        ("sound", shard, None),
        ("missing", both(shard, remove(SHARDS[1])), rf"names {SHARDS[1]}, which does not"),
        ("index_empty", both(shard, write(INDEX, "")), r"index.json: the file is empty"),
        ("index_of_nothing", both(shard, write(INDEX, '{"metadata": {}, "weight_map": {}}')),
         r"index.json: no weight_map"),
        ("whole_and_shards", both(shard, lambda f: shutil.copy(f / SHARDS[0], f / WEIGHTS)),
         r"has both model.safetensors and model.safetensors.index.json, which names 2 other files"),
        ("index_of_whole", write(INDEX, json.dumps(
            {"metadata": {}, "weight_map": {A_WEIGHT: WEIGHTS}})), None),
        ("pickle_beside", write("pytorch_model.bin", "not even a pickle"), None),
    ],
    "tokenizer": [
        ("no_files", remove("tokenizer.json", "tokenizer_config.json"), r"has no vocabulary"),
        ("no_vocabulary", remove("tokenizer.json"), r"model: Couldn't instantiate the backend tok"),
        ("empty", write("tokenizer.json", ""), r"tokenizer.json: the file is empty"),
        ("garbage", write("tokenizer.json", "{'"), r"tokenizer.json: not readable as JSON"),
        ("no_model", write("tokenizer.json", '{"added_tokens": []}'), r"Exception: Model missing"),
        ("lfs", write("tokenizer.json", LFS), r"tokenizer.json: a git-LFS pointer"),
        ("config_garbage", write("tokenizer_config.json", "x"), r"tokenizer_config.json: not read"),
        ("no_unknown_token", in_tokenizer(no_unknown_token), r"Missing \[UNK\] token"),
        ("endless_pattern", in_tokenizer(endless_pattern), r"PanicException: .*retry-limit"),
        ("surrogate", in_tokenizer(renamed_token), r"model: cannot be loaded: .*"),
        ("surrogate_special", edit("tokenizer_config.json", pad_token="\ud800"), r"model: "),
        ("no_entry", edit("tokenizer_config.json", mask_token="[NOT]"), r"up to 80; .* up to 79"),
        ("no_entry", edit("tokenizer_config.json", mask_token="[NOT]"), None, mlm),
        ("pieces_alone", both(remove("tokenizer.json"), write("spm.model", "x"),
            edit("tokenizer_config.json", tokenizer_class="DebertaV2Tokenizer")),
         r"pip install sentencepiece protobuf"),
        ("slow", edit("tokenizer_config.json", tokenizer_class="CanineTokenizer"), r"a slow one"),
    ],
    "architecture": [
        ("no_embeddings", other_kind("perceiver", d_model=16, d_latents=16, num_latents=4),
         r"PerceiverForMaskedLM does not run on token ids: Attr", mlm),
        ("quantized_embeddings", other_kind("ibert", max_position_embeddings=49), None, mlm),
        ("head_of_fixed_size", both(other_kind("esm", max_position_embeddings=50), one_more_token),
         r"EsmForMaskedLM does not run on token ids: RuntimeError: The size", mlm),
        *((kind, other_kind(kind, max_position_embeddings=48), None, mlm)
          for kind in ("nystromformer", "yoso", "mra")),
    ],
    "embeddings": [
        ("too_few", embeddings(60), r"has token ids up to 79; .* embeddings for 60, so"),
        ("too_few", embeddings(60), None, mlm),
        ("one_more", embeddings(79), r"up to 79; .* embeddings for 79, so up to 78"),
        ("gap", in_tokenizer(gap_in_vocabulary, True), r"ids up to 500; .* embeddings for 80", mlm),
    ],
    "special tokens": [
        ("no_pad", edit("tokenizer_config.json", pad_token=None), None),
        ("no_mask", edit("tokenizer_config.json", mask_token=None), r"has no mask token", mlm),
        ("no_cls", edit("tokenizer_config.json", cls_token=None), None),  # its id is asked nowhere
    ],
    "length": [
        ("over_positions", write("x", ""), r"--max_seq_length is 49; .* up to 48", ner,
         {"max_seq_length": 49}),
        ("over_the_tokenizers", edit("tokenizer_config.json", model_max_length=20), None, ner,
         {"max_seq_length": 48}),
    ],
    "model_max_length": [
        ("infinite", edit("tokenizer_config.json", model_max_length=int(1e30)), None),
        ("no_number", edit("tokenizer_config.json", model_max_length="x"), r"model_max_length in "),
        ("negative", edit("tokenizer_config.json", model_max_length=-1), r"model_max_length in "),
    ],
    "labels": [
        ("gap", trained({0: "O", 2: "B-X"}, 2), r"id2label .*\{0: 'O', 2: 'B-X'\}", ner, PREDICT),
        ("twice", trained({0: "O", 1: "O"}, 2), r"is \{0: 'O', 1: 'O'\}.* once", ner, PREDICT),
        ("no_number", trained({"x": "O"}, 2), r"model: invalid literal for int\(\)", ner, PREDICT),
        ("no_text", trained({0: 0, 1: ["O"]}, 2), r"is \{0: 0, 1: \['O'\]\}", ner, PREDICT),
        ("count", trained(dict(enumerate(LABELS)), 5), r"\(5,\).* needs \(7,\)", ner, PREDICT),
        ("unknown", trained({0: "O", 1: "B-X"}, 2), r"cannot know LOC.*O, B-X", ner, PREDICT),
        ("no_head", edit("config.json", id2label=dict(enumerate(LABELS))), r"has no trained head",
         ner, PREDICT),
        ("other_order", renumbered, None, ner, PREDICT),
        ("twice_but_trained", trained(dict.fromkeys(range(7), "O")), None),
    ],
    "dtype": [
        ("fp16", in_type(torch.float16), None),
        ("bf16", in_type(torch.bfloat16), None),
    ],
}  # fmt: skip


def parameters(cases):
    for about, name, damage, answer, *more in ((k, *case) for k in cases for case in cases[k]):
        job, flags = (*more, *(ner, {})[len(more) :])
        short = job.__name__.removeprefix("rawtrain.")
        yield pytest.param(damage, answer, job, flags, id=f"{about}-{name}-{short}")


@pytest.mark.parametrize(("damage", "answer", "job", "flags"), [*parameters(CASES)])
def test_an_unsound_model_is_refused_and_a_sound_one_loads(damage, answer, job, flags, folder):
    damage(folder)
    if answer is None:
        started = start(job, folder, **flags)
        assert {weight.dtype for weight in started.model.parameters()} == {torch.float32}
        assert started.length == 48
        assert job is mlm or started.labels == LABELS
    else:
        with pytest.raises(ValueError, match=answer) as caught:
            start(job, folder, **flags)
        assert str(folder) in str(caught.value) or "--max_seq_length" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("{}/nowhere", "nowhere: no such directory$"),
        ("./nowhere", "nowhere: no such directory$"),
        ("../nowhere/", "nowhere/: no such directory$"),
        ("a/b/c", "a/b/c: no such directory$"),
        ("nowhere/", "nowhere/: no such directory$"),
        (r"no\where", "where: no such directory$"),
        ("nowhere", "nowhere: no such directory; from the hub: "),
        ("no/where", "no/where: no such directory; from the hub: "),
        ("{}/model/model.safetensors", "model.safetensors: a file; name the folder"),
    ],
)
def test_a_path_that_leads_nowhere_is_not_taken_for_a_name_of_the_hub(
    name, answer, folder, tmp_path
):
    name = name.format(tmp_path)
    others = {"config_name": str(folder), "tokenizer_name": str(folder)}
    for flags in ({}, others, {"config_name": name}, {"tokenizer_name": name}):
        with pytest.raises(ValueError, match=answer):
            start(ner, name if flags in ({}, others) else folder, **flags)


def test_a_new_model_of_a_wrong_configuration_is_refused(folder):
    edit("config.json", hidden_act="x")(folder)
    with pytest.raises(ValueError, match=r"model: cannot be loaded: KeyError: 'x'"):
        start(ner, "", config_name=str(folder), tokenizer_name=str(folder))


def test_a_model_that_names_no_encoder_has_to_be_complete(folder, monkeypatch):
    monkeypatch.setattr(BertForTokenClassification, "base_model_prefix", "")
    weights(lambda w: w.clear())(folder)
    with pytest.raises(ValueError, match="39 weights of the encoder are missing"):
        start(ner, folder)


def test_weights_that_are_not_used_are_counted(folder, caplog):
    with caplog.at_level("INFO", logger="rawtrain"):
        start(ner, folder)
    assert "not used: 5 weights of the file, such as cls.predictions.bias" in caplog.text


# Code, and what lies beside the weights


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def poison(folder):
    """Put into a model everything that might run code; returns the file that it would make."""
    marker = folder.parent / "marker"
    for file in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth"):
        torch.save(Payload(marker), folder / file)
    (folder / "vocab.pkl").write_bytes(pickle.dumps(Payload(marker)))
    touch = f"open({str(marker)!r}, 'w')"
    (folder / "custom_generate").mkdir()
    for file in ("code.py", "custom_generate/generate.py", "conftest.py", "setup.py"):
        (folder / file).write_text(touch)
    jinja = "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}"
    jinja = jinja.replace("MARKER", str(marker))
    (folder / "chat_template.jinja").write_text(jinja)
    edit("config.json", auto_map=CODE, _attn_implementation_internal="maker/kernel")(folder)
    edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", "code.T"]})(folder)
    edit("tokenizer_config.json", chat_template=jinja)(folder)
    return marker


def test_code_beside_good_weights_is_not_run_and_the_folder_not_written_to(folder, tmp_path):
    def checksums():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    marker = poison(folder)
    before = checksums()
    file = write_conll(tmp_path / "data.conll", WORDS, TAGS)
    command = f"--model_name_or_path {folder} --train_file {file} --test_file {file} --use_cpu "
    command += f"--output_dir {tmp_path / 'out'} --max_steps 2 --disable_tqdm true"
    ner.main(settings_from(NerSettings, command.split()))
    assert (tmp_path / "out" / WEIGHTS).is_file()
    assert checksums() == before
    assert not marker.exists()


@pytest.mark.parametrize(
    "damage",
    [
        remove(WEIGHTS),
        edit("config.json", model_type="nobody-knows"),
        both(edit("config.json", model_type="nobody-knows"),
             edit("tokenizer_config.json", tokenizer_class="NobodyKnows")),
        edit("config.json", transformers_weights="adapter_model.bin"),
    ],
    ids=["weights", "config", "tokenizer", "adapter"],
)  # fmt: skip
@pytest.mark.parametrize("job", [ner, mlm])
def test_a_model_that_needs_code_or_a_pickle_is_refused_without_a_question(job, damage, folder):
    marker = poison(folder)
    shutil.copy(folder / "pytorch_model.bin", folder / "adapter_model.bin")
    damage(folder)
    with pytest.raises(ValueError, match=r"custom code|transformers_weights|no model.safetensors"):
        start(job, folder)
    assert not marker.exists()


def test_transformers_is_told_not_to_unpickle_either(folder, monkeypatch):
    monkeypatch.setattr("rawtrain.models.loading.check_weight_files", lambda *_: {})
    marker = poison(folder)
    remove(WEIGHTS)(folder)
    with pytest.raises(ValueError, match=r"no file named model.safetensors"):
        start(ner, folder)
    assert not marker.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("kernel", ["maker/kernel", "kernels-community/x", "flash_attention_2"])
def test_a_kernel_that_config_json_asks_for_is_not_fetched(key, kernel, folder, caplog):
    edit("config.json", **{key: kernel, "_experts_implementation": "sonicmoe"})(folder)
    with caplog.at_level("INFO", logger="rawtrain"):
        assert start(ner, folder).model.config._attn_implementation == "sdpa"
    assert f"not used: attn_implementation {kernel!r} of config.json" in caplog.text
    assert "not used: experts_implementation 'sonicmoe' of config.json" in caplog.text


def test_the_attention_of_transformers_may_be_chosen_in_config_json(folder):
    edit("config.json", attn_implementation="eager")(folder)
    assert start(ner, folder).model.config._attn_implementation == "eager"


# Where the hub keeps its files


@pytest.mark.parametrize("damage", [shard, lambda folder: None], ids=["shards", "whole"])
def test_the_links_of_the_hubs_cache_are_followed(damage, folder, monkeypatch):
    damage(folder)
    snapshot = as_snapshot(folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent))
    (folder.parent / "alias").symlink_to(snapshot)
    expected = start(ner, snapshot).model.bert.state_dict()
    for name in (folder.parent / "alias", "maker/model"):
        found = start(ner, name).model.bert.state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("by_name", [True, False])
def test_an_index_in_the_hubs_cache_may_not_lead_outside_either(by_name, folder, monkeypatch):
    shard_elsewhere(lambda path: "../../../elsewhere.safetensors")(folder)
    snapshot = as_snapshot(folder)
    assert (snapshot / "../../../elsewhere.safetensors").is_file()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent))
    with pytest.raises(ValueError, match=r"names '../../../elsewhere.safetensors'; expected"):
        start(ner, "maker/model" if by_name else snapshot)


def test_links_as_of_the_hubs_cache_are_refused_elsewhere(folder):
    shard(folder)
    snapshot = as_snapshot(folder)
    other = snapshot.parent.rename(snapshot.parent.parent / "other") / snapshot.name
    with pytest.raises(ValueError, match=r"a link out of its folder, to .*blobs"):
        start(ner, other)


def test_a_link_out_of_a_snapshot_to_other_than_its_blobs_is_refused(folder):
    shard(folder)
    snapshot = as_snapshot(folder)
    shutil.move((snapshot / SHARDS[1]).resolve(), folder.parent / "elsewhere.safetensors")
    (snapshot / SHARDS[1]).unlink()
    (snapshot / SHARDS[1]).symlink_to(folder.parent / "elsewhere.safetensors")
    with pytest.raises(ValueError, match=f"{SHARDS[1]}: a link out of its folder"):
        start(ner, snapshot)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_weights_in_16_bits_are_reported(dtype, folder, caplog):
    in_type({"F16": torch.float16, "BF16": torch.bfloat16}[dtype])(folder)
    with caplog.at_level("INFO", logger="rawtrain"):
        start(ner, folder)
    assert f"weights stored as {dtype}, trained in float32" in caplog.text


@pytest.mark.parametrize("flag", ["model_name_or_path", "train_file"])
def test_a_run_may_not_write_where_its_model_or_its_data_is(flag, folder):
    file = write_conll(folder / "data.conll", WORDS, TAGS)
    given = {"model_name_or_path": "maker/model", "train_file": file}
    given |= {"model_name_or_path": str(folder)} if flag == "model_name_or_path" else {}
    command = [text for name, value in given.items() for text in (f"--{name}", value)]
    command += ["--output_dir", str(folder), "--overwrite_output_dir"]
    with pytest.raises(ValueError, match=f"--{flag} {given[flag]} lies in --output_dir"):
        settings_from(NerSettings, command)


@pytest.mark.slow
def test_the_command_answers_with_exit_code_2_and_no_traceback(model_dir, tmp_path):
    data = write_conll(tmp_path / "train.conll", WORDS, TAGS)
    damages = {
        "nowhere": shutil.rmtree,
        "lfs": write(WEIGHTS, LFS),
        "code": edit("config.json", model_type="nobody-knows", auto_map=CODE),
        "no_tokenizer": remove("tokenizer.json", "tokenizer_config.json"),
    }
    for name, damage in damages.items():
        damage(Path(shutil.copytree(model_dir, tmp_path / name)))
    script = f"""if True:  # one process for all: most of the time goes into imports
        import os, runpy, sys
        os.chdir({str(tmp_path)!r})
        for number, name in enumerate({list(damages)}):
            job = ("rawtrain.ner", "rawtrain.mlm")[number % 2]
            sys.argv = [job, "--train_file", {data!r}, "--model_name_or_path", "./" + name]
            sys.argv += ["--output_dir", "out", "--use_cpu"]
            try:
                runpy.run_module(job, run_name="__main__")
            except SystemExit as exit_:
                print("exit", exit_.code)
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout == "exit 2\n" * 4, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [Path(error.split(":")[1].strip()).parts[0] for error in errors] == list(damages)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()

"""What several tests share: tiny random models and rows, made on the spot."""

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may wait for a network
# Nor may one read or write the user's cache. `datasets` looks here when it is imported, below.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="rawtrain-tests-")

import hypothesis
import numpy as np
import pytest
import torch
from fake_hub import TOKEN, fake_hub
from huggingface_hub import constants

from rawtrain import MlmSettings, NerSettings
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.data.columns import Columns, offsets_of
from rawtrain.data.small_bert import train_small_tokenizer
from rawtrain.run import signals
from rawtrain.study.tiny import tiny_model, tiny_tokenizer

# No test depends on the clock or on luck.
hypothesis.settings.register_profile(
    "rawtrain",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("rawtrain")
torch.set_num_threads(1)  # tiny models: a second thread only waits


def refused(*_, **__):
    raise AssertionError("something was about to be unpickled, which may run code")


# Nothing that the program reads is a pickle. (`pickle.loads` stays: worker processes talk by it.)
pickle.load = torch.load = refused


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture
def settings(tmp_path):
    """Settings of a short run on a CPU, as keyword overrides of the defaults."""

    def make(**overrides):
        defaults = {"output_dir": str(tmp_path / "output"), "use_cpu": True, "disable_tqdm": True}
        return NerSettings(**defaults | overrides)

    return make


@pytest.fixture(scope="module", autouse=True)
def no_picture_is_drawn():
    """Saved empty: drawing takes two thirds of a short run. Tests of pictures override this."""

    def save_empty(figure, file, **_):
        if not hasattr(file, "write"):
            Path(file).touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", save_empty)
        yield


@pytest.fixture(autouse=True)
def a_page_that_fails_fails_the_test(monkeypatch):
    """A user's run goes on without it."""
    monkeypatch.setattr("rawtrain.errors.TOLERATED", ())


def tiny_bert(dropout=0.0, seed=0, num_labels=5):
    torch.manual_seed(seed)
    return tiny_model("ner", dropout=dropout, num_labels=num_labels, max_position_embeddings=40)


class NoTokenizer:
    """Enough of a tokenizer to be saved with a model."""

    def save_pretrained(self, folder):
        (Path(folder) / "tokenizer.json").write_text("{}")


def random_rows(num_rows=26, seed=0, longest=12, num_labels=5):
    """Rows of 3 to `longest` tokens; the first and the last token and some others have no label."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, num_rows)
    ids = rng.integers(5, 60, lengths.sum())
    labels = rng.integers(0, num_labels, lengths.sum())
    offsets = offsets_of(lengths)
    labels[rng.random(len(labels)) < 0.3] = -100
    labels[offsets[:-1]] = labels[offsets[1:] - 1] = -100
    labels[offsets[:-1] + 1] = 1  # at least one
    return Columns({"input_ids": ids, "labels": labels}, offsets)


def padded(columns):
    """A collate function: the micro-batch of some rows, padded with 0 and -100."""

    def collate(rows, epoch=0):
        features = [columns.row(row) for row in rows]
        longest = max(len(feature["labels"]) for feature in features)

        def fill(name, value):
            full = torch.full((len(rows), longest), value)
            for line, feature in zip(full, features, strict=True):
                line[: len(feature[name])] = torch.from_numpy(feature[name])
            return full

        input_ids = fill("input_ids", 0)
        return {
            "input_ids": input_ids,
            "attention_mask": (input_ids != 0).long(),
            "labels": fill("labels", -100),
        }

    return collate


@pytest.fixture(scope="session")
def small_tokenizer():
    return tiny_tokenizer()


def token_source(task, tokenizer, num_rows=9, longest=40, seed=0):
    """Random rows of 3 to `longest` of 90 sub-words, as a job hands them to its batches."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, num_rows)
    ids = rng.integers(5, 90, lengths.sum())
    if task == "ner":
        labels = rng.integers(0, 5, len(ids))
        labels[rng.random(len(ids)) < 0.4] = -100
        return TaggedTokens(Columns({"input_ids": ids, "labels": labels}, offsets_of(lengths)))
    special = np.zeros(len(ids), dtype=bool)
    values = {"input_ids": ids, "special": special, "word_starts": ~special}
    return MaskedTokens(Columns(values, offsets_of(lengths)), tokenizer, MlmSettings())


NAMES = {
    "PER": ["Ada", "Grace", "Alan"],
    "LOC": ["Paris", "Rome", "Oslo"],
    "ORG": ["Acme", "Globex"],
}


def tagged_sentences(num_sentences, seed=0):
    """Sentences of known and unknown words with one or two entities each, in IOB2."""
    rng = np.random.default_rng(seed)
    words, tags = [], []
    for _ in range(num_sentences):
        sentence = [("we", "O"), ("met", "O")]
        for kind in rng.choice(list(NAMES), rng.integers(1, 3)):
            sentence.append((str(rng.choice(NAMES[kind])), f"B-{kind}"))
            if rng.random() < 0.5:
                sentence.append(("Nova", f"I-{kind}"))
            sentence.append(("today", "O"))
        words.append([word for word, _ in sentence])
        tags.append([tag for _, tag in sentence])
    return words, tags


def write_conll(path, words, tags):
    sentences = (
        "\n".join(map("\t".join, zip(*pair, strict=True))) for pair in zip(words, tags, strict=True)
    )
    path.write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a lock may still be open


def save_model(folder, task, texts, num_sub_words, seed=0, **sizes):
    """A tiny BERT of random weights, and a tokenizer made of the texts, as a user's model."""
    tokenizer = train_small_tokenizer([*texts], num_sub_words)
    torch.manual_seed(seed)
    tiny_model(task, vocab_size=len(tokenizer), **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    words, _ = tagged_sentences(200)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 48}
    save_model(folder, "mlm", map(" ".join, words), 80, **sizes)
    return str(folder)


@pytest.fixture
def listening(monkeypatch):
    """The signals as the commands take them, and as they were before, afterwards."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setattr(signals, "_end_asked", None)
    signals.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def hub():
    with fake_hub() as hub:
        yield hub


@contextlib.contextmanager
def user_of(hub, token=TOKEN):
    """The server as the Hub of this very process."""
    own = {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setattr(constants, name, value)
        patch.setenv("HF_TOKEN", token)
        patch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.01)))
        yield hub


@pytest.fixture
def inside(hub):
    with user_of(hub) as hub:
        yield hub

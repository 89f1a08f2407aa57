import json
import math
from pathlib import Path

import pytest
import torch
from conftest import tiny_bert
from transformers import AutoModelForTokenClassification, AutoTokenizer

from rawtrain import checkpoint
from rawtrain.checkpoint import Checkpoints, save_model


class NoTokenizer:
    def save_pretrained(self, folder):
        (Path(folder) / "tokenizer.json").write_text("{}")


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_saved_model_loads_with_equal_weights_and_leaves_nothing_aside(tmp_path, model_dir):
    model, tokenizer = tiny_bert(), AutoTokenizer.from_pretrained(model_dir)
    (tmp_path / "kept.txt").write_text("not the program's")
    save_model(model, tokenizer, tmp_path)
    assert names(tmp_path) == [
        "config.json", "kept.txt", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name


def test_an_interrupted_save_leaves_what_was_there(tmp_path, monkeypatch):
    old, new = tiny_bert(seed=1), tiny_bert(seed=2)
    save_model(old, NoTokenizer(), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    class Full(NoTokenizer):
        def save_pretrained(self, folder):
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_model(new, Full(), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    save_model(new, NoTokenizer(), tmp_path)  # and what it left aside is in nobody's way
    assert (tmp_path / "model.safetensors").read_bytes() != before
    assert not [name for name in names(tmp_path) if name.startswith(".writing")]


def checkpoints_of(settings, **overrides):
    return Checkpoints(settings(**overrides), NoTokenizer())


def kept(settings):
    return sorted(int(name.split("-")[1]) for name in names(settings().output_dir))


def test_the_oldest_checkpoints_go_and_the_best_and_the_newest_stay(settings):
    model = tiny_bert()
    checkpoints = checkpoints_of(settings, save_total_limit=2, load_best_model_at_end=True)
    for step, loss in [(9, 3.0), (10, 1.0), (11, 2.0), (100, 2.5)]:
        checkpoints.after_evaluation(model, step, {"eval_loss": loss})
        checkpoints.save(model, step)
        assert step in kept(settings)
    assert kept(settings) == [10, 100]
    assert checkpoints.best_path.name == "checkpoint-10"


def test_a_limit_of_one_keeps_the_newest_beside_the_best(settings):
    checkpoints = checkpoints_of(settings, save_total_limit=1, load_best_model_at_end=True)
    for step, loss in [(1, 1.0), (2, 2.0), (3, 3.0)]:
        checkpoints.after_evaluation(tiny_bert(), step, {"eval_loss": loss})
        checkpoints.save(tiny_bert(), step)
    assert kept(settings) == [1, 3]


@pytest.mark.parametrize(
    "overrides, scores, best",
    [
        ({}, [3.0, 1.0, 2.0, 1.0], 2),  # a loss: the smaller, and of equals the first
        ({"metric_for_best_model": "f1"}, [0.1, 0.3, 0.3, 0.2], 2),
        ({"metric_for_best_model": "eval_f1"}, [0.1, 0.3, 0.4, 0.2], 3),
        ({"metric_for_best_model": "f1", "greater_is_better": False}, [0.3, 0.1, 0.2], 2),
        ({"metric_for_best_model": "perplexity"}, [9.0, 5.0, 7.0], 2),
    ],
)
def test_which_evaluation_is_best(settings, overrides, scores, best):
    checkpoints = checkpoints_of(settings, **overrides)
    for step, score in enumerate(scores, start=1):
        checkpoints.after_evaluation(
            tiny_bert(), step, {checkpoints.settings.best_metric_key: score}
        )
    assert checkpoints.best_step == best
    assert checkpoints.best_path is None  # noted, but nothing asked for the model to be kept


def test_the_best_weights_are_loaded(settings):
    best, last = tiny_bert(seed=1), tiny_bert(seed=2)
    checkpoints = checkpoints_of(settings, load_best_model_at_end=True)
    checkpoints.after_evaluation(best, 1, {"eval_loss": 1.0})
    checkpoints.after_evaluation(last, 2, {"eval_loss": 2.0})
    checkpoints.load_best(last)
    for ours, theirs in zip(last.parameters(), best.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_metric_that_no_evaluation_has_is_refused_with_what_there_is(settings):
    checkpoints = checkpoints_of(settings, metric_for_best_model="bleu")
    with pytest.raises(ValueError, match=r"bleu.*loss, f1"):
        checkpoints.after_evaluation(tiny_bert(), 1, {"eval_loss": 1.0, "eval_f1": 0.5})


def test_save_strategy_best_keeps_each_model_that_was_the_best_so_far(settings):
    checkpoints = checkpoints_of(settings, save_strategy="best")
    for step, loss in [(1, 3.0), (2, 4.0), (3, 2.0)]:
        checkpoints.after_evaluation(tiny_bert(), step, {"eval_loss": loss})
    assert kept(settings) == [1, 3]


def test_a_checkpoint_appears_under_its_name_only_when_it_is_complete(settings, monkeypatch):
    seen = []
    original = checkpoint.os.rename
    monkeypatch.setattr(
        checkpoint.os, "rename", lambda old, new: (seen.append(names(old)), original(old, new))
    )
    checkpoints_of(settings).save(tiny_bert(), 5)
    assert seen == [["config.json", "model.safetensors", "tokenizer.json"]]
    config = json.loads((Path(settings().output_dir) / "checkpoint-5" / "config.json").read_text())
    assert config["model_type"] == "bert" and not math.isnan(config["hidden_size"])

"""The recipes of rawtrain/COOKBOOK.md: each diff applies to the package and does what it says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COOKBOOK = (ROOT / "rawtrain" / "COOKBOOK.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", COOKBOOK, re.DOTALL)
WEIGHTS, AVERAGES, NADAM, ADAFACTOR = range(len(DIFFS))

# Trains a tiny model in the changed package; the names that it leaves are printed as JSON.
BEGINNING = """
import json, os, sys
sys.path[:0] = [{package!r}, {tests!r}]
import torch
import rawtrain.loop
assert rawtrain.__path__ == [{package!r} + "/rawtrain"]
from conftest import NoTokenizer, padded, random_rows, tiny_bert
from rawtrain import EvaluationBatches, NerSettings, TrainingBatches, train
from rawtrain.run.checkpoint import Checkpoints, in_folder
from rawtrain.run.directory import RunDirectory

ROWS, HELD_OUT = random_rows(), random_rows(10, seed=1)
raw, original = [], rawtrain.loop.train_step

def noted(model, *arguments):
    result = original(model, *arguments)
    raw.append([parameter.detach().clone() for parameter in model.parameters()])
    return result

rawtrain.loop.train_step = noted

def run(output_dir, resumes_from=None, **given):
    settings = NerSettings(
        output_dir=output_dir, use_cpu=True, disable_tqdm=True, learning_rate=1e-2,
        logging_steps=1, max_steps=8, per_device_train_batch_size=4, weight_decay=0.01, **given,
    )
    model, batches = tiny_bert(dropout=0.1), TrainingBatches(len(ROWS), settings, padded(ROWS))
    directory = RunDirectory(output_dir, {{}}, False, resumes_from, None)
    history = train(
        model, batches, settings, checkpoints=Checkpoints(settings, NoTokenizer(), directory),
        eval_batches=EvaluationBatches(len(HELD_OUT), settings, padded(HELD_OUT)),
    )
    return list(model.parameters()), history

def same(one, other):
    return all(map(torch.equal, one, other))
"""


@pytest.mark.parametrize("number", range(len(DIFFS)))
def test_every_diff_applies(number):
    check = ["git", "apply", "--check", "-"]
    done = subprocess.run(check, input=DIFFS[number], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def changed(tmp_path):
    """Applies a diff to a copy of the package, and returns what runs a program in it."""

    def change(number):
        shutil.copytree(ROOT / "rawtrain", tmp_path / "rawtrain")
        applied = subprocess.run(
            ["git", "apply", "--verbose", "-"],
            input=DIFFS[number],
            cwd=tmp_path,
            text=True,
            capture_output=True,
        )
        assert applied.returncode == 0, applied.stderr

        def run(program):
            names = {"package": str(tmp_path), "tests": str(ROOT / "tests")}
            text = BEGINNING.format(**names) + program
            done = subprocess.run(
                [sys.executable, "-c", text], cwd=tmp_path, text=True, capture_output=True
            )
            assert done.returncode == 0, done.stderr[-3000:]

        return run

    return change


@pytest.mark.slow
def test_class_weights_change_what_is_minimised_and_not_what_is_reported(changed):
    changed(WEIGHTS)("""
from rawtrain.loss import label_loss, labelled_tokens, summed_cross_entropy
from rawtrain.ner import class_weights, weighted

weights = class_weights(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
assert weights.tolist() == [0.5, 1, 1, 1, 1]
batch, model = padded(ROWS)(range(6)), tiny_bert()
where = labelled_tokens(batch)
loss, logits = weighted(summed_cross_entropy, weights)(model, batch, where)
labels = batch["labels"].flatten()[where]
expected = (label_loss(logits, batch["labels"], where, "none") * weights[labels]).sum()
assert 0 < abs(loss - expected) < 1e-5 or loss == expected  # float32 sums in another order
assert loss < summed_cross_entropy(model, batch, where)[0]
main = open("rawtrain/ner.py").read()
assert "eval_batch_loss=batch_loss," in main and "            batch_loss=weighted(" in main
""")


@pytest.mark.slow
def test_averaged_weights_are_evaluated_kept_resumed_and_are_the_final_ones(changed):
    changed(AVERAGES)("""
def averaged(steps):
    averages = [parameter.clone() for parameter in raw[0]]
    for parameters in raw[:steps]:
        for average, parameter in zip(averages, parameters):
            average.lerp_(parameter, 1 - 0.999)
    return averages

final, history = run("whole", save_steps=3, eval_strategy="steps", eval_steps=2)
assert same(final, averaged(8)) and not same(final, raw[7])
saved = type(tiny_bert()).from_pretrained("whole/checkpoint-6")
assert same(saved.parameters(), averaged(6))

first = list(raw)
again, resumed = run("again", resumes_from=__import__("pathlib").Path("whole/checkpoint-3"),
                     save_steps=3, eval_strategy="steps", eval_steps=2)
assert same(again, final) and all(map(same, raw[8:], first[3:]))
losses = lambda history: [e["eval_loss"] for e in history if "eval_loss" in e]
assert losses(resumed) == losses(history)

raw.clear()
best, history = run("best", save_steps=1, eval_strategy="steps", eval_steps=1,
                    load_best_model_at_end=True)
step = 1 + min(range(8), key=losses(history).__getitem__)
assert same(best, averaged(step))
""")


@pytest.mark.slow
@pytest.mark.parametrize("number", [NADAM, ADAFACTOR], ids=["NAdam", "Adafactor"])
def test_another_optimizer_learns_resumes_and_turns_the_compact_vocabulary_off(changed, number):
    changed(number)("""
from pathlib import Path
from rawtrain.fast.vocabulary import compact_vocabulary
from rawtrain.optim import make_optimizer

settings = NerSettings(use_cpu=True)
assert type(make_optimizer(tiny_bert(), settings)) is not torch.optim.AdamW
model = tiny_bert()
with compact_vocabulary(model, ROWS, settings):
    assert type(model.get_input_embeddings()) is torch.nn.Embedding
final, history = run("whole", save_steps=3)
losses = [entry["loss"] for entry in history if "loss" in entry]
assert losses[7] < losses[0]
again, _ = run("again", resumes_from=Path("whole/checkpoint-3"), save_steps=3)
assert same(again, final)
""")

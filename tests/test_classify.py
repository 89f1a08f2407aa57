"""scripts/classify.py: a task that the package knows nothing of has all that a run has."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import classify
import pytest
from conftest import tagged_sentences
from transformers import pipeline

from rawtrain.cli.command import run, settings_from

pytestmark = pytest.mark.usefixtures("listening")


def write_csv(path, number, seed, header=("text", "label")):
    """Texts of known words, labelled by whether there is a place among them."""
    words, tags = tagged_sentences(number, seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for sentence, of_sentence in zip(words, tags, strict=True):
            writer.writerow([" ".join(sentence), "place" if "B-LOC" in of_sentence else "other"])
    return str(path)


@pytest.fixture
def flags(tmp_path, model_dir):
    return [
        *("--model_name_or_path", model_dir, "--use_cpu", "--disable_tqdm"),
        *("--train_file", write_csv(tmp_path / "train.csv", 60, 0)),
        *("--validation_file", write_csv(tmp_path / "dev.csv", 30, 1)),
        *("--max_steps", "40", "--save_steps", "5", "--learning_rate", "3e-3"),
    ]


def test_it_learns_and_its_model_and_card_are_of_its_task(flags, tmp_path, capsys):
    out = tmp_path / "out"
    settings = settings_from(classify.ClassifySettings, [*flags, "--output_dir", str(out)])
    classify.main(settings)
    results = json.loads((out / "all_results.json").read_text())
    assert (
        results["eval_samples"] == 30 and results["eval_accuracy"] > 0.8
    )  # most are "other": 0.57
    assert f"accuracy {results['eval_accuracy']:.3f}" in capsys.readouterr().out
    found = pipeline("text-classification", model=str(out))("we met Ada today met Paris today")
    assert found[0]["label"] == "place"
    assert "pipeline_tag: text-classification" in (out / "README.md").read_text()

    classify.main(settings)  # the finished run is shown, not trained again
    assert "eval_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given, message",
    [
        (
            ["--train_file", "headless.csv"],
            r"no column is named 'label'; the columns are 'text' \(text\), 'b' \(text\)",
        ),
        (
            ["--validation_file", "other.csv"],
            r"unknown labels \['neither'\]; the model has other, p",
        ),
        (["--max_seq_length", "9999"], "--max_seq_length is 9999; this model takes up to 48"),
    ],
)
def test_a_mistake_is_reported_before_any_training(
    flags, given, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_csv(Path("headless.csv"), 3, 0, header=("text", "b"))
    Path("other.csv").write_text("text,label\nwe met,neither\n")
    settings = settings_from(classify.ClassifySettings, [*flags, "--output_dir", "out", *given])
    with pytest.raises(SystemExit) as end:
        run(classify.main, settings)
    assert end.value.code == 2 and re.search(message, capsys.readouterr().err)


DIES_AFTER_A_CHECKPOINT = """if True:
    import os, runpy, signal, sys
    from rawtrain.run.checkpoint import Checkpoints

    save = Checkpoints.save

    def save_and_die(*arguments):
        save(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = save_and_die
    sys.argv.pop(0)
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bits(flags, tmp_path):
    command = [sys.executable, classify.__file__, *flags, "--output_dir"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    dying = [sys.executable, "-c", DIES_AFTER_A_CHECKPOINT, *command[1:], str(killed)]
    assert subprocess.run(dying, capture_output=True).returncode == -signal.SIGKILL
    assert not (killed / "model.safetensors").exists()
    subprocess.run([*command, str(killed)], check=True, capture_output=True)
    for name in ("model.safetensors", "checkpoint-35/optimizer.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()

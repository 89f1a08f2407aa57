"""README.md of a run: what it says is what the result files say, and huggingface_hub reads it."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import tagged_sentences, write_conll
from huggingface_hub import ModelCard

from rawtrain import mlm, ner
from rawtrain.cli.command import settings_from
from rawtrain.config import DataSettings, MlmSettings, ModelSettings, NerSettings, TrainingSettings
from rawtrain.results.card import as_markdown, command_of, make_card, note_run, write_card
from rawtrain.results.files import note, read_facts, read_metrics

HOSTILE = """a|b `code` ``` *bold* _it_ [link](http://x.y) ![picture](p.png)
<script>alert()</script>
---
# no heading &amp; $x$ ~~gone~~ @someone"""

SCORES = dict.fromkeys(("eval_f1", "eval_accuracy", "eval_precision", "eval_recall"), 0.5)


class Split:
    def __init__(self, source):
        self.source, self.fingerprint = source, "ab" * 32


@pytest.fixture(scope="module")
def command(tmp_path_factory, model_dir):
    folder = tmp_path_factory.mktemp("run")
    flags = ["--model_name_or_path", model_dir, "--output_dir", str(folder / "out")]
    for seed, name in enumerate(["train", "validation", "test"]):
        file = write_conll(folder / f"{name}.conll", *tagged_sentences(40, seed))
        flags += [f"--{name}_file", file]
    return [*flags, "--use_cpu", "--learning_rate", "5e-3", "--num_train_epochs", "3"]


@pytest.fixture(scope="module")
def settings(command):
    return settings_from(NerSettings, [*command, "--disable_tqdm", "true"])


@pytest.fixture(scope="module")
def run(settings):
    """The output directory of a finished run."""
    ner.main(settings)
    return Path(settings.output_dir)


def row(card, name):
    """The cells of the first such row, as numbers where they are."""
    line = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", card, re.MULTILINE)[1]
    return [float(c) if re.fullmatch(r"[\d.]+", c) else c for c in line.split(" | ")]


def command_in(card):
    """The block of code under "Training", where each line begins with four blanks."""
    return re.search(r"## Training\n\n    (.*(?:\n    .*)*)", card)[1]


def test_huggingface_hub_reads_the_metadata_and_writes_the_same(run):
    card = ModelCard.load(run / "README.md")
    assert str(card) == (run / "README.md").read_text(encoding="utf-8")
    data = card.data.to_dict()
    assert data["pipeline_tag"] == "token-classification"
    assert data["library_name"] == "transformers"
    assert "language" not in data and "license" not in data
    assert "base_model" not in data  # a folder, which the Hub does not know
    assert card.data.model_name == "out"


def test_the_model_index_holds_the_numbers_of_the_result_files(run):
    metrics = read_metrics(run)
    found = {
        (result.dataset_split, result.metric_type): result.metric_value
        for result in ModelCard.load(run / "README.md").data.eval_results
    }
    assert found == {
        (split, name): metrics[f"{prefix}_{name}"]
        for split, prefix in {"validation": "eval", "test": "predict"}.items()
        for name in ("precision", "recall", "f1", "accuracy", "loss")
    }
    assert found["test", "f1"] > 0.5


def test_the_tables_hold_the_scores_of_each_type_beside_the_baseline(run, capsys):
    card = (run / "README.md").read_text()
    validation, test = card.split("On the test data")
    for text, prefix in ((validation, "eval"), (test, "predict")):
        metrics = read_metrics(run)
        expected = [round(metrics[f"{prefix}_{name}"], 3) for name in ("precision", "recall", "f1")]
        *numbers, baseline, count = row(text, "overall")
        assert numbers == expected
        assert 0 < baseline < 1 and count == sum(
            row(text, kind)[-1] for kind in ("LOC", "ORG", "PER")
        )


def test_the_command_in_the_card_is_the_one_that_was_given(run, settings):
    block = command_in((run / "README.md").read_text())
    python, m, module, *arguments = shlex.split(block.replace("\\\n", " "))
    assert [python, m, module] == ["python", "-m", "rawtrain.ner"]
    again = settings_from(NerSettings, [*arguments, "--disable_tqdm", "true"])
    assert again == settings


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        (NerSettings, []),
        (MlmSettings, []),
        (NerSettings, ["--output_dir", 'it\'s `a` $run \\ "x"', "--fast", "false", "--bf16"]),
        (MlmSettings, ["--lr_scheduler_kwargs", '{"num_cycles": 2}', "--max_steps", "7"]),
        (NerSettings, ["--greater_is_better", "false", "--data_seed", "3", "--stride", "0"]),
    ],
)
def test_the_command_in_a_card_gives_the_same_settings(tmp_path, monkeypatch, job, arguments):
    monkeypatch.chdir(tmp_path)
    settings = settings_from(job, arguments)
    _, _, module, *words = shlex.split(command_of(settings).replace("\\\n", " "))
    assert module == job.command.split()[-1]
    assert settings_from(job, words) == settings


def test_how_a_run_was_started_is_not_part_of_its_command():
    given = ["--overwrite_output_dir", "--log_level", "debug", "--do_train", "--do_eval"]
    settings = settings_from(NerSettings, given)
    assert command_of(settings) == "python -m rawtrain.ner"


def test_the_data_and_the_versions_are_in_the_card(run):
    card = (run / "README.md").read_text()
    assert row(card, "sentences") == [40, 40, 40]
    assert row(card, "source") == ["train.conll", "validation.conll", "test.conll"]
    facts = read_facts(run)
    digests = [facts["data"][split]["sha256"][:12] for split in ("train", "validation", "test")]
    assert row(card, "sha256") == [f"`{digest}...`" for digest in digests]
    assert f"torch {facts['versions']['torch']}" in card


def test_a_model_and_data_of_the_hub_are_named_in_the_metadata(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for model, dataset, on_hub in (
        ("org/model", "google/xtreme", {"model": "org/model", "dataset": "google/xtreme"}),
        ("model", "data", {}),
    ):
        for folder in ("model", "data", "out"):
            (tmp_path / folder).mkdir(exist_ok=True)
        settings = NerSettings(
            output_dir="out",
            model_name_or_path=model,
            dataset_name=dataset,
            dataset_config_name="c",
        )
        note_run(settings, {"train": Split("s")}, {"train": {"words": 3}})
        card = ModelCard(make_card(settings, read_facts("out"), SCORES))
        assert card.data.base_model == on_hub.get("model")
        assert card.data.datasets == on_hub.get("dataset")
        assert card.data.eval_results[0].dataset_type == on_hub.get("dataset", "unknown")
        (tmp_path / "out" / "card.json").unlink()


def test_the_strategy_that_loses_least_is_the_one_that_the_card_names():
    assert 'aggregation_strategy="first")\n```' in make_card(NerSettings(), {}, {})
    card = make_card(NerSettings(), {"aggregation_strategy": "max"}, {})
    assert 'aggregation_strategy="max")\n```' in card
    card = make_card(NerSettings(), {}, {}, repository="ada/names")
    assert 'model="ada/names"' in card and card.split("---\n")[2].startswith("\n# names\n")


def test_tags_of_words_are_not_called_entities():
    facts = {"scores": {"validation": [["overall", 0.5, 0.5, 0.5, None, 4]]}}
    card = make_card(NerSettings(task_name="pos"), facts, SCORES)
    assert "part-of-speech tagging" in card and "over tags" in card and "aggregation" not in card


@dataclass(frozen=True)
class TextSettings(TrainingSettings, DataSettings, ModelSettings):
    """A task that this package does not have."""

    task: ClassVar[str] = "text-classification"
    pipeline_tag: ClassVar[str] = "text-classification"
    command: ClassVar[str] = "python classify.py"
    groups: ClassVar[tuple] = (ModelSettings, DataSettings, TrainingSettings)
    metrics: ClassVar[tuple] = ("loss", "accuracy", "f1")
    embedded_recipe: ClassVar[dict] = {}


def test_another_task_gets_a_card_of_its_own(tmp_path):
    files = {"train_file": "a.csv", "validation_file": "b.csv"}
    settings = TextSettings(
        output_dir=str(tmp_path), **files, do_train=True, learning_rate=1e-3, config_name="x"
    )
    splits = {"train": Split("a.csv"), "validation": Split("b.csv")}
    note_run(settings, splits, {name: {"texts": 3} for name in splits})
    metrics = {"eval_loss": 0.25, "eval_accuracy": 0.5, "eval_f1": 0.75, "eval_runtime": 9.0}
    metrics |= {"predict_loss": 0.125, "predict_accuracy": 1.0}
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "all_results.json").write_text(json.dumps(metrics))
    write_card(settings)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert 'pipeline("text-classification", model=' in card.text
    assert "A new model, trained for text classification" in card.text
    validation, test = card.text.split("On the test data:")
    assert "On the validation data:" in validation and "baseline" not in card.text
    assert "|  | loss | accuracy | F1 |" in validation and "|  | loss | accuracy |\n" in test
    assert row(validation, "after training") == [0.25, 0.5, 0.75]
    assert row(test, "after training") == [0.125, 1.0]
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert found == {
        ("validation", "loss"): 0.25,
        ("validation", "accuracy"): 0.5,
        ("validation", "f1"): 0.75,
        ("test", "loss"): 0.125,
        ("test", "accuracy"): 1.0,
    }
    command = command_in(card.text).split(" \\\n        ")
    expected = ["--train_file a.csv", "--validation_file b.csv", "--learning_rate 0.001"]
    assert command[0] == "python classify.py" and set(expected) < set(command)
    assert not any("--do_" in line for line in command)


# Markdown


def test_text_of_data_does_nothing_in_a_card():
    escaped = as_markdown(HOSTILE)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)[`*_\[\]|<>&$~@]", escaped)
    assert re.sub(r"\\(.)", r"\1", escaped) == " ".join(HOSTILE.split())
    for start in ("# x", "- x", "+ x", "1. x", "1) x"):
        assert re.match(r"1?\\", as_markdown(start))
    assert as_markdown("1.5 http://x.y e.g. A-B") == r"1\.5 http\://x.y e.g. A-B"


def test_the_code_in_a_card_holds_any_text():
    card = make_card(NerSettings(output_dir='``` $(x) "it\'s"'), {}, {})
    assert shlex.split(command_in(card).replace("\\\n", " "))[4] == '``` $(x) "it\'s"'
    (call,) = re.findall(r"```python\n.*?\n\nmodel = pipeline\((.*?)\)\n```", card, re.DOTALL)
    assert eval(f"dict(task={call})")["model"] == '``` $(x) "it\'s"'


def test_hostile_names_leave_the_metadata_and_the_tables_whole(tmp_path):
    settings = NerSettings(
        output_dir=str(tmp_path), train_file=HOSTILE, validation_file="x: {y}\n---\nz: 'q"
    )
    splits = {"train": Split(HOSTILE), "validation": Split("v")}
    note_run(settings, splits, {name: {HOSTILE: 3} for name in splits})
    note(tmp_path, scores={"validation": [[HOSTILE, 0.1, 0.2, 0.3, None, 4]]})
    text = make_card(settings, read_facts(tmp_path), SCORES)
    card = ModelCard(text)
    assert card.data.eval_results[0].dataset_name == "x: {y}\n---\nz: 'q"
    assert str(card) == text
    assert card.text.startswith("\n# ")
    widths = {}
    for block in re.findall(r"(?:^\|.*\n)+", card.text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "<script>" not in card.text.replace(command_in(card.text), "")


# Written again


def test_an_edited_card_is_kept_and_a_deleted_one_is_written_again(run, settings, caplog):
    file = run / "README.md"
    before = file.read_text()
    file.write_text(before + "\nMy own words.\n")
    with caplog.at_level("INFO", logger="rawtrain"):
        write_card(settings, "ada/names")
    assert file.read_text() == before + "\nMy own words.\n"
    assert "was edited and stays as it is; delete it to have it written anew" in caplog.text
    file.unlink()
    write_card(settings)
    assert file.read_text() == before


def test_a_kill_before_the_card_is_replaced_does_not_make_it_look_edited(
    run, settings, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    before = (run / "README.md").read_text()
    with monkeypatch.context() as patch:
        patch.setattr("rawtrain.results.card.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            write_card(settings, "ada/names")
    assert (run / "README.md").read_text() == before
    write_card(settings, "ada/names")
    assert 'model="ada/names"' in (run / "README.md").read_text()
    write_card(settings)
    assert (run / "README.md").read_text() == before


def test_results_that_come_later_join_the_card(run, settings, command):
    before = (run / "README.md").read_text()
    (run / "predict_results.json").unlink()
    stored = read_metrics(run)
    kept = {name: value for name, value in stored.items() if not name.startswith("predict_")}
    (run / "all_results.json").write_text(json.dumps(kept))
    write_card(settings)
    assert "On the test data" not in (run / "README.md").read_text()
    ner.main(settings_from(NerSettings, [*command, "--do_predict", "--disable_tqdm", "true"]))
    assert (run / "README.md").read_text() == before


def test_a_folder_without_a_trained_model_gets_no_card(settings, tmp_path):
    write_card(NerSettings(output_dir=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_the_card_of_mlm_shows_before_and_after(model_dir, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(" ".join(words) + "\n" for words in tagged_sentences(200)[0]))
    arguments = f"--model_name_or_path {model_dir} --train_file {text} --line_by_line --use_cpu"
    arguments += f" --output_dir {tmp_path / 'out'} --max_steps 20 --learning_rate 5e-3"
    mlm.main(settings_from(MlmSettings, arguments.split()))
    card = ModelCard.load(tmp_path / "out" / "README.md")
    metrics = read_metrics(tmp_path / "out")
    before, after, unigram = (
        row(card.text, name)
        for name in ("before training", "after training", "token frequency alone")
    )
    names = ("eval_loss", "perplexity", "eval_accuracy")
    assert after == [round(metrics[name], 3) for name in names]
    assert before[0] > after[0] > 0 and unigram[0] > 0
    assert {r.metric_type for r in card.data.eval_results} == {"loss", "perplexity", "accuracy"}
    assert card.data.pipeline_tag == "fill-mask"
    assert 'pipeline("fill-mask"' in card.text and "max_steps" in card.text
    assert "num_train_epochs" not in card.text

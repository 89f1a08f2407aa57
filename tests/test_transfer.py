"""study/transfer.py on tiny corpora: its cells are runs of rawtrain.ner, and none is done twice."""

import json
import re
import statistics
from pathlib import Path

import pytest
from conftest import tagged_sentences, write_conll
from seqeval.metrics import f1_score

from rawtrain import ner
from rawtrain.data.conll import read_conll
from rawtrain.study import transfer
from rawtrain.study.corpora import find_corpus

NUM_TRAIN = {"a": 60, "b": 40}
LIMIT = 50  # --max_train_samples


def write_corpus(folder, num_train, seed, validation="validation", tags=None):
    folder.mkdir()
    for place, (name, number) in enumerate(
        [("train", num_train), (validation, 10), ("test", 20)], start=3 * seed
    ):
        words, gold = tagged_sentences(number, place)
        write_conll(folder / f"{name}.conll", words, tags(gold) if tags else gold)
    return folder


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    write_corpus(folder / "a", NUM_TRAIN["a"], 0)
    write_corpus(folder / "b", NUM_TRAIN["b"], 1, validation="dev")
    return folder


def arguments(corpora, output_dir, model_dir, *options, flags=()):
    given = [f"{name}={corpora / name}" for name in ("a", "b")]
    fixed = f"--model_name_or_path {model_dir} --num_train_epochs 6 --learning_rate 5e-3 --use_cpu"
    fixed += f" --save_strategy no --disable_tqdm true --max_train_samples {LIMIT}"
    output = ["--output_dir", str(output_dir)]
    return ["--corpora", *given, *output, *options, "--", *fixed.split(), *flags]


@pytest.fixture(scope="module")
def study(tmp_path_factory, corpora, model_dir):
    output_dir = tmp_path_factory.mktemp("study") / "transfer"
    transfer.main(arguments(corpora, output_dir, model_dir))
    return output_dir


def found(study):
    return json.loads((study / "transfer.json").read_text())


def run_dirs(study):
    return sorted(path.name for path in (study / "runs").iterdir())


def recorded_runs(monkeypatch, stop_at=None):
    """The output directories of the runs that are done from here on; the one at `stop_at` ends."""
    names, main = [], ner.main

    def record(settings):
        if len(names) == stop_at:
            raise SystemExit(143)
        names.append(Path(settings.output_dir).name)
        main(settings)

    monkeypatch.setattr(ner, "main", record)
    return names


ALL_RUNS = ["a-seed42", "a-on-b-seed42", "b-seed42", "b-on-a-seed42"]
ALL_RUNS += ["all-seed42", "all-on-a-seed42", "all-on-b-seed42"]


@pytest.mark.parametrize("source", ["a", "b", "all"])
@pytest.mark.parametrize("target", ["a", "b"])
def test_a_cell_is_the_f1_of_the_predictions_for_that_test_data(study, corpora, source, target):
    name = f"{source}-seed42" if source == target else f"{source}-on-{target}-seed42"
    file = study / "runs" / name / "predictions.conll"
    gold, predicted = (read_conll(file, tag_column=column) for column in (1, 2))
    test = read_conll(corpora / target / "test.conll")
    assert (gold.words, gold.tags) == (test.words, test.tags)
    assert found(study)["f1"][source][target]["mean"] == f1_score(gold.tags, predicted.tags)


def test_the_models_differ_and_learn(study):
    f1 = found(study)["f1"]
    means = {row[name]["mean"] for row in f1.values() for name in ("a", "b")}
    assert len(means) > 3 and min(means) > 0.3


def test_all_is_trained_on_the_first_sentences_of_each_corpus(study, corpora):
    parts = [read_conll(corpora / name / "train.conll") for name in ("a", "b")]
    together = read_conll(study / "all" / "train.conll")
    assert together.words == parts[0].words[:LIMIT] + parts[1].words[:LIMIT]
    assert together.tags == parts[0].tags[:LIMIT] + parts[1].tags[:LIMIT]
    assert found(study)["train_samples"] == {"a": LIMIT, "b": 40, "all": LIMIT + 40}
    assert len(read_conll(study / "all" / "validation.conll").words) == 20


def test_the_table_marks_the_best_of_each_column(study):
    f1 = found(study)["f1"]
    lines = (study / "transfer.md").read_text().splitlines()
    cells = {line.split()[1]: line.split("|")[2:-1] for line in lines if line.startswith("| ")}
    assert list(cells) == ["fine-tuned", "a", "b", "each", "all"]
    assert [cells[row][0].strip() for row in ("a", "b", "each", "all")] == [
        "50",
        "40",
        "40-50",
        "90",
    ]
    for column, name in enumerate(("a", "b"), start=1):
        shown = {row: cells[row][column].strip() for row in ("a", "b", "all")}
        highest = max(f1[row][name]["mean"] for row in shown)
        for row, cell in shown.items():
            mean = f1[row][name]["mean"]
            assert cell == (f"**{mean:.3f}**" if mean == highest else f"{mean:.3f}")
        assert cells["each"][column] == cells[name][column]


def test_started_again_it_runs_nothing_and_shows_the_same(
    study, corpora, model_dir, monkeypatch, capsys
):
    names = recorded_runs(monkeypatch)
    transfer.main(arguments(corpora, study, model_dir))
    assert names == []
    shown = capsys.readouterr().out
    assert shown == (study / "transfer.md").read_text() + f"\ntable and runs: {study}/\n"


def test_interrupted_it_resumes_with_the_runs_that_are_left(
    study, corpora, model_dir, monkeypatch, tmp_path, capsys
):
    with monkeypatch.context() as patch:
        before = recorded_runs(patch, stop_at=3)
        with pytest.raises(SystemExit) as end:
            transfer.main(arguments(corpora, tmp_path, model_dir))
    assert end.value.code == 143 and not (tmp_path / "transfer.md").exists()
    after = recorded_runs(monkeypatch)
    transfer.main(arguments(corpora, tmp_path, model_dir))
    assert before + after == ALL_RUNS and len(before) == 3
    progress = capsys.readouterr().err
    assert all(f"{i}/4 {run}: " in progress for i, run in enumerate(after, start=1))
    assert found(tmp_path) == found(study)


def test_a_score_that_was_not_written_is_not_taken_from_predictions_of_other_settings(
    corpora, model_dir, monkeypatch, capsys, tmp_path
):
    def end(*_):
        raise SystemExit(143)

    with monkeypatch.context() as patch:  # after the first run, before its scores are written
        patch.setattr("rawtrain.study.runs.read_metrics", end)
        with pytest.raises(SystemExit):
            transfer.main(arguments(corpora, tmp_path, model_dir))
    assert run_dirs(tmp_path) == ["a-seed42"]
    with pytest.raises(SystemExit) as ended:
        transfer.main(arguments(corpora, tmp_path, model_dir, flags=["--max_predict_samples", "7"]))
    assert ended.value.code == 2 and run_dirs(tmp_path) == ["a-seed42"]
    assert "--max_predict_samples: null -> 7" in capsys.readouterr().err


def test_more_seeds_join_those_that_are_there(study, corpora, model_dir, monkeypatch, capsys):
    names = recorded_runs(monkeypatch)
    transfer.main(arguments(corpora, study, model_dir, "--seeds", "2"))
    assert names == [name.replace("42", "1042") for name in ALL_RUNS]
    for row in found(study)["f1"].values():
        for cell in row.values():
            assert sorted(cell["by_seed"]) == ["1042", "42"]
            assert cell["mean"] == statistics.mean(cell["by_seed"].values())
            low, high = sorted(cell["by_seed"].values())
            assert cell["std"] == pytest.approx((high - low) / 2**0.5, abs=1e-15)  # n - 1 = 1
    shown = capsys.readouterr().out
    assert len(re.findall(r"0\.\d{3} ± 0\.\d{3}", shown)) == 8
    assert "sample standard deviation (n - 1) over 2 seeds: 42, 1042." in shown


@pytest.mark.parametrize(
    ("flags", "change"),
    [
        (["--learning_rate", "1e-3"], "--learning_rate: 0.005 -> 0.001"),
        (["--max_predict_samples", "5"], "--max_predict_samples: null -> 5"),
    ],
)
def test_other_settings_are_refused_with_what_changed(
    study, corpora, model_dir, monkeypatch, capsys, flags, change
):
    names = recorded_runs(monkeypatch)
    with pytest.raises(SystemExit) as end:
        transfer.main(arguments(corpora, study, model_dir, flags=flags))
    assert end.value.code == 2 and names == []
    assert change in capsys.readouterr().err


def test_other_data_are_refused(study, corpora, model_dir, monkeypatch, capsys, tmp_path):
    for name in ("a", "b"):
        write_corpus(tmp_path / name, NUM_TRAIN[name], 5)
    names = recorded_runs(monkeypatch)
    with pytest.raises(SystemExit) as end:
        transfer.main(arguments(tmp_path, study, model_dir))
    assert end.value.code == 2 and names == []
    assert "sha256 of the data, train" in capsys.readouterr().err


def test_flags_of_ner_before_the_dashes_are_refused_with_their_place(corpora, tmp_path, capsys):
    given = ["--corpora", f"a={corpora / 'a'}", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        transfer.main([*given, "--learning_rate", "1e-3"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "--learning_rate is no option here; flags of rawtrain.ner stand after --" in said


def rename_types(gold):
    return [[tag.replace("PER", "PERSON") for tag in tags] for tags in gold]


def test_tags_that_another_corpus_cannot_teach_are_refused_before_training(
    model_dir, monkeypatch, capsys, tmp_path
):
    write_corpus(tmp_path / "a", 20, 0)
    write_corpus(tmp_path / "b", 20, 1, tags=rename_types)
    names = recorded_runs(monkeypatch)
    with pytest.raises(SystemExit) as end:
        transfer.main(arguments(tmp_path, tmp_path / "out", model_dir))
    assert end.value.code == 2 and names == []
    error = capsys.readouterr().err
    assert "the training data of b do not have: B-PER, I-PER" in error
    assert "the training data of a do not have: B-PERSON, I-PERSON" in error


@pytest.mark.parametrize(
    ("given", "flags", "answer"),
    [
        (["a={a}"], [], "--corpora a: expected two or more, of different names"),
        (["a={a}", "a={b}"], [], "--corpora a a: expected two or more"),
        (["{a}", "b={b}"], [], "expected NAME=DIR"),
        (["all={a}", "b={b}"], [], "that is neither all nor each"),
        (["a={a}/..", "b={b}"], [], "no train.conll there"),
        (["a={a}", "b={b}"], ["--output_dir", "x"], "--output_dir after `--`"),
        (["a={a}", "b={b}"], ["--train-file=x"], "--train_file after `--`"),
        (["a={a}", "b={b}"], ["--lr", "1"], "use --learning_rate"),
        (["a={a}", "b={b}"], ["--seed", "-1"], "--seed is -1"),
        (["a={a}", "b={b}"], ["--load_best_model_at_end", "--eval_strategy", "no"], "evaluations"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_run(
    corpora, model_dir, monkeypatch, capsys, tmp_path, given, flags, answer
):
    names = recorded_runs(monkeypatch)
    given = [text.format(a=corpora / "a", b=corpora / "b") for text in given]
    command = ["--corpora", *given, "--output_dir", str(tmp_path / "out"), "--"]
    with pytest.raises(SystemExit) as end:
        transfer.main([*command, "--model_name_or_path", model_dir, *flags])
    assert end.value.code == 2 and names == [] and not (tmp_path / "out").exists()
    assert answer in capsys.readouterr().err


def test_a_corpus_without_validation_data_is_refused_where_they_are_needed(
    model_dir, monkeypatch, capsys, tmp_path
):
    write_corpus(tmp_path / "a", 20, 0)
    (write_corpus(tmp_path / "b", 20, 1) / "validation.conll").unlink()
    names = recorded_runs(monkeypatch)
    with pytest.raises(SystemExit) as end:
        transfer.main(
            arguments(tmp_path, tmp_path / "out", model_dir, flags=["--load_best_model_at_end"])
        )
    assert end.value.code == 2 and names == []
    assert "there is no validation data" in capsys.readouterr().err


def test_flags_that_need_validation_data_do_not_hinder_the_predictions(
    corpora, model_dir, tmp_path
):
    flags = ["--load_best_model_at_end", "--early_stopping_patience", "1", "--num_train_epochs=2"]
    flags += ["--save_strategy", "epoch", "--metric_for_best_model", "f1"]
    transfer.main(arguments(corpora, tmp_path, model_dir, flags=flags))
    assert run_dirs(tmp_path) == sorted(ALL_RUNS)


def test_a_corpus_is_read_from_either_name_of_its_validation_file_but_not_from_two(tmp_path):
    folder = write_corpus(tmp_path / "a", 5, 0, validation="val")
    corpus = find_corpus("a", folder)
    assert corpus.files["validation"] == folder / "val.conll"
    (folder / "dev.conll").touch()
    with pytest.raises(ValueError, match=r"both dev.conll and val.conll; keep one"):
        find_corpus("a", folder)

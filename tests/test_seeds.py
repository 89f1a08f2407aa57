"""study/seeds.py: a mean and a deviation of runs of rawtrain.ner, none of which is done twice."""

import argparse
import json
import statistics
from pathlib import Path

import pytest
from test_transfer import recorded_runs, write_corpus

from rawtrain import ner
from rawtrain.batches import row_order
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.study import seeds
from rawtrain.study.runs import Study


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpora") / "a", 60, 0)


@pytest.fixture(scope="module")
def flags(corpus, model_dir):
    fixed = f"--model_name_or_path {model_dir} --num_train_epochs 6 --learning_rate 5e-3 --use_cpu"
    fixed += " --save_strategy no --disable_tqdm true"
    files = [f"--{split}_file={corpus / split}.conll" for split in ("train", "validation", "test")]
    return [*fixed.split(), *files]


def arguments(output_dir, flags, *options):
    return ["--output_dir", str(output_dir), *options, "--", *flags]


@pytest.fixture(scope="module")
def study(tmp_path_factory, flags):
    output_dir = tmp_path_factory.mktemp("study") / "seeds"
    seeds.main(arguments(output_dir, flags, "--seeds", "3"))
    return output_dir


def found(study):
    return json.loads((study / "seeds.json").read_text())


def refused(capsys, *given):
    with pytest.raises(SystemExit) as ended:
        seeds.main(list(given))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_run_of_a_seed_is_the_plain_run(study, flags, tmp_path):
    output = ["--output_dir", str(tmp_path / "out"), "--seed", "1042"]
    ner.main(settings_from(NerSettings, [*flags, *output]))
    weights = [
        (folder / "model.safetensors").read_bytes()
        for folder in (study / "runs" / "seed1042", tmp_path / "out")
    ]
    assert weights[0] == weights[1]


def test_mean_and_deviation_are_those_of_the_stored_results(study):
    results = {
        seed: json.loads((study / "runs" / f"seed{seed}" / "predict_results.json").read_text())
        for seed in (42, 1042, 2042)
    }
    scores = found(study)["scores"]
    assert list(scores)[-1] == "all types" and len(scores) > 2
    for kind, row in scores.items():
        for name, cell in row.items():
            key = f"predict_{'overall' if kind == 'all types' else kind}_{name}"
            values = {str(seed): result[key] for seed, result in results.items()}
            assert cell["by_seed"] == values
            assert cell["mean"] == statistics.fmean(values.values())
            assert cell["std"] == statistics.stdev(values.values())
    assert scores["all types"]["f1"]["std"] > 0


def test_the_table_has_a_row_for_each_type_and_says_what_it_is_of(study):
    lines = (study / "seeds.md").read_text().splitlines()
    assert lines[0].split() == ["|", "type", "|", "precision", "|", "recall", "|", "F1", "|"]
    cell = found(study)["scores"]["all types"]["f1"]
    assert f"{cell['mean']:.3f} ± {cell['std']:.3f} |" in lines[-5]
    assert lines[-3:] == [
        "On 20 test sentences.",
        "Mean ± sample standard deviation (n - 1) over 3 seeds: 42, 1042, 2042.",
        "They are far apart because seed + epoch decides the order of the sentences.",
    ]


def test_no_two_seeds_of_a_study_share_an_order_of_the_rows():
    study = Study(argparse.ArgumentParser(), ["--output_dir", "out", "--seeds", "5"])
    some = study.seeds(NerSettings())
    orders = [tuple(row_order(26, seed, epoch)) for seed in some for epoch in range(20)]
    assert some[0] == 42 and len(orders) == 100
    assert len(set(orders)) == len(orders)
    assert tuple(row_order(26, 43, 0)) in orders  # what a study with seeds 42, 43 ... would repeat


def test_more_seeds_join_those_that_are_there(study, flags, monkeypatch):
    done = recorded_runs(monkeypatch)
    before = found(study)["scores"]["all types"]["f1"]["by_seed"]
    seeds.main(arguments(study, flags, "--seeds", "3"))
    assert done == []
    seeds.main(arguments(study, flags, "--seeds", "4"))
    assert done == ["seed3042"]
    after = found(study)["scores"]["all types"]["f1"]["by_seed"]
    assert before.items() < after.items() and "3042" in after


def test_other_settings_and_other_data_are_refused(study, flags, corpus, capsys):
    said = refused(capsys, *arguments(study, [*flags, "--weight_decay", "0.1"]))
    assert "comes from another study; what has changed since then:" in said
    assert "--weight_decay: 0.0 -> 0.1" in said
    other = [*flags, "--test_file", str(corpus / "validation.conll")]
    assert "sha256 of the data, test: " in refused(capsys, *arguments(study, other))


def test_without_test_data_the_validation_data_are_scored(flags, tmp_path):
    seeds.main(arguments(tmp_path / "out", flags[:-1], "--seeds", "1"))
    content = found(tmp_path / "out")
    assert (content["split"], content["samples"]) == ("validation", 10)
    result = json.loads(Path(tmp_path / "out/runs/seed42/eval_results.json").read_text())
    assert content["scores"]["all types"]["f1"]["mean"] == result["eval_f1"]
    assert content["scores"]["all types"]["f1"]["std"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda flags: flags[:-2], "expected a --test_file or a --validation_file"),
        (lambda flags: [*flags[:-3], *flags[-2:]], "expected a --train_file"),
        (lambda flags: [*flags, "--do_train"], "--do_train after `--`: the study decides it"),
        (lambda flags: [*flags, "--push-to-hub"], "--push_to_hub after `--`"),
        (lambda flags: [*flags, "--sed=1"], "did you mean --seed?"),
        (lambda flags: [*flags, "--train_file=nothing.conll"], "nothing.conll"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_written(change, said, flags, tmp_path, capsys):
    assert said in refused(capsys, *arguments(tmp_path / "out", change(flags)))
    assert not (tmp_path / "out").exists()

"""study/curve.py on a tiny corpus: its points are runs of rawtrain.ner, and none is done twice."""

import json
from pathlib import Path

import pytest
from test_transfer import arguments as transfer_arguments
from test_transfer import recorded_runs, write_corpus

from rawtrain import ner
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.study import curve
from rawtrain.study.runs import Scores


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpora") / "a", 60, 0)


@pytest.fixture(scope="module")
def flags(model_dir):
    given = transfer_arguments(Path(), "", model_dir)
    given = given[given.index("--") + 1 :]
    at = given.index("--max_train_samples")
    return given[:at] + given[at + 2 :]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, flags):
    """A run on another corpus."""
    folder = tmp_path_factory.mktemp("elsewhere")
    other = write_corpus(folder / "b", 20, 1)
    files = ["--train_file", str(other / "train.conll")]
    output = ["--output_dir", str(folder / "run")]
    ner.main(settings_from(NerSettings, [*flags, *files, *output]))
    return folder / "run"


def arguments(corpus, output_dir, flags, *options, sizes=(10, 40)):
    fixed = ["--corpus", str(corpus), "--output_dir", str(output_dir), "--sizes", *map(str, sizes)]
    return [*fixed, *options, "--", *flags]


@pytest.fixture(scope="module")
def study(tmp_path_factory, corpus, flags, elsewhere):
    output_dir = tmp_path_factory.mktemp("study") / "curve"
    curve.main(arguments(corpus, output_dir, flags, "--zero_shot_from", str(elsewhere)))
    return output_dir


def found(study):
    return json.loads((study / "curve.json").read_text())


def f1_of_ner(output_dir, flags, *more):
    ner.main(settings_from(NerSettings, [*flags, "--output_dir", str(output_dir), *more]))
    return json.loads((output_dir / "predict_results.json").read_text())["predict_f1"]


def test_a_point_is_what_rawtrain_ner_gives_with_as_many_sentences(study, corpus, flags, tmp_path):
    files = [f"--{split}_file={corpus / split}.conll" for split in ("train", "validation", "test")]
    f1 = f1_of_ner(tmp_path / "run", flags, *files, "--max_train_samples", "10")
    assert found(study)["f1"]["10"] == {"mean": f1, "std": None, "by_seed": {"42": f1}}
    assert f1 != found(study)["f1"]["40"]["mean"]


def test_the_zero_shot_line_is_the_f1_of_the_other_runs_model(
    study, corpus, flags, elsewhere, tmp_path
):
    model = ["--model_name_or_path", str(elsewhere), "--do_predict"]
    f1 = f1_of_ner(tmp_path / "run", flags, *model, "--test_file", str(corpus / "test.conll"))
    assert found(study)["zero_shot"] == f1 > 0


def test_the_table_is_printed_and_written(study, corpus, flags, elsewhere, monkeypatch, capsys):
    names = recorded_runs(monkeypatch)
    curve.main(arguments(corpus, study, flags, "--zero_shot_from", str(elsewhere)))
    assert names == []  # all of it is there already
    shown, numbers = capsys.readouterr().out, found(study)
    assert shown.startswith((study / "curve.md").read_text())
    for row in (
        ["0 (zero-shot)", numbers["zero_shot"]],
        *([size, numbers["f1"][size]["mean"]] for size in ("10", "40")),
    ):
        assert f"| {row[0]:<13} | {row[1]:.3f} |" in shown
    assert "F1 on 20 test sentences of a." in shown


def test_interrupted_it_resumes_and_more_sizes_join(study, corpus, flags, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        recorded_runs(patch, stop_at=1)
        with pytest.raises(SystemExit):
            curve.main(arguments(corpus, tmp_path, flags))
    names = recorded_runs(monkeypatch)
    curve.main(arguments(corpus, tmp_path, flags, sizes=(40, 20, 10)))
    assert names == ["20-seed42", "40-seed42"]
    f1 = found(tmp_path)["f1"]
    assert list(map(int, f1)) == [10, 20, 40]
    assert {size: f1[size] for size in ("10", "40")} == found(study)["f1"]
    assert found(tmp_path)["zero_shot"] is None


def result(scores, zero_shot=None):
    scores = {size: Scores(dict(enumerate(values))) for size, values in scores.items()}
    return curve.Curve("de", scores, zero_shot, zero_shot and "en", 100)


def test_the_picture_shows_the_numbers_of_the_table(study):
    assert (study / "curve.png").exists()
    figure = result({250: [0.2, 0.4], 500: [0.5, 0.5]}, zero_shot=0.4).figure()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    line, zero_shot = axes.get_lines()[0], axes.get_lines()[-1]
    assert line.get_xydata().tolist() == [[250, pytest.approx(0.3)], [500, 0.5]]
    assert set(zero_shot.get_ydata()) == {0.4}
    (bars,) = axes.collections  # from mean - std to mean + std
    low, high = bars.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(0.1 * 2**0.5)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["250", "500"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "zero-shot, 0.400",
        "fine-tuned, mean ± standard deviation of 2 seeds",
    ]


@pytest.mark.parametrize(
    ("zero_shot", "answer"),
    [
        (0.25, "500 sentences of de are better than that."),
        (0.15, "250 sentences of de are better than that."),
        (0.9, "No size of these is better than that."),
    ],
)
def test_it_says_how_many_sentences_pass_the_zero_shot_line(zero_shot, answer):
    assert answer in result({250: [0.2], 500: [0.5]}, zero_shot).table()


@pytest.mark.parametrize(
    ("options", "flags_more", "answer"),
    [
        (["--sizes", "61"], [], "--sizes 61: expected a number from 1 to 60"),
        (["--sizes", "0"], [], "--sizes 0"),
        (["--zero_shot_from", "{corpus}"], [], "expected the output directory of a finished run"),
        ([], ["--max_train_samples", "5"], "--max_train_samples after `--`"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_run(
    corpus, flags, monkeypatch, capsys, tmp_path, options, flags_more, answer
):
    names = recorded_runs(monkeypatch)
    options = [option.format(corpus=corpus) for option in options]
    with pytest.raises(SystemExit) as end:
        curve.main(arguments(corpus, tmp_path / "out", [*flags, *flags_more], *options))
    assert end.value.code == 2 and names == [] and not (tmp_path / "out").exists()
    assert answer in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_a_corpus_whose_name_the_font_lacks_is_drawn_without_a_warning():
    scores = Scores({"42": 0.5})
    found = curve.Curve(
        "人名", {250: scores}, zero_shot=None, zero_shot_from=None, predict_samples=9
    )
    found.figure().draw_without_rendering()

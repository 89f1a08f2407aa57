"""What is printed stays readable, whatever the data: long rows, long names, many types."""

import numpy as np
import pytest
from conftest import tagged_sentences, write_conll
from test_mlm import run_mlm
from test_ner import run_ner

from rawtrain.data.columns import Columns
from rawtrain.results.terminal import aligned_example, example, table


class Letters:
    """A tokenizer whose sub-words are as long as their ids say."""

    def convert_ids_to_tokens(self, ids):
        return ["x" * number for number in ids]


def columns(*rows):
    """Rows of labels; every sub-word has one letter."""
    labels = np.concatenate([*map(np.array, rows)])
    offsets = np.cumsum([0, *map(len, rows)])
    return Columns({"input_ids": np.ones(len(labels), int), "labels": labels}, offsets)


NAMES = ["O", "B-PER"]


def test_the_row_shown_is_the_first_short_one_with_an_entity():
    rows = columns([-100, 1, *[0] * 30], [-100, 0, 0, -100], [-100, 0, 1, -100], [1])
    labels = [line.split()[1] for line in aligned_example(Letters(), rows, NAMES)]
    assert labels == ["label", "-100", "O", "B-PER", "-100"]


def test_a_row_that_is_never_short_is_shown_to_the_twentieth_line_and_said_to_go_on():
    lines = aligned_example(Letters(), columns([0] * 365, [1] * 365), NAMES)
    assert len(lines) == 22 and lines[-1] == "... and 345 more"
    lines = example("token", ["x" * 12_345] * 365, "to predict", ["x" * 12_345] * 365)
    assert len(lines) == 22 and lines[-1] == "... and 345 more"
    assert all(len(line) <= 80 for line in lines)
    assert len(example("token", ["x"] * 20, "label", ["O"] * 20)) == 21


def test_the_table_of_the_data_has_forty_types_and_tells_of_the_others():
    figures = {"train": {"words": 900, **{f"  {'t' * 99}{n}": n for n in range(500)}, "cut": 2}}
    lines = table(figures)
    assert len(lines) == 1 + 1 + 40 + 1 + 1
    assert [int(line.split()[1]) for line in lines[2:-2]] == list(range(460, 500))
    assert lines[-2:] == [f"{'cut':<30}      2", "not shown: 460 more types, which report.html has"]


@pytest.fixture(scope="module")
def many_types(tmp_path_factory):
    """60 types of long names, most of them rare."""
    words, tags = tagged_sentences(70)
    for number, sentence in enumerate(words):
        sentence.append("x" * 10_000)
        tags[number].append(f"B-{'long' * 10}-{number % 60}")
    return write_conll(tmp_path_factory.mktemp("many") / "a.conll", words, tags)


def test_a_run_with_many_types_of_long_names_prints_forty_and_fits_80_columns(
    many_types, model_dir, tmp_path, capsys
):
    files = {"train_file": many_types, "validation_file": many_types}
    run_ner(tmp_path / "out", model_dir, files, "--max_steps", "1")
    lines = capsys.readouterr().out.splitlines()
    assert sum("longlong" in line for line in lines) == 2 * (40 - 3) + 1  # two tables, an example
    assert lines.count("not shown: 23 more types, which report.html has") == 2
    assert all(len(line) <= 80 for line in lines if "longlong" in line)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "These are the 40 most frequent of 63 types." in page
    assert "x" * 301 not in page and f"{'x' * 150}…" in page
    assert f"<th>{'long' * 10}-59</th>" in page


def test_an_interval_takes_twenty_sentences(model_dir, tmp_path, capsys):
    files = {}
    for number in (19, 20):
        file = write_conll(tmp_path / f"{number}.conll", *tagged_sentences(number))
        files = {"train_file": file, "validation_file": file}
        run_ner(tmp_path / str(number), model_dir, files, "--max_steps", "1")
        page = (tmp_path / str(number) / "report.html").read_text()
        has_interval = number == 20
        assert ("95 % interval 0." in capsys.readouterr().out) == has_interval
        assert ('class="range"' in page) == has_interval
        assert ("There is no interval for fewer than 20 sentences." in page) != has_interval


def test_a_document_without_end_is_shown_to_where_it_is_cut(model_dir, tmp_path, capsys):
    file = tmp_path / "a.txt"
    file.write_text(" ".join(" ".join(words) for words in tagged_sentences(500)[0]))
    run_mlm(tmp_path / "out", model_dir, str(file), "--max_steps", "1", "--eval_strategy", "no")
    assert "\n... and 28 more\n" in capsys.readouterr().out

"""study/compare.py: tested beside plain Python and chance."""

import numpy as np
import pytest
from conftest import tagged_sentences
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score

from rawtrain.results.bootstrap import f1_of
from rawtrain.results.ner_page import write_predictions
from rawtrain.study import compare
from rawtrain.study.compare import bootstrap_interval, compare_counts, randomisation_p_value

few_cases = settings(max_examples=40)


@st.composite
def two_systems(draw, max_sentences=12):
    """Counts [S, K, 2] of two systems with the same gold entities; K is 2 or 3."""
    num_sentences = draw(st.integers(1, max_sentences))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    gold = rng.integers(0, 4, (num_sentences, draw(st.integers(2, 3))))

    def system():
        correct = rng.integers(0, gold + 1)
        found = correct + rng.integers(0, 3, gold.shape)
        return np.stack([correct, found + gold], axis=-1)

    return system(), system()


def plain_f1(sentences):
    """F1 of a list of (correct, predicted and gold), one a sentence."""
    correct, predicted_and_gold = (sum(counts) for counts in zip(*sentences, strict=True))
    return 2 * correct / predicted_and_gold if predicted_and_gold else 0.0


def one_group(counts, group):
    return [tuple(map(int, row)) for row in counts[:, group]]


def plain_p_value(a, b, num_draws, seed):
    """Swap sentence by sentence, with the draws that the vectorised test takes."""
    draws = iter(np.random.default_rng(seed).random(num_draws * len(a)).tolist())
    found, num_as_large = abs(plain_f1(a) - plain_f1(b)), 0
    for _ in range(num_draws):
        pairs = [(y, x) if next(draws) < 0.5 else (x, y) for x, y in zip(a, b, strict=True)]
        difference = plain_f1([x for x, _ in pairs]) - plain_f1([y for _, y in pairs])
        num_as_large += abs(difference) >= found - 1e-12
    return (num_as_large + 1) / (num_draws + 1)


@few_cases
@given(systems=two_systems(), num_draws=st.sampled_from([1, 7, 300]), seed=st.integers(0, 99))
def test_p_values_are_those_of_plain_python_with_the_same_draws(systems, num_draws, seed):
    a, b = systems
    found = randomisation_p_value(a, b, num_draws, seed)
    for group, p_value in enumerate(found):
        plain = plain_p_value(one_group(a, group), one_group(b, group), num_draws, seed)
        assert p_value == plain


@few_cases
@given(systems=two_systems(), seed=st.integers(0, 99))
def test_the_interval_is_that_of_plain_python_with_the_same_draws(systems, seed):
    a, b = systems
    num_draws, num_sentences = 60, len(a)
    drawn = np.random.default_rng(seed).integers(num_sentences, size=(num_draws, num_sentences))
    lower, upper = bootstrap_interval(a, b, num_draws, seed)
    for group in range(a.shape[1]):
        plain_a, plain_b = one_group(a, group), one_group(b, group)
        differences = [
            plain_f1([plain_a[row] for row in rows]) - plain_f1([plain_b[row] for row in rows])
            for rows in drawn.tolist()
        ]
        expected = np.quantile(differences, [0.025, 0.975])
        # between two draws numpy interpolates several columns with another rounding than one
        np.testing.assert_allclose([lower[group], upper[group]], expected, rtol=0, atol=1e-15)


@few_cases
@given(systems=two_systems(), seed=st.integers(0, 99))
def test_equal_systems_differ_by_0_with_p_1(systems, seed):
    a, _ = systems
    comparison = compare_counts(a, a.copy(), 100, seed)
    assert (comparison.difference == 0).all() and (comparison.p_value == 1).all()
    assert (comparison.lower == 0).all() and (comparison.upper == 0).all()


@few_cases
@given(systems=two_systems(), seed=st.integers(0, 99))
def test_the_other_way_round_only_the_signs_change(systems, seed):
    a, b = systems
    one, other = compare_counts(a, b, 100, seed), compare_counts(b, a, 100, seed)
    assert (one.difference == -other.difference).all() and (one.p_value == other.p_value).all()
    # where 0.975 of 99 steps lies is rounded by 1e-14, and two draws there lie at most 2 apart
    np.testing.assert_allclose(one.lower, -other.upper, rtol=0, atol=3e-14)
    np.testing.assert_allclose(one.upper, -other.lower, rtol=0, atol=3e-14)


@few_cases
@given(systems=two_systems())
def test_systems_that_differ_everywhere_in_one_way_have_the_smallest_p_value(systems):
    gold = np.full((200, 1, 1), 3)
    good, bad = (np.concatenate([gold * 0 + found, 2 * gold], axis=-1) for found in (3, 1))
    comparison = compare_counts(good, bad, 500, 0)
    assert comparison.p_value == [1 / 501] and comparison.difference == comparison.lower


def random_systems(rng, quality_a=0.6, quality_b=0.6, num_sentences=60):
    """Two systems that find each of 0 to 3 entities of a sentence with these probabilities."""
    gold = rng.integers(0, 4, (num_sentences, 1))
    found = [rng.binomial(gold, quality) for quality in (quality_a, quality_b)]
    return [
        np.stack([right, right + rng.binomial(3, 0.2, gold.shape) + gold], -1) for right in found
    ]


def test_of_equal_systems_about_one_in_twenty_is_called_different():
    rng = np.random.default_rng(0)
    p_values = [randomisation_p_value(*random_systems(rng), 200, seed)[0] for seed in range(1000)]
    # 1,000 tests at 5 %: a standard deviation of 0.7 points, and three of them to either side
    assert 0.029 <= np.mean(np.array(p_values) < 0.05) <= 0.071
    assert 0.45 <= np.mean(np.array(p_values) < 0.5) <= 0.55


def test_the_interval_covers_the_true_difference_in_about_95_of_100_samples():
    rng = np.random.default_rng(1)
    population = random_systems(rng, 0.7, 0.6, num_sentences=200_000)
    truth = f1_of(population[0].sum(0)) - f1_of(population[1].sum(0))
    covered = []
    for seed in range(400):
        lower, upper = bootstrap_interval(*random_systems(rng, 0.7, 0.6), 200, seed)
        covered.append(lower[0] <= truth[0] <= upper[0])
    # 400 intervals: 1.1 points of standard deviation; a bootstrap of 60 sentences is a bit narrow
    assert 0.91 <= np.mean(covered) <= 0.98


def test_a_true_difference_is_found_where_there_are_sentences_enough():
    rng = np.random.default_rng(2)
    a, b = random_systems(rng, 0.75, 0.6, num_sentences=1000)
    comparison = compare_counts(a, b, 1000, 0)
    assert comparison.p_value[0] < 0.01 and comparison.lower[0] > 0


# The command


def change(tags, rng, share):
    """The tags of sentences, of which a share loses its entities."""
    return [["O"] * len(row) if rng.random() < share else row for row in tags]


@pytest.fixture
def make_run(tmp_path):
    def make(name, words, gold, predicted):
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name / "predictions.conll", words, gold, predicted)
        return str(tmp_path / name)

    return make


@pytest.fixture
def data():
    words, gold = tagged_sentences(120)
    rng = np.random.default_rng(9)  # not that of the test's draws
    return words, gold, change(gold, rng, 0.1), change(gold, rng, 0.5)


def rows_of(shown):
    """The numbers of the printed table by the name of the row."""
    lines = shown.split("in gold\n")[1].split("\n\n")[0].splitlines()
    return {line[:9].strip(): line[9:].replace(" to ", " ").split() for line in lines}


def test_the_table_has_seqevals_f1_of_all_types_and_of_each(make_run, data, capsys):
    words, gold, tags_a, tags_b = data
    runs = make_run("a", words, gold, tags_a), make_run("b", words, gold, tags_b)
    compare.main([*runs, "--draws", "500"])
    rows = rows_of(capsys.readouterr().out)
    assert list(rows) == ["all types", "LOC", "ORG", "PER"]
    for name, (f1_a, f1_b, difference, lower, upper, p_value, num_gold) in rows.items():

        def only(sentences, kind=name[-3:]):
            if kind == "pes":
                return sentences
            return [[tag if tag.endswith(kind) else "O" for tag in row] for row in sentences]

        expected = [f1_score(only(gold), only(tags)) for tags in (tags_a, tags_b)]
        assert [f1_a, f1_b] == [f"{value:.3f}" for value in expected]
        assert difference == f"{expected[0] - expected[1]:+.3f}"
        assert float(lower) < float(difference) < float(upper) and float(p_value) < 0.05
        assert int(num_gold) == sum(tag[0] == "B" for row in only(gold) for tag in row)


def test_it_says_in_words_which_is_better_or_that_neither_is_shown_to_be(make_run, data, capsys):
    words, gold, tags_a, tags_b = data
    runs = {
        "gold": make_run("gold", words, gold, gold),
        "good": make_run("good", words, gold, tags_a),
        "bad": make_run("bad", words, gold, tags_b),
        "near": make_run("near", words, gold, [["O"] * len(gold[0]), *gold[1:]]),
    }

    def said(a, b):
        compare.main([runs[a], runs[b], "--draws", "500"])
        return capsys.readouterr().out

    assert "A is better than B: of equal systems, 0.2 % would differ" in said("good", "bad")
    assert "B is better than A: of equal systems, 0.2 % would differ" in said("bad", "good")
    assert "A has the higher F1, but that may be chance: of equal" in said("gold", "near")
    assert "Both have the same F1." in said("bad", "bad")
    assert "120 test sentences, the same for both; 1 are tagged differently" in said("gold", "near")


def test_the_same_seed_gives_the_same_numbers_and_another_other_ones(make_run, data, capsys):
    words, gold, tags_a, tags_b = data
    runs = make_run("a", words, gold, tags_a), make_run("b", words, gold, tags_b)
    shown = []
    for seed in ("0", "0", "1"):
        compare.main([*runs, "--draws", "100", "--seed", seed])
        shown.append(rows_of(capsys.readouterr().out))
    assert shown[0] == shown[1] != shown[2]


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        compare.main(list(arguments))
    assert end.value.code == 2
    return capsys.readouterr().err


def test_runs_over_different_sentences_are_refused_with_what_differs(make_run, data, capsys):
    words, gold, tags, _ = data
    run = make_run("a", words, gold, tags)
    shorter = make_run("shorter", words[:7], gold[:7], tags[:7])
    error = refusal(capsys, run, shorter)
    assert "(120 and 7 sentences): the words of sentence 8 differ" in error and "(none)" in error
    other_words = [["then", *words[0][1:]], *words[1:]]
    error = refusal(capsys, make_run("words", other_words, gold, tags), run)
    assert "the words of sentence 1 differ" in error and "then met" in error
    other_gold = [*gold[:-1], ["O"] * len(gold[-1])]
    error = refusal(capsys, run, make_run("gold", words, other_gold, tags))
    assert "the gold tags of sentence 120 differ" in error


def test_a_folder_without_predictions_of_entities_is_refused(make_run, data, capsys, tmp_path):
    words, gold, tags, _ = data
    run = make_run("a", words, gold, tags)
    assert "predictions.conll is not there" in refusal(capsys, run, str(tmp_path))
    nouns = [["NOUN"] * len(row) for row in gold]
    pos = make_run("pos", words, nouns, nouns)
    assert "the tag 'NOUN' is no IOB2 tag" in refusal(capsys, pos, pos)
    assert "--draws must be 1 or more" in refusal(capsys, run, run, "--draws", "0")

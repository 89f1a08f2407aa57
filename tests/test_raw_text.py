"""Raw text is cut into words as the corpora of taggers have them."""

import pytest
from hypothesis import example, given
from hypothesis import settings as drawing
from hypothesis import strategies as st

from rawtrain.data.raw_text import learn_apostrophes, split_words

# What str.isspace() takes for a space and Unicode does not: four control characters.
NO_SPACE = "\x1c\x1d\x1e\x1f"


def words_of(text):
    return [text[start:end] for start, end in split_words(text)]


def is_space(sign):
    return sign.isspace() and sign not in NO_SPACE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Jeff Dean works at Google.", "Jeff Dean works at Google ."),
        ("the U.S. and J. R. R. Tolkien", "the U.S. and J. R. R. Tolkien"),
        ("Dean's office, they're out", "Dean 's office , they 're out"),
        ("O'Neill d’Italia isn't", "O'Neill d’Italia isn't"),
        ("Saint-Étienne (3,000 m²) won 6–3 or 6:4", "Saint-Étienne ( 3,000 m² ) won 6–3 or 6:4"),
        ("''Foo'' ... **", "'' Foo '' ... **"),
        ("AT&T torch.nn.Linear __init__", "AT&T torch.nn.Linear __init__"),
        ("a,b and/or c:d", "a , b and / or c : d"),
        ("नमस्ते e\u0301te می\u200cخواهم", "नमस्ते e\u0301te می\u200cخواهم"),
        ("東京に行く", "東 京 に 行 く"),
        ("a\u00a0b\u2003c\nd\te", "a b c d e"),
        ("👨‍👩‍👧 ❤️ 🇩🇪!", "👨‍👩‍👧 ❤️ 🇩🇪 !"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_words_are_those_that_conll_files_have(text, words):
    assert words_of(text) == words.split()


@pytest.mark.parametrize(
    ("training", "text", "words"),
    [
        (
            "Vive l' Allemagne . d' O'Neill",
            "l'Italie d’Italie L’O'Neill",
            "l' Italie d’ Italie L’ O'Neill",
        ),
        ("l’ Unione dell’ arte", "dell'Unione un'arte", "dell' Unione un'arte"),
        ("aujourd'hui d' Italie", "aujourd'hui d'Italie", "aujourd'hui d' Italie"),
        ("Dean 's O'Neill", "Dean's O'Neill they're", "Dean 's O'Neill they 're"),
        ("Ankara 'da", "Ankara'da", "Ankara 'da"),
        ("foto's auto's", "foto's l'Europe", "foto's l'Europe"),
        ("no mark", "Dean's d'Italia", "Dean 's d'Italia"),
    ],
)
def test_text_is_cut_at_apostrophes_where_the_training_words_are(training, text, words):
    learnt = learn_apostrophes([training.split()])
    assert [text[start:end] for start, end in split_words(text, learnt)] == words.split()


def test_nothing_learnt_is_the_default_and_strange_patterns_are_no_patterns():
    assert split_words("they're d'Italia", learn_apostrophes([])) == split_words("they're d'Italia")
    strange = ["(a+)+'", "'.*", "", "l'l'"]
    assert [b - a for a, b in split_words("aaa'b l'Est", strange)] == [5, 5]


def test_words_of_several_characters_without_blanks_between_them_are_said(caplog):
    learn_apostrophes([["我们", "爱", "北京"]])
    assert "2 of 3 words have several Chinese" in caplog.text and "tag_words" in caplog.text
    caplog.clear()
    learn_apostrophes([["我", "爱", "北"], ["Jeff", "Dean"]])
    assert not caplog.text


@drawing(max_examples=300)
@given(st.text() | st.text("ab.,'’-&1 \u200d\u0301\u00a0👩", max_size=30))
@example("\x1f \u200b\ufeff")
def test_every_character_but_white_space_belongs_to_exactly_one_word(text):
    spans = split_words(text)
    places = [place for start, end in spans for place in range(start, end)]
    assert places == [place for place, sign in enumerate(text) if not is_space(sign)]
    assert all(start < end for start, end in spans)


@pytest.mark.parametrize("text", ["ab" * 200_000, "漢\u0301" * 100_000, "x" * 3_000_000])
def test_a_text_without_blanks_is_cut_however_long_it_is(text):
    spans = split_words(text)
    assert [place for span in spans for place in span][1:-1:2] == [start for start, _ in spans[1:]]
    assert (spans[0][0], spans[-1][1]) == (0, len(text))


def test_words_of_a_long_text_are_those_of_its_parts_between_blanks():
    part = "Jeff Dean's U.S. office (3,000 m²) isn't in Saint-Étienne... "
    spans = split_words(part * 1000)
    alone, length = split_words(part), len(part)
    assert spans == [(a + n * length, b + n * length) for n in range(1000) for a, b in alone]


def test_the_place_of_half_a_surrogate_pair_is_right_in_a_long_text():
    with pytest.raises(ValueError, match="character 30001 of the text is half"):
        split_words("ab " * 10_000 + "\udcff")


def test_half_of_a_surrogate_pair_is_refused_with_its_place():
    with pytest.raises(ValueError, match="character 4 of the text is half of a surrogate pair"):
        split_words("ab \udcff")

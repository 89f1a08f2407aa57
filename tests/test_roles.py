import pytest

from rawtrain.data.roles import sentences, strip_markup


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("a :class:`Tensor`.", "a/O Tensor/B-CLASS ./O"),
        ("a :py:class:`Tensor`", "a/O Tensor/B-CLASS"),
        (":func:`torch.nn.functional.relu`", "torch.nn.functional.relu/B-FUNC"),
        (":func:`~torch.nn.functional.relu`", "relu/B-FUNC"),
        (":func:`relu()`", "relu/B-FUNC"),
        (":meth:`~Tensor.add_`", "add_/B-FUNC"),
        (":meth:`.backward`", "backward/B-FUNC"),
        (":attr:`!weight`", "weight/B-ATTR"),
        (":attr:`weight`'s", "weight/B-ATTR 's/O"),
        (":attr:`dim`\\ s", "dim/B-ATTR \\/O s/O"),
        (":exc:`ValueError`", "ValueError/B-CLASS"),
        (":class:`the optimizer <torch.optim.Optimizer>`", "the/B-CLASS optimizer/I-CLASS"),
        (":attr:`a`:attr:`b`", "a/B-ATTR b/B-ATTR"),
        (":obj:`some words`", "some/O words/O"),
        (":mod:`torch.nn` and :data:`sys.path`", "torch.nn/O and/O sys.path/O"),
        (":ref:`the notes <notes>`", "the/O notes/O"),
        ("``True`` or `False`", "True/O or/O False/O"),
        ("`the paper <https://example.org>`_ says", "the/O paper/O says/O"),
        ("*args* and **bold** text", "args/O and/O bold/O text/O"),
        ("don't, element-wise 1.5", "don't/O ,/O element-wise/O 1.5/O"),
    ],
)
def test_markup_becomes_the_words_a_reader_sees_and_roles_become_tags(markup, expected):
    words, tags = strip_markup(markup).words_and_tags()
    assert " ".join(f"{word}/{tag}" for word, tag in zip(words, tags, strict=True)) == expected


DOCSTRING = """Applies a linear map to its input. It is *fast*, e.g. :class:`Linear` uses it.

    This line is wrapped and
    goes on in the next one

    .. note:: A note is prose as well.
        Even its second line is.

    .. math::
        this formula is written in words

    .. a comment that nobody is shown

    Code follows these words::

        for every line in this block

    A formula :math:`x` is in this sentence.
    The signs a = b mean that this is code.

    Args:
        size (int, optional): the size of each sample
        bias: whether there is a bias at all
            that is learnt
        - an item of some list

    Returns:
        what it was given before

    Too short here.

    >>> print("this is a doctest of words")
    ... and it goes on here

    Names Like These and Headings Are No Plain Words

    The last sentence is prose.
"""


def test_prose_is_kept_and_code_formulas_and_doctests_are_not():
    assert [sentence.text for sentence in sentences(DOCSTRING)] == [
        "Applies a linear map to its input.",
        "It is fast, e.g. Linear uses it.",
        "This line is wrapped and goes on in the next one",
        "A note is prose as well.",
        "Even its second line is.",
        "the size of each sample",
        "whether there is a bias at all that is learnt",
        "an item of some list",
        "what it was given before",
        "The last sentence is prose.",
    ]


@pytest.mark.parametrize(("num_words", "num_sentences"), [(3, 0), (4, 1), (40, 1), (41, 0)])
def test_a_sentence_has_4_to_40_words(num_words, num_sentences):
    assert len(list(sentences("word " * num_words))) == num_sentences


@pytest.mark.parametrize(
    ("text", "is_fully_marked"),
    [
        ("see :func:`torch.add` for more, e.g. its :attr:`out`.", True),
        ("it is ``None`` or ``0.5`` or False on a device", True),
        ("see :ref:`notes` for :class:`Tensor`", True),
        (":attr:`dim` or ``keepdim``", False),
        (":mod:`pickle` loads it", False),
        ("see torch.add for more", False),
        ("has the flag requires_grad set", False),
        ("runs on CUDA", False),
        ("an IntTensor of its shape", False),
        ("returns what item() returns", False),
    ],
)
def test_a_name_that_the_author_did_not_mark_is_noticed(text, is_fully_marked):
    assert strip_markup(text).is_fully_marked == is_fully_marked

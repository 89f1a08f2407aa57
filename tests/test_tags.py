"""Tag schemes: found, told apart, converted to IOB2; seqeval is the judge of the entities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from rawtrain.data.tags import (
    TaggedSentences,
    check_known,
    check_tags,
    detect_scheme,
    label_list,
    to_iob2,
    unify,
)


def sentences(*tag_sequences, source="data.conll"):
    """Sentences on the lines of a CoNLL file."""
    lines, line = [], 1
    for tags in tag_sequences:
        lines.append(list(range(line, line + len(tags))))
        line += len(tags) + 1
    words = [[f"w{n}" for n in numbers] for numbers in lines]
    return TaggedSentences(words, [list(tags) for tags in tag_sequences], lines, source)


def render(spans, scheme):
    """(type or None, length) pairs as tags: the definition of the schemes, from the entity side."""
    tags, previous = [], None
    for entity_type, length in spans:
        if entity_type is None:
            tags += ["O"] * length
        elif scheme == "IOB1":
            first = "B-" if previous == entity_type else "I-"
            tags += [first + entity_type] + ["I-" + entity_type] * (length - 1)
        elif scheme == "IOB2":
            tags += ["B-" + entity_type] + ["I-" + entity_type] * (length - 1)
        else:
            last, only = ("E-", "S-") if scheme == "IOBES" else ("L-", "U-")
            inner = ["I-" + entity_type] * (length - 2)
            whole = ["B-" + entity_type, *inner, last + entity_type]
            tags += [only + entity_type] if length == 1 else whole
        previous = entity_type
    return tags


span = st.tuples(st.sampled_from([None, "PER", "LOC", "A-B"]), st.integers(1, 4))
corpus = st.lists(st.lists(span, min_size=1, max_size=8), min_size=1, max_size=4)
SCHEMES = ["IOB1", "IOB2", "IOBES", "BILOU"]


def entities(spans):
    found, start = [], 0
    for entity_type, length in spans:
        if entity_type is not None:
            found.append((entity_type, start, start + length - 1))
        start += length
    return found


@given(corpus, st.sampled_from(SCHEMES))
def test_the_same_entities_become_the_same_iob2_from_every_scheme(spans, scheme):
    for sentence in spans:
        iob2 = to_iob2(render(sentence, scheme))
        assert iob2 == render(sentence, "IOB2")
        assert get_entities(iob2) == entities(sentence)


@given(corpus, st.sampled_from([("IOB1", IOB1), ("IOB2", IOB2), ("IOBES", IOBES)]))
def test_seqeval_in_strict_mode_reads_the_same_entities(spans, scheme):
    name, strict = scheme
    tag_sequences = [render(sentence, name) for sentence in spans]
    before = Entities(tag_sequences, strict).entities
    after = Entities([to_iob2(tags) for tags in tag_sequences], IOB2).entities
    assert [[e.to_tuple() for e in s] for s in before] == [[e.to_tuple() for e in s] for s in after]


@given(corpus, st.sampled_from(SCHEMES))
def test_the_scheme_is_found_wherever_the_tags_tell_it_apart(spans, scheme):
    tag_sequences = [render(sentence, scheme) for sentence in spans]
    same_as_iob2 = tag_sequences == [render(sentence, "IOB2") for sentence in spans]
    expected = "IOB2" if same_as_iob2 else {"BILOU": "IOBES"}.get(scheme, scheme)
    assert detect_scheme(tag_sequences) == expected


@given(st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12))
def test_loose_tags_are_read_as_seqeval_reads_them(tags):
    assert get_entities(to_iob2(tags)) == get_entities(tags)
    assert to_iob2(to_iob2(tags)) == to_iob2(tags)


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [("", "IOB2"), ("O O", "IOB2"), ("B-A B-A", "IOB2"), ("I-A B-A", "IOB1"), ("I-A B-B", "IOB2")],
)
def test_a_b_after_another_type_is_not_iob1(tags, scheme):
    assert detect_scheme([tags.split()]) == scheme


@pytest.mark.parametrize(
    ("tags", "iob2"),
    [
        ("I-A I-A B-A I-A", "B-A I-A B-A I-A"),
        ("I-A I-B B-B O I-B", "B-A B-B B-B O B-B"),
        ("B-A E-A S-A B-A I-A E-A", "B-A I-A B-A B-A I-A I-A"),
        ("S-A U-B B-A L-A", "B-A B-B B-A I-A"),
        ("O I-A O", "O B-A O"),
        ("B-X-1 I-X-2", "B-X-1 B-X-2"),
    ],
)
def test_neighbouring_entities_stay_apart(tags, iob2):
    assert to_iob2(tags.split()) == iob2.split()


def test_a_stray_i_in_iob2_is_read_as_b_and_counted():
    train = sentences(["B-A", "I-A", "O", "I-B"], ["B-A", "B-B"])
    test = sentences(["B-A", "O", "I-B", "I-B"])
    splits, scheme, num_repaired = unify({"train": train, "test": test})
    assert (scheme, num_repaired) == ("IOB2", 2)
    assert splits["train"].tags == [["B-A", "I-A", "O", "B-B"], ["B-A", "B-B"]]
    assert splits["test"].tags == [["B-A", "O", "B-B", "I-B"]]
    assert train.tags[0][3] == "I-B"


@pytest.mark.parametrize("tags", [["I-A", "I-A", "B-A"], ["S-A", "B-A", "E-A"]])
def test_a_conversion_is_no_repair(tags):
    assert unify({"train": sentences(tags)})[2] == 0


@pytest.mark.parametrize(
    ("tag_sequences", "evidence"),
    [
        ([["I-A", "O", "I-A"], ["O", "B-A"]], ["2 begin with I-", "d:1)", "1 with B-", "d:6)"]),
        ([["S-A"], ["O", "I-A", "O"]], ["d:4: 'I-A' follows 'O'"]),
        ([["S-A"], ["B-A", "O"]], ["d:4: 'O' follows 'B-A'"]),
        ([["S-A"], ["B-A"]], ["d:3: the end of the sentence follows 'B-A'"]),
        ([["U-A"], ["B-A", "L-B"]], ["d:4: 'L-B' follows 'B-A'"]),
        ([["S-A", "I-A"]], ["d:2: 'I-A' follows 'S-A'"]),
    ],
)
def test_a_mixture_is_refused_with_lines_as_evidence(tag_sequences, evidence):
    with pytest.raises(ValueError) as error:
        unify({"train": sentences(*tag_sequences, source="d")})
    for part in evidence:
        assert part in str(error.value)


def test_a_split_in_another_scheme_is_refused_unless_it_has_no_entity():
    train = sentences(["B-A", "I-A"], source="train.conll")
    with pytest.raises(ValueError, match=r"test\.conll has IOBES.*train\.conll has IOB2"):
        unify({"train": train, "test": sentences(["B-A", "E-A"], source="test.conll")})
    iobes = sentences(["B-A", "E-A"])
    assert unify({"train": iobes, "test": sentences(["O"])})[1] == "IOBES"


def test_a_short_split_that_looks_like_iob1_is_read_as_iob2_if_another_split_is():
    train = sentences(["B-A", "I-A"])
    splits, scheme, num_repaired = unify({"train": train, "test": sentences(["I-A", "I-A"])})
    assert splits["test"].tags == [["B-A", "I-A"]]
    assert (scheme, num_repaired) == ("IOB2", 1)


@pytest.mark.parametrize(
    "tag", ["b-per", "B_PER", "B-", "", "0", "o", "PER", "X-PER", "O-PER", "_"]
)
def test_a_tag_of_no_scheme_is_listed_with_its_line_and_number(tag):
    with pytest.raises(ValueError) as error:
        check_tags([sentences(["O"], ["B-PER", tag], [tag, tag])])
    assert f"data.conll:4: the tag {tag!r} is not an IOB tag (3 times)" in str(error.value)


def test_all_wrong_tags_of_all_splits_are_reported_at_once():
    with pytest.raises(ValueError) as error:
        check_tags([sentences(["x", "y"], source="a"), sentences(["z"], source="b")])
    assert [line[:4] for line in str(error.value).splitlines()[:3]] == ["a:1:", "a:2:", "b:1:"]


def test_labels_are_sorted_and_a_tag_that_only_another_split_has_is_named():
    train = sentences(["O", "B-PER", "I-PER"])
    test = sentences(["O"], ["O", "B-LOC"], source="test.conll")
    labels = label_list(train.tags)
    assert labels == ["B-PER", "I-PER", "O"]
    check_known({"train": train}, labels)
    with pytest.raises(ValueError, match=r"test\.conll:4: the tag 'B-LOC' of the test split"):
        check_known({"train": train, "test": test}, labels)

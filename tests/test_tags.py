"""Tag schemes: found, told apart, converted to IOB2; seqeval is the judge of the entities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from rawtrain.data.schemes import detect_scheme, iob2_labels, to_iob2
from rawtrain.data.tags import TaggedSentences, check_tags, unify


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
            inside, last, only = (f"{letter}-" for letter in LETTERS[scheme])
            inner = [inside + entity_type] * (length - 2)
            whole = ["B-" + entity_type, *inner, last + entity_type]
            tags += [only + entity_type] if length == 1 else whole
        previous = entity_type
    return tags


span = st.tuples(st.sampled_from([None, "PER", "LOC", "A-B"]), st.integers(1, 4))
corpus = st.lists(st.lists(span, min_size=1, max_size=8), min_size=1, max_size=4)
LETTERS = {"IOBES": "IES", "BILOU": "ILU", "BMES": "MES", "BMEWO": "MEW"}
SCHEMES = ["IOB1", "IOB2", *LETTERS]


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
    rivals = ["IOB2", *LETTERS]  # of equal tags the first
    expected = next((r for r in rivals if same_tags(tag_sequences, spans, r)), scheme)
    assert detect_scheme(tag_sequences) == expected


def same_tags(tag_sequences, spans, scheme):
    return tag_sequences == [render(sentence, scheme) for sentence in spans]


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


BROKEN = [
    ([["I-A", "O", "I-A"], ["O", "B-A"]], ["d:1: I-A follows O (2 times)", "neither IOB1 nor"]),
    ([["S-A"], ["O", "I-A", "O"]], ["d:4: I-A follows O", "are IOBES"]),
    ([["S-A"], ["B-A", "O"]], ["d:4: O follows B-A"]),
    ([["S-A"], ["B-A"]], ["d:3: O (the end of the sentence) follows B-A"]),
    ([["U-A"], ["B-A", "L-B"]], ["d:4: L-B follows B-A", "are BILOU"]),
    ([["S-A", "I-A"]], ["d:2: I-A follows S-A"]),
    ([["W-A", "B-A", "B-A", "M-A", "E-A", "E-A"]], ["d:3: B-A follows B-A", "d:6: E-A follows E-"]),
]


@pytest.mark.parametrize(("tag_sequences", "evidence"), BROKEN)
def test_a_mixture_is_refused_with_lines_as_evidence_and_the_flag(tag_sequences, evidence):
    with pytest.raises(ValueError) as error:
        unify({"train": sentences(*tag_sequences, source="d")})
    for part in [*evidence, "--repair_tags"]:
        assert part in str(error.value)


@pytest.mark.parametrize(("tag_sequences", "evidence"), BROKEN)
def test_repaired_tags_are_counted_and_read_as_seqeval_reads_them(tag_sequences, evidence):
    splits, _, num_repaired = unify({"train": sentences(*tag_sequences)}, repair_tags=True)
    assert num_repaired >= sum(": " in part for part in evidence)
    as_seqeval_knows = [[iobes(tag) for tag in tags] for tags in tag_sequences]
    assert get_entities(splits["train"].tags) == get_entities(as_seqeval_knows)


def iobes(tag):
    return tag[0].translate(str.maketrans("LUMW", "ESIS")) + tag[1:]


# the same sentences in each notation, and what the run says of it
WRITTEN = [
    ("B-PER I-PER O B-LOC", "IOB2"),
    ("B-PER E-PER O S-LOC", "IOBES"),
    ("B-PER L-PER O U-LOC", "BILOU"),
    ("B-PER E-PER O S-LOC | B-A M-A E-A", "BMES"),
    ("B-PER E-PER O W-LOC | B-A M-A E-A", "BMEWO"),
    ("B_PER I_PER O B_LOC", "IOB2 written B_PER"),
    ("B:PER I:PER O B:LOC", "IOB2 written B_PER"),
    ("PER-B PER-I O LOC-B", "IOB2 written PER-B"),
    ("PER_B PER_I O LOC_B", "IOB2 written PER-B"),
    ("b-PER i-PER o b-LOC", "IOB2 written b-per"),
    ("b-PER e-PER O s-LOC", "IOBES written b-per"),
    ("PER-m PER-e o LOC-s | LOC-b LOC-e", "BMES written per-b"),
    ("(PER* *) * (LOC)", "OntoNotes brackets"),
    ("(PER* *) * (LOC*) | (PER* * * *)", "OntoNotes brackets"),
    ("PER PER O LOC | O O", "IO"),
]


@pytest.mark.parametrize(("written", "said"), WRITTEN)
def test_tags_are_read_in_every_notation_and_the_run_says_which(written, said):
    tag_sequences = [part.split() for part in written.split(" | ")]
    splits, scheme, num_repaired = unify({"train": sentences(*tag_sequences)}, repair_tags=True)
    assert (scheme, splits["train"].tags[0]) == (said, ["B-PER", "I-PER", "O", "B-LOC"])
    assert num_repaired == ("LOC-m" in written) + ("PER-m" in written)


@pytest.mark.parametrize(
    ("tags", "iob2"),
    [
        ("B I O B B", "B-_ I-_ O B-_ B-_"),
        ("b i o b", "B-_ I-_ O B-_"),
        ("S O B M E", "B-_ O B-_ I-_ I-_"),
        ("O O art-film art-film O art-music", "O O B-art-film I-art-film O B-art-music"),
    ],
)
def test_bare_letters_have_seqevals_type_and_types_alone_join(tags, iob2):
    found = unify({"train": sentences(tags.split())})[0]["train"].tags[0]
    assert " ".join(found) == iob2
    if "_" in iob2:
        assert get_entities(found) == get_entities(tags.upper().replace("M", "I").split())


def test_a_type_that_looks_like_another_notation_does_not_change_it():
    tags = ["B-PER-B", "I-PER-B", "O", "B-B_X", "B-I"]
    splits, scheme, _ = unify({"train": sentences(tags)})
    assert (splits["train"].tags, scheme) == ([tags], "IOB2")


@pytest.mark.parametrize(
    "tags",
    [
        "NNP VBZ NNP NNP",  # no O
        "O 1 2 O O",
        "O O it . the O",
        "O PER PER PER",  # O is not the most frequent
        "O O O PER B-PER",
        " ".join(f"O O w{number}" for number in range(30)),  # each once
        " ".join(f"O t{number} t{number} O" for number in range(201)),
        "B-PER b-per O",
        "B_PER B-PER O",
        "O O O BPER IPER",  # types alone, or are they?
        "O O O Begin-PER Inside-PER",
        "O O B-DNA|B-protein I-DNA|I-protein O|I-protein",
        "O O B-LOC\u200b B-LOC",  # which look alike
    ],
)
def test_a_wrong_column_or_a_mixture_of_notations_is_refused(tags):
    with pytest.raises(ValueError, match="--tag_column"):
        unify({"train": sentences(tags.split())}, repair_tags=True)


@pytest.mark.parametrize("tags", ["(A* (B)", "*)", "(A* *", "(A*) *)"])
def test_brackets_that_do_not_match_are_refused_with_their_line(tags):
    with pytest.raises(ValueError, match=r"d:[12]: .* follows "):
        unify({"train": sentences(tags.split(), source="d")})


@pytest.mark.parametrize(
    ("names", "iob2"),
    [
        ("O B-PER I-PER", "O B-PER I-PER"),
        ("O I-PER I-LOC", "O I-PER I-LOC"),
        ("B-PER I-PER L-PER U-PER O", "B-PER I-PER I-PER B-PER O"),
        ("[PAD] O B-PER X [CLS] [SEP]", "O O B-PER O O O"),
        ("o b-per m-per e-per s-per", "O B-per I-per I-per B-per"),
        ("O PER LOC", "O I-PER I-LOC"),
        ("O B I", "O B-_ I-_"),
    ],
)
def test_the_labels_of_a_model_are_read_as_the_tags_of_data_are(names, iob2):
    assert iob2_labels(names.split(), "model") == iob2.split()


@pytest.mark.parametrize("names", ["NOUN VERB X", "LABEL_0 LABEL_1", "O B-PER 3", "0 , ."])
def test_labels_of_a_model_that_mark_no_entities_are_refused(names):
    with pytest.raises(ValueError, match=r"model: its labels, such as '.*', mark no entities"):
        iob2_labels(names.split(), "model")


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
    "tag", ["b-per", "B_PER", "B-", "", "0", "o", "PER", "X-PER", "O-PER", "_", "*", "(PER)"]
)
def test_a_tag_of_no_scheme_is_listed_with_its_line_and_number(tag):
    with pytest.raises(ValueError) as error:
        check_tags([sentences(["O", "I-A", "I-A", "I-A"], ["B-PER", tag], [tag, tag])])
    assert f"data.conll:7: the tag {tag!r} is not an IOB tag (3 times)" in str(error.value)


def test_all_wrong_tags_of_all_splits_are_reported_at_once():
    with pytest.raises(ValueError) as error:
        check_tags([sentences(["x", "y"], source="a"), sentences(["z"], source="b")])
    assert [line[:4] for line in str(error.value).splitlines()[:3]] == ["a:1:", "a:2:", "b:1:"]

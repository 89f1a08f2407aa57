"""What both collator tests are made of: small tokenizers, random features, one comparison."""

import copy
import random
import warnings

import numpy as np
import torch
import transformers
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import BatchEncoding, BertTokenizerFast, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece_tokenizer(**settings):
    tokens = [*SPECIAL, *"abcdefgh", "##a", "##b", "##c"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return BertTokenizerFast(vocab=vocabulary, **settings)


def bare_tokenizer(tokens, **settings):
    """One that has only the special tokens named in `settings`."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = models.WordLevel(vocabulary, unk_token=tokens[0])
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **settings)


def byte_level_tokenizer():
    names = dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>", mask_token="<mask>")
    tokens = [*names.values(), *(chr(0x100 + byte) for byte in range(256))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, []))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


TOKENIZERS = {
    "right": wordpiece_tokenizer(model_max_length=12, pad_token_type_id=2),
    "left": wordpiece_tokenizer(padding_side="left"),
    "byte-level": byte_level_tokenizer(),
    "no pad token": bare_tokenizer(["a", "b", "[MASK]"], mask_token="[MASK]"),
    "no mask token": bare_tokenizer(["a", "b", "[PAD]"], pad_token="[PAD]"),
    "no attention mask": wordpiece_tokenizer(model_input_names=["input_ids"]),
}

# What a row may come as. Floats, bools and narrow integers keep or lose their type by other rules
# than plain int64.
FORMS = {
    "list": list,
    "array": np.array,
    "int32 array": lambda row: np.array(row, dtype=np.int32),
    "uint8 array": lambda row: np.array(row, dtype=np.uint8),
    "tensor": lambda row: torch.tensor(row, dtype=torch.int64),
    "int32 tensor": lambda row: torch.tensor(row, dtype=torch.int32),
}
FRAMEWORKS = st.sampled_from(["pt", "pt", "np", "np", "tf"])
MULTIPLES = st.sampled_from([None, None, 2, 8])


@st.composite
def feature_lists(draw, labels=("labels", "label", None), shape_of_labels="row"):
    """Lists of 1 to 5 features; the contents come from one seed, for speed."""
    numbers = random.Random(draw(st.integers(0, 2**32)))
    num_rows = draw(st.integers(1, 5))
    lengths = [numbers.randint(0, 9) for _ in range(num_rows)]
    if draw(st.booleans()):
        lengths = [lengths[0]] * num_rows
    form = FORMS[draw(st.sampled_from([*FORMS, "list"]))]

    def integers(highest):
        return [form([numbers.randint(0, highest) for _ in range(n)]) for n in lengths]

    columns = {"input_ids": integers(7)}
    for name in draw(st.sets(st.sampled_from(["attention_mask", "token_type_ids"]))):
        columns[name] = integers(1)
    if draw(st.booleans()):
        columns["special_tokens_mask"] = integers(1)
    if (label_name := draw(st.sampled_from(labels))) is not None:
        columns[label_name] = integers(4)
    extra = draw(st.sampled_from([None, None, None, "number", "float", "pair", "ragged", "text"]))
    if extra is not None:
        columns[extra] = _extra_column(extra, lengths, numbers)
    names = draw(st.permutations(sorted(columns)))
    return [{name: columns[name][i] for name in names} for i in range(num_rows)]


def _extra_column(kind, lengths, numbers):
    of_one_row = {
        "number": lambda n: numbers.randint(0, 9),
        "float": lambda n: numbers.random(),
        "pair": lambda n: np.array([numbers.random(), 1], dtype=np.float32),
        "ragged": lambda n: [1] * n,
        "text": lambda n: "text",
    }
    return [of_one_row[kind](n) for n in lengths]


@st.composite
def with_a_mistake(draw, features):
    """The features, and in one of two cases something wrong with them."""
    features = [dict(feature) for feature in draw(features)]
    row = draw(st.sampled_from(features))
    name = draw(st.sampled_from(sorted(row)))
    mistake = draw(st.sampled_from([None] * 8 + list(MISTAKES)))
    if mistake is not None:
        MISTAKES[mistake](features, row, name)
    return features


def _drop(features, row, name):
    del row[name]


def _drop_everywhere(features, row, name):
    for feature in features:
        feature.pop(name, None)


def _lengthen(features, row, name):
    row[name] = _of_the_same_kind(row[name], [*np.atleast_1d(row[name]).tolist(), 1, 1])


def _replace_everywhere(make):
    def replace(features, row, name):
        for feature in features:
            old = feature[name]
            feature[name] = _of_the_same_kind(old, make(len(np.atleast_1d(old))))

    return replace


def _of_the_same_kind(old, new):
    """An array for an array: what lists beside arrays become is a test of its own.

    As is what labels of numpy bools become: transformers lets torch stumble over them.
    """
    kind = np.array(new).dtype.kind
    if isinstance(old, np.ndarray) and kind in "bif":
        return old if kind == "b" else np.array(new)
    if isinstance(old, torch.Tensor) and kind in "bif":
        return torch.tensor(new)
    return new


MISTAKES = {
    "key missing in a row": _drop,
    "key missing": _drop_everywhere,
    "row too long": _lengthen,
    "floats": _replace_everywhere(lambda n: [0.5] * n),
    "bools": _replace_everywhere(lambda n: [True] * n),
    "numpy numbers": _replace_everywhere(lambda n: [np.int64(1)] * n),
    "strings": _replace_everywhere(lambda n: ["O"] * n),
    "nothing": _replace_everywhere(lambda n: None),
    "nothing in the row": _replace_everywhere(lambda n: [None] * n),
    "one row a matrix": _replace_everywhere(lambda n: np.ones((1, 2, 2), dtype=np.int64)),
    "nested": _replace_everywhere(lambda n: [[1, 2]] * n),
}


def assert_same_as_transformers(ours, settings, calls):
    """`calls` on a collator of our class and on the one of the same name have the same outcome.

    The outcome: types, keys and their order, dtypes, shapes and values of every batch; the type of
    an exception; the state of the global generators after it all; features left as they were.
    """
    theirs = getattr(transformers, ours.__name__)
    found, expected = (_outcomes(collator, settings, calls) for collator in (ours, theirs))
    assert found == expected


def _outcomes(collator_class, settings, calls):
    random.seed(0)
    transformers.set_seed(0)
    outcomes = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            collator = collator_class(**settings)
            outcomes.append({k: v for k, v in vars(collator).items() if k != "tokenizer"})
            for change, features, return_tensors in calls:
                vars(collator).update(change)
                given = copy.deepcopy(features)
                batch = collator(given, return_tensors)
                outcomes.append(_described(batch))
                assert _described(given) == _described(features), "the features were changed"
    except Exception as error:
        if isinstance(error, AssertionError):
            raise
        outcomes.append(type(error))
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    return outcomes, _described(states)


def _described(thing):
    """Nested lists and dicts that are equal when the things are, down to types and dtypes."""
    if isinstance(thing, dict | BatchEncoding):
        return type(thing), [(key, _described(value)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return type(thing), [_described(item) for item in thing]
    if isinstance(thing, np.ndarray | torch.Tensor):
        is_ragged = isinstance(thing, np.ndarray) and thing.dtype == object
        values = [_described(item) for item in thing] if is_ragged else repr(thing.tolist())
        return type(thing), str(thing.dtype), tuple(thing.shape), values
    return type(thing), repr(thing)

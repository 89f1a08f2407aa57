"""What both collator tests are made of: small tokenizers, random features, one comparison."""

import copy
import pickle
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
    tokenizer = BertTokenizerFast(vocab=vocabulary, **settings)
    tokenizer._pad_token_type_id = 2  # 0, which all tokenizers have, would hide a forgotten one
    return tokenizer


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
    "right": wordpiece_tokenizer(model_max_length=12),
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
FRAMEWORKS = st.sampled_from(["pt"] * 5 + ["np"] * 5 + ["tf"])
MULTIPLES = st.sampled_from([None, None, 2, 8])


def features_from(seed, mistake, labels=("labels", "label", None)):
    """1 to 5 random features, and if `mistake` is not None, something wrong with them."""
    choose = random.Random(seed)
    lengths = [choose.randint(0, 9) for _ in range(choose.randint(1, 5))]
    if choose.random() < 0.4:
        lengths = lengths[:1] * len(lengths)
    form = FORMS[choose.choice([*FORMS, "list", "list"])]

    def integers(highest):
        return [form([choose.randint(0, highest) for _ in range(n)]) for n in lengths]

    columns = {"input_ids": integers(7)}
    for name in ["attention_mask", "token_type_ids", "special_tokens_mask"]:
        if choose.random() < 0.5:
            columns[name] = integers(1)
    if (label_name := choose.choice(labels)) is not None:
        columns[label_name] = integers(4)
    if (kind := choose.choice([None] * 6 + list(EXTRA))) is not None:
        columns[kind] = [EXTRA[kind](n) for n in lengths]
    names = choose.sample(sorted(columns), len(columns))
    features = [{name: columns[name][i] for name in names} for i in range(len(lengths))]
    if mistake is not None:
        MISTAKES[mistake](features, choose.choice(features), choose.choice(names))
    return features


# Columns that are not padded.
EXTRA = {
    "number": lambda n: n,
    "float": lambda n: n / 7,
    "pair": lambda n: np.array([n / 7, 1], dtype=np.float32),
    "ragged": lambda n: [1] * n,
    "text": lambda n: "text",
}


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


# Of token ids that are no numbers of tokens, and of a row that is a matrix among rows, transformers
# refuses nearly all and takes a few; ours does not follow it into which.
UNFOLLOWED = {"floats", "one row a matrix"}


def random_features(mistakes=frozenset(MISTAKES) - UNFOLLOWED):
    chosen_mistake = st.sampled_from([None] * 20 + sorted(mistakes))
    return st.builds(features_from, st.integers(0, 2**32), chosen_mistake)


def calls_with(features):
    """Up to three calls: attributes changed before, the features, the call's own return_tensors."""
    changes = st.one_of(st.just({}), st.fixed_dictionaries({"return_tensors": FRAMEWORKS}))
    call = st.tuples(changes, features, st.one_of(st.none(), FRAMEWORKS))
    return st.lists(call, min_size=1, max_size=3)


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
    np.random.seed(0)
    torch.default_generator.manual_seed(0)  # quicker than torch.manual_seed, which looks for CUDA
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            collator = collator_class(**settings)
        except Exception as error:
            return [type(error)]
        outcomes.append(
            {k: v for k, v in vars(collator).items() if k != "tokenizer" and k[0] != "_"}
        )
        for change, features, return_tensors in calls:
            vars(collator).update(change)
            given = copy.deepcopy(features)
            try:
                outcomes.append(_described(collator(given, return_tensors)))
            except Exception as error:
                outcomes.append(type(error))
            assert _described(given) == _described(features), "the features were changed"
    torch_state = torch.default_generator.get_state().numpy().tobytes()
    return outcomes, random.getstate(), pickle.dumps(np.random.get_state()), torch_state


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

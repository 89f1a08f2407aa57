"""What an adaptation changed: `python -m rawtrain.study.probes RUN [--general_file FILE]`.

RUN is the output directory of a finished run of rawtrain.mlm. The model that it started from and
the one that it ended with are asked for the same hidden words of its domain and, with a file of
general text, evaluated on the same masks of that text: what was learnt and what was forgotten both
show. RUN/probes.json gets the numbers. The first model is made again from the settings.

Which words: of those that have at least four times the share in the training rows that they have
in general text, the most frequent ones. Without a general file the tokenizer's own order stands for
it: vocabularies are numbered from frequent words to rare ones, so the share falls as one over the
place (Zipf's law). Words are tokens of four letters or more, or two in a script without capitals.
Each is hidden in the first sentence of the validation documents that has it, and once.
"""

import contextlib
import io
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice

import numpy as np

from rawtrain import mlm
from rawtrain.batches import EvaluationBatches
from rawtrain.cli.command import reported_mistakes, run
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.pad import PaddedRows
from rawtrain.config import MlmSettings
from rawtrain.data.columns import Columns
from rawtrain.data.sources import read_document_file
from rawtrain.data.text import count_tokens
from rawtrain.evaluation import evaluate
from rawtrain.precision import choose_device
from rawtrain.results.mlm_page import score
from rawtrain.run import signals
from rawtrain.run.durable import write_json
from rawtrain.run.identity import identity_of, read_identity
from rawtrain.run.log import configure_logging
from rawtrain.run.state import load_weights
from rawtrain.study.finished import parser_of, settings_of
from rawtrain.use.filler import MASK, MaskFiller

NUM_WORDS = 10
NUM_LIKELIEST = 3
NUM_DOCUMENTS = 2000  # of the validation data that are looked through
SENTENCE_CHARACTERS = range(30, 161)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|[\r\n]+")
AFTER_A_WORD = re.compile(r"$|\s|[.,;:!?)](?!\w)")
MORE = 4  # times the share


def main(arguments: Sequence[str]) -> None:
    """Measure the model that the run started from and its own, print both and keep the numbers."""
    parser = parser_of("probes", __doc__)
    parser.add_argument("--general_file", help="text of general language, a document a line")
    options = parser.parse_args(arguments)
    with reported_mistakes():
        settings = replace(settings_of(options.run, MlmSettings), match_trainer=False)
        configure_logging(settings)
        model, tokenizer, splits, rows = start_of(settings)
        general_rows = None
        if options.general_file:  # in rows like those of the validation data
            documents = {"validation": read_document_file(options.general_file, settings)}
            general_rows = mlm.encode(settings, documents, tokenizer, model)["validation"].columns
        texts = splits["validation"].texts if "validation" in splits else []
        words = choose_words(tokenizer, rows["train"].columns, general_rows, texts)
        model.to(choose_device(settings))
        before = measure(model, tokenizer, words, general_rows, settings)
    model.load_state_dict(load_weights(model, options.run))
    after = measure(model, tokenizer, words, general_rows, settings)
    probes = [
        word | {"before": old, "after": new}
        for word, old, new in zip(words, before["answers"], after["answers"], strict=True)
    ]
    general = {"before": before["general"], "after": after["general"]} if general_rows else None
    write_json(options.run / "probes.json", {"probes": probes, "general": general})
    print("\n".join(report(probes, general)))


def start_of(settings: MlmSettings):
    """Model, tokenizer, splits and encoded rows of a run as they were before its first step.

    Raises ValueError if one of them has changed.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # a run on embedded text introduces it
        splits = mlm.read_splits(settings)
    tokenizer = mlm.make_tokenizer(settings, splits)
    model = mlm.make_model(settings, tokenizer)
    rows = mlm.encode(settings, splits, tokenizer, model)
    was = read_identity(settings.output_dir) or {}
    now = identity_of(settings, splits, tokenizer, model)
    if changed := [name for name in ("data", "tokenizer", "model") if was.get(name) != now[name]]:
        raise ValueError(f"{settings.output_dir}: its {', '.join(changed)} changed since it began")
    return model, tokenizer, splits, rows


def choose_words(
    tokenizer, train_rows: Columns, general_rows: Columns | None, texts: Iterable[str]
) -> list[dict]:
    """At most ten words by the rule above, frequent ones first: "text", "word" and its "token".

    The text is a sentence of `texts` with [MASK] in the place of the word.
    """
    ids = range(len(tokenizer))
    decoded = tokenizer.backend_tokenizer.decode_batch([[token] for token in ids])
    words = words_of_the_domain(
        [token for token, text in zip(ids, decoded, strict=True) if _is_word(text.strip())],
        count_tokens(train_rows),
        None if general_rows is None else count_tokens(general_rows),
    )
    hidden = _hidden_words(tokenizer, texts, set(words))
    return [hidden[token] for token in words if token in hidden][:NUM_WORDS]


def words_of_the_domain(
    words: Sequence[int], train_counts: np.ndarray, general_counts: np.ndarray | None = None
) -> list[int]:
    """Of the tokens `words` those that the domain has more of than general text, frequent first.

    >>> words_of_the_domain([5, 6], np.bincount([5, 5, 6, 6, 6]), np.bincount([5] * 20 + [6]))
    [6]
    """
    tokens = np.array(words, dtype=np.int64)
    counts = _counts_at(tokens, train_counts)
    if general_counts is None:
        general = 1 / np.arange(1, len(tokens) + 1)
    else:
        general = _counts_at(tokens, general_counts) + 1.0  # no word is impossible
    has_more = counts * general.sum() >= MORE * general * max(counts.sum(), 1)
    by_frequency = np.argsort(-counts, kind="stable")
    return tokens[by_frequency[has_more[by_frequency]]].tolist()


def measure(model, tokenizer, words: list[dict], general_rows: Columns | None, settings) -> dict:
    """What the model says in the place of each word, and its scores on the general text."""
    filler, answers, scores = MaskFiller(model, tokenizer, tokenizer.model_max_length), [], {}
    for word in words:
        ids = tokenizer(word["text"].replace(MASK, word["word"]), verbose=False)["input_ids"]
        ids[ids.index(word["token"])] = tokenizer.mask_token_id  # in place: it stands there once
        probabilities = filler.predict(ids)[0]
        likeliest = probabilities.topk(NUM_LIKELIEST).indices.tolist()
        names = [tokenizer.decode([token]).strip() for token in likeliest]
        answers.append({"probability": float(probabilities[word["token"]]), "likeliest": names})
    if general_rows:
        collate = PaddedRows(MaskedTokens(general_rows, tokenizer, settings), tokenizer)
        batches = EvaluationBatches(len(general_rows), settings, collate, general_rows.lengths)
        evaluation = evaluate(model, batches, settings)
        scores = {"loss": evaluation.loss} | score(evaluation)
    return {"answers": answers, "general": scores}


def report(probes: list[dict], general: dict | None) -> list[str]:
    """Lines that show the content of probes.json."""
    lines = ["words that this domain has more of than general text, hidden one at a time:"]
    for probe in probes:
        before, after = probe["before"], probe["after"]
        lines += [
            f"  {' '.join(probe['text'].split())}",
            f"    {probe['word']}: {before['probability']:.3f} -> {after['probability']:.3f}"
            f"   ({', '.join(before['likeliest'])} -> {', '.join(after['likeliest'])})",
        ]
    if probes:
        sides = [[probe[when]["probability"] for probe in probes] for when in ("before", "after")]
        old, new = np.mean(sides, axis=1)
        lines += [f"mean probability of the hidden word: {old:.3f} -> {new:.3f}"]
    else:
        lines += ["  none in the validation data" + ("" if general else "; name a --general_file")]
    if general:
        before, after = general["before"], general["after"]
        shown = [
            f"{name} {before[name]:{digits}} -> {after[name]:{digits}}"
            for name, digits in (("loss", ".3f"), ("perplexity", ",.2f"), ("accuracy", ".3f"))
        ]
        lines += ["", f"general text: {', '.join(shown)}"]
    return lines


def _is_word(text):
    return text.isalpha() and len(text) >= (2 if text.lower() == text.upper() else 4)


def _counts_at(words, counts):
    return np.pad(counts, (0, max(0, words.max(initial=0) + 1 - len(counts))))[words]


def _hidden_words(tokenizer, texts, tokens) -> dict[int, dict]:
    """For each of these tokens the first sentence where it is a whole word, and once."""
    hidden: dict[int, dict] = {}
    longest = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    for sentence in chain.from_iterable(map(SENTENCE_END.split, islice(texts, NUM_DOCUMENTS))):
        if len(sentence) not in SENTENCE_CHARACTERS or MASK in sentence:
            continue
        encoded = tokenizer.backend_tokenizer.encode(sentence, add_special_tokens=False)
        if len(encoded) > longest:
            continue
        for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            word = sentence[start:end].lstrip()
            start = end - len(word)
            begins = sentence[max(0, start - 1) : start] in ("", " ")
            is_single = sentence.lower().count(word.lower()) == 1
            if token in tokens and begins and AFTER_A_WORD.match(sentence, end) and is_single:
                text = sentence[:start] + MASK + sentence[end:]
                hidden.setdefault(token, {"text": text, "word": word, "token": token})
    return hidden


if __name__ == "__main__":
    signals.listen()
    run(main, sys.argv[1:])

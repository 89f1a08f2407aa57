"""What an adaptation changed: hidden words of the domain, and the loss on general text.

Before and after training the model is asked for the same hidden words, and evaluated on the same
masks of a general text (--general_file), so that what it learnt and what it forgot both show. The
values from before the first step are in probes.json: an interrupted run does not measure them anew.

Which words: of those that have at least four times the share in the training rows that they have
in general text, the most frequent ones. Without a general file the tokenizer's own order stands for
it: vocabularies are numbered from frequent words to rare ones, so the share falls as one over the
place (Zipf's law). Words are tokens of at least four letters, or two in a script without capital
letters. Which sentences: the first ones of the validation documents that have the word,
and once.
"""

import json
import logging
import re
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from rawtrain.data.text import count_tokens
from rawtrain.run.durable import write_json
from rawtrain.use.filler import MASK, MaskFiller

logger = logging.getLogger(__name__)

PROBES_FILE = "probes.json"
NUM_PROBES = 10
NUM_LIKELIEST = 3
NUM_DOCUMENTS = 2000  # of the validation data that are looked through
SENTENCE_CHARACTERS = range(30, 161)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|[\r\n]+")
AFTER_A_WORD = re.compile(r"$|\s|[.,;:!?)](?!\w)")
MORE = 4  # times the share


@dataclass(frozen=True)
class Probe:
    """A sentence with one word hidden, and the token that this word is."""

    text: str
    word: str
    token: int


def choose_probes(tokenizer, train_columns, general_columns, texts):
    """At most ten `Probe`s, by the rule at the top of this file; the most telling word first.

    general_columns: None without a general file.
    """
    words = words_of_the_domain(
        words_of_vocabulary(tokenizer),
        count_tokens(train_columns),
        None if general_columns is None else count_tokens(general_columns),
    )
    places = _places_of_words(tokenizer, _sentences(texts), set(words))
    probes, used = [], set()
    for token in words:
        for sentence, start, end in places.get(token, []):
            if sentence not in used and len(probes) < NUM_PROBES:
                used.add(sentence)
                text = sentence[:start] + MASK + sentence[end:]
                probes.append(Probe(text, sentence[start:end], token))
                break
    return probes


def words_of_vocabulary(tokenizer):
    """The token ids, in their order, that look like words."""
    ids = range(len(tokenizer))
    texts = tokenizer.backend_tokenizer.decode_batch([[token] for token in ids])
    return [token for token, text in zip(ids, texts, strict=True) if _is_word(text.strip())]


def _is_word(text):
    return text.isalpha() and len(text) >= (2 if text.lower() == text.upper() else 4)


def words_of_the_domain(words, train_counts, general_counts=None):
    """Of the tokens `words` those that the domain has more of than general text, frequent first.

    >>> words_of_the_domain([5, 6], np.bincount([5, 5, 6, 6, 6]), np.bincount([5] * 20 + [6]))
    [6]
    """
    words = np.array(words, dtype=np.int64)
    counts = _counts_at(words, train_counts)
    if general_counts is None:
        general = 1 / np.arange(1, len(words) + 1)
    else:
        general = _counts_at(words, general_counts) + 1.0  # no word is impossible
    has_more = counts * general.sum() >= MORE * general * max(counts.sum(), 1)
    by_frequency = np.argsort(-counts, kind="stable")
    return words[by_frequency[has_more[by_frequency]]].tolist()


def measure_before(output_dir, model, tokenizer, probes, general=None):
    """Write probes.json with what the model says before its first step.

    general: what is known of the general text: "source", "fingerprint" and the scores.
    """
    filler = MaskFiller(model, tokenizer, tokenizer.model_max_length)
    found = [{**vars(probe), "before": _answer(filler, probe)} for probe in probes]
    write_json(
        Path(output_dir) / PROBES_FILE, {"probes": found, "general": _named(general, "before")}
    )


def carry_over(checkpoint, output_dir):
    """Take probes.json from the run that a checkpoint is of, where that is in another folder."""
    earlier, file = checkpoint.parent / PROBES_FILE, Path(output_dir) / PROBES_FILE
    if earlier.exists() and not file.exists():
        shutil.copyfile(earlier, file)


def read_probes(output_dir):
    """The content of probes.json: "probes", and "general" or None; of nothing where it is not."""
    file = Path(output_dir) / PROBES_FILE
    if not file.exists():
        return {"probes": [], "general": None}
    return json.loads(file.read_text(encoding="utf-8"))


def measure_after(output_dir, model, tokenizer, general=None):
    """Add to probes.json what the model says now; its content, or None where there is none."""
    file = Path(output_dir) / PROBES_FILE
    if not file.exists():
        return None
    content = read_probes(output_dir)
    filler = MaskFiller(model, tokenizer, tokenizer.model_max_length)
    for found in content["probes"]:
        probe = Probe(*(found[name] for name in ("text", "word", "token")))
        found["after"] = _answer(filler, probe)
    if general:
        earlier = content["general"] or {}
        if earlier and earlier["fingerprint"] != general["fingerprint"]:
            logger.warning(f"{general['source']}: was changed, so there is no loss from before")
            earlier = {}
        content["general"] = earlier | _named(general, "after")
    write_json(file, content)
    return content


def probes_report(content):
    """Lines that show the content of probes.json."""
    lines, probes, general = [], content["probes"], content["general"]
    if probes:
        lines += ["words that this domain has more of than general text, hidden one at a time:"]
        for probe in probes:
            before, after = probe["before"], probe["after"]
            lines += [
                f"  {' '.join(probe['text'].split())}",
                f"    {probe['word']}: {before['probability']:.3f} -> {after['probability']:.3f}"
                f"   ({', '.join(before['likeliest'])} -> {', '.join(after['likeliest'])})",
            ]
        means = [
            np.mean([probe[when]["probability"] for probe in probes])
            for when in ("before", "after")
        ]
        lines += [f"mean probability of the hidden word: {means[0]:.3f} -> {means[1]:.3f}"]
    else:
        lines += ["no probes: no word of the validation text stands out from general text"]
        lines[0] += "" if general else "; name some with --general_file"
    if general and "after" in general:
        lines += ["", _general_line(general)]
    return lines


def _general_line(general):
    before, after = general.get("before"), general["after"]
    shown = [
        f"{name} {format(before[name], digits) if before else '-'} -> {after[name]:{digits}}"
        for name, digits in (("loss", ".3f"), ("perplexity", ",.2f"), ("accuracy", ".3f"))
    ]
    line = f"general text ({general['source']}): {', '.join(shown)}"
    if before and after["loss"] > before["loss"]:
        line += "\nmore loss than before: so much of general language was forgotten"
    return line


def _named(general, when):
    """The scores of the general text under the name of when they were measured."""
    if general is None:
        return None
    scores = {name: general[name] for name in ("loss", "perplexity", "accuracy")}
    return {name: general[name] for name in ("source", "fingerprint")} | {when: scores}


def _answer(filler, probe):
    probabilities = filler.probabilities(probe.text)[0]
    likeliest = probabilities.topk(NUM_LIKELIEST).indices.tolist()
    return {
        "probability": float(probabilities[probe.token]),
        "likeliest": [filler.tokenizer.decode([token]).strip() for token in likeliest],
    }


def _counts_at(words, counts):
    return np.pad(counts, (0, max(0, words.max(initial=0) + 1 - len(counts))))[words]


def _sentences(texts):
    for text in islice(texts, NUM_DOCUMENTS):
        for sentence in SENTENCE_END.split(text):
            if len(sentence) in SENTENCE_CHARACTERS and MASK not in sentence:
                yield sentence


def _places_of_words(tokenizer, sentences, words):
    """{token: [(sentence, start, end)]} where a token of `words` is a whole word, and once."""
    places = {}
    longest = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    for sentence in sentences:
        encoded = tokenizer.backend_tokenizer.encode(sentence, add_special_tokens=False)
        if len(encoded) > longest:
            continue
        for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            start += len(sentence[start:end]) - len(sentence[start:end].lstrip())
            is_word = sentence[max(0, start - 1) : start] in ("", " ") and AFTER_A_WORD.match(
                sentence, end
            )
            is_single = sentence.lower().count(sentence[start:end].lower()) == 1
            if token in words and is_word and is_single:
                places.setdefault(token, []).append((sentence, start, end))
    return places

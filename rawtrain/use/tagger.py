"""Names in raw text, with the model of a ner run: from Python; tag.py is the command.

The text is cut into words (data/raw_text.py), words become sub-words, long texts go through
windows (data/words.py), and labels become entities by the rule that the scores of training follow
(results/metrics.py). So what a score promised is what comes out.

W words of all texts in S sentences, K of them with a sub-word, and so with a label.
"""

import re

import numpy as np
import torch
from transformers import AutoModelForTokenClassification

from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.config import NerSettings
from rawtrain.data.columns import IGNORED
from rawtrain.data.raw_text import split_words
from rawtrain.data.words import default_stride, encode_words
from rawtrain.models.loading import (
    check_length,
    check_vocabulary,
    load_config,
    load_model,
    load_word_tokenizer,
    named_labels,
)
from rawtrain.precision import choose_device
from rawtrain.results.entities import find_entities


class Tagger:
    """`Tagger.from_pretrained(folder)(text)` lists the entities of a text in their order.

    Each is a dict with the keys of transformers' pipeline: "entity_group" (the type), "score",
    "start" and "end" (in code points, the end exclusive), and "word", which is text[start:end].
    The score is the mean, over the words of the entity, of the probability of the word's label, as
    in the pipeline. A list of texts gives a list of such lists.
    """

    def __init__(self, model, tokenizer, label_names, max_seq_length, batch_size):
        self.model, self.tokenizer = model.eval(), tokenizer
        # O may be none of a model's labels, and is what a word without a sub-word is tagged with
        self.label_names = label_names + ["O"] * ("O" not in label_names)
        self.max_seq_length, self.batch_size = max_seq_length, batch_size
        self.stride = max(1, default_stride(tokenizer, max_seq_length))  # 0 would cut texts off

    @classmethod
    def from_pretrained(cls, folder, *, max_seq_length=None, batch_size=32, use_cpu=False):
        """The tagger of a folder that a run wrote, or of any model with IOB2 labels.

        max_seq_length: the longest window in sub-words (default: what the model can take).
        batch_size: rows at once. Raises ValueError for what is no such model.
        """
        if batch_size < 1:
            raise ValueError(f"the batch size is {batch_size}; expected a whole number from 1")
        settings = NerSettings(
            model_name_or_path=str(folder), max_seq_length=max_seq_length, use_cpu=use_cpu
        )
        config, tokenizer = load_config(settings), load_word_tokenizer(settings)
        label_names = _iob2_labels(folder, named_labels(config, settings))
        model = load_model(AutoModelForTokenClassification, config, settings)
        check_vocabulary(tokenizer, model)
        longest = check_length(settings, tokenizer, model)
        model.to(choose_device(settings))
        return cls(model, tokenizer, label_names, longest, batch_size)

    def __call__(self, text: str | list[str]):
        if isinstance(text, str):
            return self([text])[0]
        if not text:
            return []
        spans = [split_words(one) for one in text]
        words = [
            [one[start:end] for start, end in of_one]
            for one, of_one in zip(text, spans, strict=True)
        ]
        labels, probabilities, sentence_offsets = self.tag_words(words)
        span_of = [span for of_one in spans for span in of_one]  # [W]
        found = [[] for _ in text]
        entities = find_entities(labels, self.label_names, sentence_offsets)
        for first, last, kind in entities.spans():
            number = int(np.searchsorted(sentence_offsets, first, side="right")) - 1
            start, end = span_of[first][0], span_of[last][1]
            found[number].append(
                {
                    "entity_group": kind,
                    "score": float(probabilities[first : last + 1].mean()),
                    "word": text[number][start:end],
                    "start": start,
                    "end": end,
                }
            )
        return found

    def tag_words(self, words):
        """Label ids [W], their probabilities [W], and where sentences begin [S + 1].

        words: sentences, each a list of words. A word without a sub-word is O for certain.
        """
        outside = self.label_names.index("O")
        rows = encode_words(
            self.tokenizer,
            words,
            [["O"] * len(sentence) for sentence in words],
            {"O": outside},
            self.max_seq_length,
            self.stride,
        )
        labels, probabilities = self._predict(rows.columns)
        certain = np.ones(len(rows.gold))
        certain[rows.scored_word] = probabilities
        return rows.word_predictions(labels, outside), certain, rows.sentence_offsets

    @torch.inference_mode()
    def _predict(self, columns):
        """The likeliest label of each labelled token [K], and its probability [K].

        The rows of a batch are of one length: without padding there is no model whose logits it
        could change, and a row's entities do not depend on the rows beside it.
        """
        collate = PaddedRows(TaggedTokens(columns), self.tokenizer)
        is_labelled = columns.values["labels"] != IGNORED
        labels = np.zeros(len(is_labelled), dtype=np.int64)
        probabilities = np.zeros(len(is_labelled))
        for rows in _batches_of_one_length(columns.lengths, self.batch_size):
            batch = {name: tensor.to(self.model.device) for name, tensor in collate(rows).items()}
            labelled = batch.pop("labels") != IGNORED
            logits = self.model(**batch).logits[labelled]
            likeliest = logits.float().softmax(-1).max(-1)
            where, _ = columns.token_index(rows)
            where = where[is_labelled[where]]
            labels[where] = likeliest.indices.cpu()
            probabilities[where] = likeliest.values.cpu()
        return labels[is_labelled], probabilities[is_labelled]


def _batches_of_one_length(lengths, batch_size):
    """Yield the numbers of the rows of each batch, the longest rows first."""
    order = np.argsort(-lengths, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        yield from np.split(rows, range(batch_size, len(rows), batch_size))


def _iob2_labels(folder, label_names):
    alien = [name for name in label_names if not re.fullmatch(r"O|[BI]-.+", name)]
    if alien:
        raise ValueError(
            f"{folder}: its labels, such as {alien[0]!r}, mark no entities; expected were O, "
            f"B-TYPE and I-TYPE. Name a model that rawtrain.ner trained to find names"
        )
    return label_names

"""Names in raw text, with the model of a ner run, from Python; tag.py is the command.

A text is cut into words (data/raw_text.py), these into sub-words and, if it is long, windows
(data/words.py), and labels become entities (results/entities.py), all as in the evaluation of a
run: its scores hold for the tagger.

W words of all texts in S sentences, K of them with a sub-word, and so with a label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerFast

from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.config import NerSettings
from rawtrain.data.columns import IGNORED
from rawtrain.data.raw_text import CLITICS, split_words
from rawtrain.data.schemes import iob2_labels
from rawtrain.data.words import default_stride, encode_words
from rawtrain.models import loading, tokenizers
from rawtrain.precision import choose_device
from rawtrain.results.entities import continue_over_unseen, find_entities


@dataclass(eq=False, repr=False)
class Tagger:
    """`Tagger.from_pretrained(folder)(text)` lists the entities of a text in their order.

    Each is a dict with the keys of transformers' pipeline: "entity_group" (the type), "score",
    "start" and "end" (in code points, the end exclusive), and "word", which is text[start:end].
    The score is the mean probability of the labels of the entity's words, as in the pipeline. A
    list of texts gives a list of such lists.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    label_names: list[str]
    max_seq_length: int
    batch_size: int

    def __post_init__(self):
        self.model.eval()
        if "O" not in self.label_names:  # the tag of words without a sub-word
            self.label_names = [*self.label_names, "O"]
        # with a stride of 0 texts would be truncated
        self.stride = max(1, default_stride(self.tokenizer, self.max_seq_length))

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        max_seq_length: int | None = None,
        batch_size: int = 32,
        **options: Any,
    ) -> "Tagger":
        """The tagger of a folder that a run wrote, or of any model whose labels mark entities.

        max_seq_length: the longest window in sub-words (default: the model's limit).
        batch_size: rows at once. options: use_cpu, and trust_remote_code for a model with code of
        its own. Raises ValueError for any other model.
        """
        if batch_size < 1:
            raise ValueError(f"the batch size is {batch_size}; expected a whole number from 1")
        settings = NerSettings(
            model_name_or_path=str(folder), max_seq_length=max_seq_length, **options
        )
        config, tokenizer = loading.load_config(settings), tokenizers.load_word_tokenizer(settings)
        label_names = iob2_labels(loading.named_labels(config, settings), str(folder))
        model = loading.load_model(AutoModelForTokenClassification, config, settings)
        loading.check_vocabulary(tokenizer, model)
        longest = loading.check_length(settings, tokenizer, model)
        model.to(choose_device(settings))
        return cls(model, tokenizer, label_names, longest, batch_size)

    def __call__(self, text: str | list[str]) -> list:
        if isinstance(text, str):
            return self([text])[0]
        if not text:
            return []
        # as the words of the training data are cut; unknown for models from elsewhere
        learnt = getattr(self.model.config, "words_at_apostrophes", None)
        learnt = list(map(str, learnt)) if isinstance(learnt, list) else CLITICS
        spans = [split_words(one, learnt) for one in text]
        words = [[one[a:b] for a, b in part] for one, part in zip(text, spans, strict=True)]
        labels, probabilities, sentence_offsets = self.tag_words(words)
        span_of = [span for part in spans for span in part]  # [W]
        found: list[list[dict[str, Any]]] = [[] for _ in text]
        entities = find_entities(labels, self.label_names, sentence_offsets)
        for first, last, kind in entities.spans():
            number = int(np.searchsorted(sentence_offsets, first, side="right")) - 1
            start, end = span_of[first][0], span_of[last][1]
            score = float(np.nanmean(probabilities[first : last + 1]))
            entity = {"entity_group": kind, "score": score, "word": text[number][start:end]}
            found[number].append(entity | {"start": start, "end": end})
        return found

    def tag_words(
        self, words: Sequence[Sequence[str]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Label ids [W] and their probabilities [W] of the words of sentences, and the indices at
        which sentences begin [S + 1]. A word without a sub-word has the label that
        `continue_over_unseen` gives it, and the probability NaN.
        """
        outside = self.label_names.index("O")
        tags = [["O"] * len(sentence) for sentence in words]
        rows = encode_words(
            self.tokenizer, words, tags, {"O": outside}, self.max_seq_length, self.stride
        )
        labels, probabilities = self._predict(rows.columns)
        of_words = np.where(rows.is_unseen, np.nan, 1.0)  # 1 of words that are cut off
        of_words[rows.scored_word] = probabilities
        labels = rows.word_predictions(labels, outside)
        labels = continue_over_unseen(
            labels, rows.is_unseen, self.label_names, rows.sentence_offsets
        )
        return labels, of_words, rows.sentence_offsets

    @torch.inference_mode()
    def _predict(self, columns):
        """The likeliest label of each labelled token [K], and its probability [K].

        The rows of a batch have the same length: in some models padding changes the logits, and
        the entities of a row must not depend on the other rows.
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


def _batches_of_one_length(lengths, batch_size) -> Iterator[np.ndarray]:
    """Yield the indices of the rows of each batch, the longest rows first."""
    order = np.argsort(-lengths, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        yield from np.split(rows, range(batch_size, len(rows), batch_size))

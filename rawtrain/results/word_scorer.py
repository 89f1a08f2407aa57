"""From the predictions for labelled tokens to scores and tags of words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from rawtrain.config import NerSettings
from rawtrain.data.schemes import to_iob2
from rawtrain.data.tags import TaggedSentences
from rawtrain.data.words import EncodedWords
from rawtrain.errors import listed
from rawtrain.evaluation import Evaluation
from rawtrain.results.entities import Entities, continue_over_unseen, every_word, find_entities
from rawtrain.results.metrics import EntityScores, entity_scores, score_dict


@dataclass(frozen=True)
class WordScorer:
    """Scores an evaluation over all words of a split, including those that were cut off.

    What becomes of words without a sub-word says `continue_over_unseen`.
    W words in S sentences.
    """

    rows: EncodedWords
    label_names: list[str]
    settings: NerSettings
    gold_tags: Sequence[Sequence[str]]

    def __call__(self, evaluation: Evaluation) -> dict[str, float]:
        """The scores under run_ner.py's keys; the overall ones also without "overall_"."""
        return score_dict(self.scores(evaluation), self.settings.return_entity_level_metrics)

    def scores(self, evaluation: Evaluation) -> EntityScores:
        return self._scores(self._words(evaluation))

    def scores_of(self, tags: Iterable[str]) -> EntityScores:
        """Scores of other tags [W] for the words of the split."""
        return self._scores(self._numbers(tags))

    def entities(self, evaluation: Evaluation) -> tuple[Entities, Entities]:
        """The gold entities and the predicted ones; with part-of-speech tags, every word is one."""
        return self._entities(self._gold), self._entities(self._words(evaluation))

    def sentence_losses(self, evaluation: Evaluation) -> np.ndarray:
        """The loss [S] of each sentence, summed over its words; 0 if no row shows it."""
        assert evaluation.token_losses is not None
        word = self.rows.scored_word
        losses = evaluation.token_losses[word >= 0].astype(float)
        sentence = np.searchsorted(self.rows.sentence_offsets, word[word >= 0], side="right") - 1
        return np.bincount(sentence, losses, minlength=len(self.rows.sentence_offsets) - 1)

    def tags(self, evaluation: Evaluation) -> list[list[str]]:
        """The predicted tags of the words of each sentence."""
        return self._sentences(self._words(evaluation))

    @cached_property
    def _names(self):
        """The labels, and what words may have besides: O, tags of the data, the B- of an I-."""
        more = {"O", *chain(*self.gold_tags)}
        if self.settings.task_name != "pos":
            more |= {f"B-{name[2:]}" for name in self.label_names if name != "O"}
        return self.label_names + sorted(more - set(self.label_names))

    @cached_property
    def _gold(self):
        return self._numbers(chain(*self.gold_tags))

    def _numbers(self, tags):
        number = {name: number for number, name in enumerate(self._names)}
        return np.array([number[tag] for tag in tags], dtype=np.int64)

    def _sentences(self, labels):
        tags = np.array(self._names, dtype=object)[labels]
        return [part.tolist() for part in np.split(tags, self.rows.sentence_offsets[1:-1])]

    def _words(self, evaluation):
        labels = self.rows.word_predictions(evaluation.predictions, self._names.index("O"))
        if self.settings.task_name == "pos":
            return labels
        labels, known = self._continued(labels), set(self.label_names)
        lacks_begin = any(f"B-{name[2:]}" not in known for name in known - {"O"})
        if lacks_begin or len(known) < len(self.label_names):  # a model of another scheme
            return self._numbers(chain(*map(to_iob2, self._sentences(labels))))
        return labels

    def _continued(self, labels):
        rows = self.rows
        return continue_over_unseen(labels, rows.is_unseen, self._names, rows.sentence_offsets)

    def _entities(self, labels):
        if self.settings.task_name == "pos":
            return every_word(labels, self._names, np.flatnonzero(~self.rows.is_unseen))
        return find_entities(self._continued(labels), self._names, self.rows.sentence_offsets)

    def _scores(self, labels):
        is_right = (self._gold == labels)[~self.rows.is_unseen]
        accuracy = float(is_right.mean()) if len(is_right) else 0.0
        return entity_scores(self._entities(self._gold), self._entities(labels), accuracy)


def check_best_metric(settings: NerSettings, validation: TaggedSentences | None) -> None:
    """Raise ValueError if the metric that decides is of a type that `validation` does not have."""
    name = settings.best_metric_key.removeprefix("eval_")
    if name in settings.metrics or validation is None:
        return
    tags = {tag for sentence in validation.tags for tag in sentence}
    types = tags if settings.task_name == "pos" else {tag[2:] for tag in tags - {"O"}}
    kind, _, score = name.rpartition("_")
    if kind not in types | {"overall"} or score not in ("precision", "recall", "f1"):
        raise ValueError(
            f"--metric_for_best_model is {settings.metric_for_best_model}; expected precision, "
            f"recall or f1 of a type in {validation.source}: {listed(sorted(types))}"
        )

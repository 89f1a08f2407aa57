"""From the predictions for labelled tokens to scores and tags of words."""

from dataclasses import dataclass

import numpy as np

from rawtrain.config import NerSettings
from rawtrain.data.words import EncodedWords
from rawtrain.results.entities import Entities, every_word, find_entities
from rawtrain.results.metrics import EntityScores, entity_scores, score_dict, tag_scores


@dataclass(frozen=True)
class WordScorer:
    """Scores an evaluation over all words of a split, those that no row shows included."""

    rows: EncodedWords
    label_names: list[str]
    settings: NerSettings

    def __call__(self, evaluation):
        """The scores under run_ner.py's keys; the overall ones also without "overall_"."""
        scores = self.scores(evaluation)
        per_type = self.settings.return_entity_level_metrics
        return score_dict(scores) | (score_dict(scores, True) if per_type else {})

    def scores(self, evaluation) -> EntityScores:
        return self._scores(self._words(evaluation))

    def scores_of(self, tags) -> EntityScores:
        """Scores of other tags [W] for the words of the split."""
        number = {name: number for number, name in enumerate(self._names)}
        return self._scores(np.array([number[tag] for tag in tags]))

    def _scores(self, predicted):
        if self.settings.task_name == "pos":
            return tag_scores(self.rows.gold, predicted, self._names)
        offsets = self.rows.sentence_offsets
        return entity_scores(self.rows.gold, predicted, self._names, offsets)

    def entities(self, evaluation) -> tuple[Entities, Entities]:
        """Those of the gold data and the predicted ones; where each word has a tag, every word."""
        both = (self.rows.gold, self._words(evaluation))
        if self.settings.task_name == "pos":
            return tuple(every_word(labels, self._names) for labels in both)
        offsets = self.rows.sentence_offsets
        return tuple(find_entities(labels, self._names, offsets) for labels in both)

    def sentence_losses(self, evaluation) -> np.ndarray:
        """The loss [S] of each sentence: the sum over its words; one that no row shows has none."""
        word = self.rows.scored_word
        losses = evaluation.token_losses[word >= 0].astype(float)
        sentence = np.searchsorted(self.rows.sentence_offsets, word[word >= 0], side="right") - 1
        num_sentences = len(self.rows.sentence_offsets) - 1
        return np.bincount(sentence, losses, minlength=num_sentences)

    def tags(self, evaluation):
        """For each sentence the predicted tags of its words."""
        names = np.array(self._names, dtype=object)
        parts = np.split(names[self._words(evaluation)], self.rows.sentence_offsets[1:-1])
        return [part.tolist() for part in parts]

    @property
    def _names(self):
        """The labels and O, which may be none of them and is what an unseen word is tagged with."""
        return self.label_names + ["O"] * ("O" not in self.label_names)

    def _words(self, evaluation):
        return self.rows.word_predictions(evaluation.predictions, self._names.index("O"))

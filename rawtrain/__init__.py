"""Named-entity recognition and masked-LM adaptation with a training loop written out by hand.

The commands are `python -m rawtrain.ner` and `python -m rawtrain.mlm`. The names below are for use
from Python; each is imported when first asked for, so that the commands answer `--help` at once.
"""

import importlib

_HOME = {
    "DataCollatorForTokenClassification": "rawtrain.collate.pad",
    "DataCollatorForLanguageModeling": "rawtrain.collate.mask",
    "read_tagged": "rawtrain.data.sources",
    "encode_words": "rawtrain.data.words",
    "collate_rows": "rawtrain.data.columns",
    "NerSettings": "rawtrain.config",
    "MlmSettings": "rawtrain.config",
    "TrainingBatches": "rawtrain.batches",
    "EvaluationBatches": "rawtrain.batches",
    "train": "rawtrain.loop",
    "evaluate": "rawtrain.evaluation",
    "Tagger": "rawtrain.use.tagger",
    "MaskFiller": "rawtrain.use.filler",
    "fresh_model": "rawtrain.randomness",
    "WordScorer": "rawtrain.results.word_scorer",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__():
    return __all__

"""Labels: those of the data, those of a model, and which label stands for which tag."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from rawtrain.config import NerDataSettings, NerSettings
from rawtrain.data.schemes import iob2_labels
from rawtrain.data.tags import TaggedCorpus, TaggedSentences, label_list
from rawtrain.errors import listed

logger = logging.getLogger(__name__)


def labels_of_data(
    splits: Mapping[str, TaggedSentences], scheme: str, settings: NerDataSettings
) -> list[str]:
    """The names that the data declares, in its order, unless the tags had to be converted.

    Otherwise the tags of the training split, sorted, as in run_ner.py. Added are --label_list and,
    for types that are known so far, tags of other splits: I-PER where training has B-PER alone. A
    label is an output of the model, so one that no split needs would change what it learns.
    """
    first, *_ = splits.values()
    declared = first.label_names if scheme in ("IOB2", "none") else None
    learnt = [first] if "train" in splits else splits.values()
    names = declared or label_list(chain(*(split.tags for split in learnt)))
    asked = settings.label_list or []
    more = {asked} if isinstance(asked, str) else set(asked)
    if settings.task_name != "pos":
        types = {name for name in more if not re.fullmatch("O|[BI]-.+", name)}
        more = more - types | {f"{letter}-{name}" for name in types for letter in "BI"}
        known = {name[2:] for name in [*names, *more, "O"]}
        found = label_list(chain(*(split.tags for split in splits.values())))
        more |= {tag for tag in found if tag[2:] in known}
    more -= set(names)
    return [*names, *sorted(more)] if declared else sorted([*names, *more])


def choose_labels(
    settings: NerSettings, corpus: TaggedCorpus, model_labels: list[str]
) -> list[str]:
    """The labels of the model: its own, in IOB2, if it is not trained or has all of the data's.

    Otherwise those of the data, for a new head. Raises ValueError if no score could be right.
    """
    names, known = listed(corpus.label_names), listed(model_labels)
    labels = model_labels
    is_known = set(corpus.label_names) <= set(model_labels)
    if settings.task_name != "pos":  # L-PER, X and [CLS] are no labels of any data
        is_known &= all(re.fullmatch("O|[BI](-.+)?", label) for label in model_labels)
    if settings.do_train and is_known:
        print(f"The model knows all labels of the data; it keeps its head, for {known}.")
    elif settings.do_train:
        labels = list(corpus.label_names)
        if model_labels and "LABEL_0" not in model_labels:  # the names of labels without one
            print(f"The model's head is for {known}; a new one is drawn, for {names}.")
    elif settings.task_name != "pos":
        labels = iob2_labels(model_labels, settings.model_name_or_path or "")
        if labels != model_labels:
            logger.info(f"the model's labels, {known}, are read as IOB2; its loss says little")
    _tell_of_unknown(settings, corpus, labels)
    return labels


def label_ids(label_names: Sequence[str], tag_sequences: Iterable[Sequence[str]]) -> dict[str, int]:
    """The number of the label for each tag: the tag itself, or one of its type, or O."""
    ids = {name: number for number, name in reversed([*enumerate(label_names)])}
    for tag in label_list(tag_sequences):
        other = ("I" if tag[0] == "B" else "B") + tag[1:]
        ids.setdefault(tag, ids.get(other, ids.get("O", 0)))
    return ids


def _tell_of_unknown(settings, corpus, labels):
    """Say which types, or part-of-speech tags, of the data the model can never predict."""
    is_pos = settings.task_name == "pos"
    known = {label if is_pos else label[2:] for label in labels}
    remedy = "--label_list declares labels beforehand"
    if not settings.do_train:
        remedy = f"the labels of {settings.model_name_or_path} are {listed(labels)}"
    for split in corpus.splits.values():
        tags = chain(*split.gold_tags)
        found = Counter(tags if is_pos else (tag[2:] for tag in tags if tag[0] == "B"))
        unknown = [f"{name} ({found[name]:,})" for name in sorted(found.keys() - known)]
        says = f"{split.source}: the model cannot know {listed(unknown)}"
        if unknown and (is_pos or not (settings.do_train or found.keys() & known)):
            raise ValueError(f"{says}; {remedy}")
        if unknown:
            logger.warning(f"{says}, counted as missed; {remedy}")

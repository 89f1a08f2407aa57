"""The labels of a model: those that it has, or those of the data."""

from rawtrain.config import NerSettings
from rawtrain.data.sources import TaggedCorpus


def choose_labels(
    settings: NerSettings, corpus: TaggedCorpus, model_labels: list[str]
) -> list[str]:
    """The model's labels if they have all of the data's; else those of the data, for a new head.

    Raises ValueError if nothing is trained and the data has labels that the model lacks.
    """
    unknown = sorted(set(corpus.label_names) - set(model_labels))
    names, known = ", ".join(corpus.label_names), ", ".join(model_labels)
    if unknown and not settings.do_train:
        raise ValueError(
            f"the data has tags that the model {settings.model_name_or_path} does not know: "
            f"{', '.join(unknown)}; it knows {known}. Train it with --train_file"
        )
    if not unknown:
        if settings.do_train:
            print(f"The model knows all labels of the data; it keeps its head, for {known}.")
        return model_labels
    if model_labels and "LABEL_0" not in model_labels:  # the names of labels without one
        print(f"The model's head is for {known}; a new one is drawn, for {names}.")
    return list(corpus.label_names)

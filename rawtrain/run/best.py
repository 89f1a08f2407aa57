"""Which evaluation of a run was the best, read off the log history."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Best:
    step: int
    metric: float
    num_later: int  # evaluations since, none of them better


def best_evaluation(history, settings):
    """The `Best` of a log history; None before the first evaluation of a trained step.

    Of equals it is the first. Raises ValueError if the deciding metric was not measured.
    """
    key, best = settings.best_metric_key, None
    for entry in history:
        if (
            "eval_loss" not in entry or entry["step"] == 0
        ):  # before the first step: no model of ours
            continue
        if key not in entry:
            found = ", ".join(name.removeprefix("eval_") for name in entry if name[:5] == "eval_")
            raise ValueError(
                f"--metric_for_best_model is {settings.metric_for_best_model}; the evaluation "
                f"has: {found}"
            )
        if best is None or _is_better(entry[key], best.metric, settings):
            best = Best(entry["step"], entry[key], num_later=0)
        else:
            best = Best(best.step, best.metric, best.num_later + 1)
    return best


def check_best_metric(settings, validation):
    """Raise ValueError if a type of entities decides that the validation data do not have.

    validation: the sentences that score the models of a ner run, with their `tags`; or None.
    """
    name = settings.best_metric_key.removeprefix("eval_")
    if name in settings.metrics or validation is None:
        return
    tags = {tag for sentence in validation.tags for tag in sentence}
    types = tags if settings.task_name == "pos" else {tag[2:] for tag in tags - {"O"}}
    kind, _, score = name.rpartition("_")
    if kind not in types | {"overall"} or score not in ("precision", "recall", "f1"):
        raise ValueError(
            f"--metric_for_best_model is {settings.metric_for_best_model}; of a single type "
            f"expected precision, recall or f1, and a type of {validation.source}: "
            f"{', '.join(sorted(types))}"
        )


def stops_early(history, settings):
    """Whether `early_stopping_patience` evaluations in a row were no better than the best."""
    best, patience = best_evaluation(history, settings), settings.early_stopping_patience
    return bool(best and patience) and best.num_later >= patience


def _is_better(value, other, settings):
    return value > other if settings.best_is_greater else value < other

"""Which evaluation of a run was the best, read off the log history."""

from dataclasses import dataclass

from rawtrain.config import TrainingSettings


@dataclass(frozen=True)
class Best:
    step: int
    metric: float
    num_later: int  # evaluations since, none of them better


def best_evaluation(history: list[dict], settings: TrainingSettings) -> Best | None:
    """The `Best` of a log history, the first of equals; None before there is an evaluation.

    One before the first step does not count: its model is not ours. Raises ValueError if the
    evaluations lack the deciding metric.
    """
    key, best = settings.best_metric_key, None
    for entry in history:
        if "eval_loss" not in entry or entry["step"] == 0:
            continue
        if key not in entry:
            found = ", ".join(name.removeprefix("eval_") for name in entry if name[:5] == "eval_")
            raise ValueError(
                f"--metric_for_best_model is {settings.metric_for_best_model}; the evaluation "
                f"has: {found}"
            )
        sign = 1 if settings.best_is_greater else -1
        if best is None or sign * entry[key] > sign * best.metric:
            best = Best(entry["step"], entry[key], num_later=0)
        else:
            best = Best(best.step, best.metric, best.num_later + 1)
    return best


def stops_early(history: list[dict], settings: TrainingSettings) -> bool:
    """Whether `early_stopping_patience` evaluations in a row were no better than the best."""
    best, patience = best_evaluation(history, settings), settings.early_stopping_patience
    return best is not None and patience is not None and best.num_later >= patience

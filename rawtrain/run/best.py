"""Which evaluation of a run was the best, read off the log history."""

from rawtrain.config import TrainingSettings


def best_evaluation(history: list[dict], settings: TrainingSettings) -> dict | None:
    """The entry of the best evaluation, the first of equals; None before there is one.

    Raises ValueError if the evaluations lack the deciding metric.
    """
    key, sign = settings.best_metric_key, 1 if settings.best_is_greater else -1
    for entry in evaluations(history):
        if key not in entry:
            found = ", ".join(name.removeprefix("eval_") for name in entry if name[:5] == "eval_")
            raise ValueError(
                f"--metric_for_best_model is {settings.metric_for_best_model}; the evaluation "
                f"has: {found}"
            )
    return max(evaluations(history), key=lambda entry: sign * entry[key], default=None)


def best_step(history: list[dict], settings: TrainingSettings) -> int | None:
    best = best_evaluation(history, settings)
    return best["step"] if best else None


def stops_early(history: list[dict], settings: TrainingSettings) -> bool:
    """Whether `early_stopping_patience` evaluations in a row were no better than the best."""
    best, patience = best_step(history, settings), settings.early_stopping_patience
    if best is None or patience is None:
        return False
    return sum(entry["step"] > best for entry in evaluations(history)) >= patience


def evaluations(history: list[dict]) -> list[dict]:
    """The entries of evaluations, without the one before the first step: its model is not ours."""
    return [entry for entry in history if "eval_loss" in entry and entry["step"] > 0]

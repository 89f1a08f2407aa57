"""AdamW, the parameters it decays, and the learning rate as a function of the step."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import get_scheduler

from rawtrain.config import TrainingSettings
from rawtrain.run.plan import whole_steps

# Weight decay pulls weights towards zero, which does not regularise a bias or the gain of a
# normalisation: these are left out. The patterns are those of Trainer 5.23.
NOT_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups for an optimizer: with weight decay, and without.

    Every trainable parameter is in exactly one of them; a tied one appears once.
    Source: Trainer.get_decay_parameter_names, transformers 5.23.0.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    in_norms = {id(parameter) for norm in norms for parameter in norm.parameters(recurse=False)}
    decayed, not_decayed = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_exempt = id(parameter) in in_norms or NOT_DECAYED.search(name.lower())
            (not_decayed if is_exempt else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": not_decayed, "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW as Trainer makes it: fused, one kernel for all parameters instead of one for each.

    With fp16 that spares a wait too: a fused optimizer looks on the device whether gradients have
    overflowed; for any other optimizer, GradScaler makes the host read that first.
    """
    return torch.optim.AdamW(
        decay_groups(model, settings.weight_decay),
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def learning_rate_schedule(settings: TrainingSettings, num_steps: int) -> Callable[[int], float]:
    """A function from the number of updates done (from 0) to the learning rate of the next one.

    The formulas are transformers' own. Its scheduler objects multiply a base rate by a function of
    a counter that they keep. Taken out of them, that function needs no state: a resumed run has
    nothing to restore, and a skipped step nothing to undo.

    Raises ValueError for lr_scheduler_kwargs that the schedule does not take.
    """
    kwargs: Any = settings.lr_scheduler_kwargs
    unused_optimizer = torch.optim.SGD([torch.zeros(1)], lr=settings.learning_rate)
    try:
        scheduler = get_scheduler(
            settings.lr_scheduler_type,
            unused_optimizer,
            num_warmup_steps=whole_steps(settings.warmup_steps, num_steps),
            num_training_steps=num_steps,
            scheduler_specific_kwargs=kwargs,
        )
        (factor,) = scheduler.lr_lambdas
        for num_updates in (0, num_steps // 2, num_steps - 1):
            factor(num_updates)
    except (ArithmeticError, TypeError, ValueError) as mistake:
        raise ValueError(
            f"--lr_scheduler_kwargs {kwargs} does not suit "
            f"--lr_scheduler_type {settings.lr_scheduler_type}: {mistake}"
        ) from None
    return lambda num_updates: settings.learning_rate * factor(num_updates)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate

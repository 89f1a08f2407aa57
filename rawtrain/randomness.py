"""Every random draw that training depends on: where it comes from, and what its key is.

    draw                     from                          key
    new weights              the global generators         seed (`fresh_model`)
    order of the rows        a generator of its own        seed + epoch (`batches.row_order`);
                                                           data_seed instead of seed if it is set
    masks of training        `uniform`                     seed, epoch, row, position
    masks of evaluation      `uniform`                     row, position
    dropout                  the global generators         seed, step (`seed_dropout`)

A draw is a function of counters, never of what was drawn before it. So an evaluation in between,
another number of workers or an interruption cannot change what is learnt. The exception is
--match_trainer: there, as in Trainer, masks and dropout draw from the global generators in turn.

The order of the rows has Trainer's key, which is a sum: epoch 0 of seed 43 has the order of epoch 1
of seed 42. Runs whose results are averaged need seeds further apart than their number of epochs.
The other keys are hashed, so neighbouring seeds have nothing in common.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import transformers

from rawtrain.config import TrainingSettings

# SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators"):
# the step between two states, and the two multipliers of the mixing function.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

Model = TypeVar("Model")


def fresh_model(model_init: Callable[[], Model], seed: int) -> Model:
    """Seed the global generators and call `model_init`, as Trainer does with its argument."""
    transformers.set_seed(seed)
    return model_init()


def seed_as_trainer(settings: TrainingSettings) -> None:
    """With --match_trainer: seed the global generators, as building a Trainer does."""
    if settings.match_trainer:
        transformers.set_seed(settings.seed)


def seed_dropout(settings: TrainingSettings, step: int) -> None:
    """Seed the global generators of torch, on all devices, for the forwards of this step.

    With --match_trainer they are seeded once only, before training (`seed_as_trainer`).
    """
    if not settings.match_trainer:
        torch.manual_seed(int(uniform(settings.seed, step) * 2**53))


def uniform(seed: int, *counters) -> np.ndarray:
    """Numbers in [0, 1), float64, that are a function of the key (seed, *counters) alone.

    Counters are integers or integer arrays, broadcast against each other; their order matters.
    Scalars first is faster, since an array is mixed from where it enters. `seed` is in 0..2**64-1.

    >>> uniform(42, 0, [7, 8, 9]).round(4)
    array([0.3186, 0.8406, 0.4066])
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        bits = _mix(np.uint64(seed))
        for counter in counters:
            bits = _mix(bits + _GAMMA * np.asarray(counter).astype(np.uint64))
    return (bits >> np.uint64(11)) * 2.0**-53  # a float64 has 53 bits to fill


def _mix(bits):
    """A bijection of the 64-bit integers in which every bit of the input moves every output bit."""
    bits = bits + _GAMMA
    bits = (bits ^ (bits >> np.uint64(30))) * _MULTIPLIERS[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MULTIPLIERS[1]
    return bits ^ (bits >> np.uint64(31))

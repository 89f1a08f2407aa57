"""Which rows are in which micro-batch of which step: a pure function of (seed, epoch).

Nothing here remembers anything. The rows of step 7,000 are known without the 6,999 before, so
"where was I" is one integer, workers may prepare any step in any order, and a message about a bad
step can name its rows afterwards.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import chain, islice, pairwise

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import seed_worker

from rawtrain.config import TrainingSettings
from rawtrain.loss import Batch
from rawtrain.run import signals

EVALUATION = -1  # takes the place of the epoch where nothing is trained

# collate(rows, epoch) -> micro-batch
#   rows    an array of row numbers, counted from 0 in the data
#   epoch   counted from 0, or EVALUATION; what is drawn at random, as masks are, depends on it
Collate = Callable[[np.ndarray, int], Batch]


class TrainingBatches:
    """`batches[step]` is the list of micro-batches of that step; steps count from 1.

    Each epoch is one pass over all rows in an order of its own. Its last micro-batch may have fewer
    rows and its last step fewer micro-batches: they are used, and nothing is carried over into the
    next epoch.

    With `lengths` (of all rows) the rows of a step are cut into micro-batches shortest first: the
    same step with less padding.
    """

    def __init__(self, num_rows: int, settings: TrainingSettings, collate: Collate, lengths=None):
        self.num_rows, self.collate, self.lengths = num_rows, collate, lengths
        self.batch_size = settings.per_device_train_batch_size
        self.accumulation = settings.gradient_accumulation_steps
        self.seed = settings.seed if settings.data_seed is None else settings.data_seed

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.num_rows // self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches_per_epoch // self.accumulation)

    def __getitem__(self, step: int) -> list[Batch]:
        epoch = (step - 1) // self.steps_per_epoch
        return [self.collate(rows, epoch) for rows in self.rows(step)]

    def rows(self, step: int) -> list[np.ndarray]:
        """The row numbers of a step, one array for each of its micro-batches."""
        epoch, index = divmod(step - 1, self.steps_per_epoch)
        order = row_order(self.num_rows, self.seed, epoch)
        rows_per_step = self.batch_size * self.accumulation
        rows = order[index * rows_per_step : (index + 1) * rows_per_step]
        if self.lengths is not None:
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

    def epochs_after(self, step: int) -> float:
        """The epochs done after a step, counted in micro-batches as Trainer counts them."""
        epochs, index = divmod(step, self.steps_per_epoch)
        return epochs + index * self.accumulation / self.batches_per_epoch


class EvaluationBatches:
    """`batches[i]` holds the rows from i * batch size on, in the order of the data.

    With `lengths` (of all rows) the batches are of like lengths, longest first, and each has as
    many rows as together, padded, have no more tokens than the `batch size` longest: nearly no
    padding, no short batches, and no more memory. Predictions come back in the order of the data,
    and are the same for every model whose logits do not depend on padding.
    """

    def __init__(self, num_rows: int, settings: TrainingSettings, collate: Collate, lengths=None):
        self.num_rows, self.collate = num_rows, collate
        size = settings.per_device_eval_batch_size
        if lengths is None:
            order, starts = np.arange(num_rows), list(range(size, num_rows, size))
        else:
            order = np.argsort(-lengths, kind="stable")
            starts = _batch_starts(lengths[order].tolist(), size)
        self.batch_rows = np.split(order, starts)

    def __len__(self) -> int:
        return len(self.batch_rows)

    def __getitem__(self, index: int) -> Batch:
        return self.collate(self.rows(index), EVALUATION)

    def rows(self, index: int) -> np.ndarray:
        return self.batch_rows[index]


def _batch_starts(lengths: list[int], size: int) -> list[int]:
    """Where batches after the first start among rows of these lengths, the longest first."""
    most_tokens, starts, start = lengths[0] * size, [], 0
    for place in range(len(lengths)):
        if (place - start + 1) * lengths[start] > most_tokens:
            start = place
            starts.append(place)
    return starts


@lru_cache(maxsize=2)
def row_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in an epoch: the permutation that Trainer 5.23 draws.

    Trainer's sampler seeds a generator of its own with seed + epoch at every epoch.
    """
    generator = torch.Generator().manual_seed(seed + epoch)
    return torch.randperm(num_rows, generator=generator).numpy()


def prepared(
    batches: TrainingBatches | EvaluationBatches,
    indices: range,
    settings: TrainingSettings,
    device: torch.device,
) -> Iterable:
    """Iterate over `batches[i]` for i in `indices`; worker processes, if any, make them ahead."""
    if settings.match_trainer and isinstance(batches, TrainingBatches):
        return _steps_as_trainer_takes_them(batches, indices, settings, device)
    return _loader(batches, indices, settings, device)


def _loader(batches, indices, settings, device, seeds=None):
    return DataLoader(
        batches,
        sampler=indices,
        batch_size=None,
        num_workers=settings.dataloader_num_workers,
        collate_fn=_unchanged,
        # Making an iterator draws a number, by default from the global generator; then whether an
        # evaluation took place would change the dropout that follows it.
        generator=None if settings.match_trainer else torch.Generator(),
        pin_memory=device.type == "cuda",  # lets the copy to the device run beside the computation
        worker_init_fn=partial(_start_worker, seeds),
    )


def _start_worker(seeds, worker_id):
    signals.ignore()
    if seeds is not None:
        seeds(worker_id)


def _unchanged(batch):
    return batch


def _steps_as_trainer_takes_them(batches, steps, settings, device) -> Iterator[list[Batch]]:
    """The same steps, with every draw from the global generator where Trainer 5.23 makes it.

    Trainer makes an iterator over micro-batches each epoch, seeds its workers, and accelerate's
    loader collates one micro-batch more than was asked for. A collator that draws, as the one for
    masks does, then draws before the dropout of the micro-batches in hand.
    """
    seeds = partial(seed_worker, num_workers=settings.dataloader_num_workers, rank=0)
    one_by_one = copy.copy(batches)  # its step i is micro-batch i
    one_by_one.accumulation = 1
    for first in range(steps.start, steps.stop, batches.steps_per_epoch):
        epoch = (first - 1) // batches.steps_per_epoch
        start = epoch * batches.batches_per_epoch + 1
        indices = range(start, start + batches.batches_per_epoch)
        ahead = _one_ahead(_loader(one_by_one, indices, settings, device, seeds))
        for _ in range(first, min(first + batches.steps_per_epoch, steps.stop)):
            yield [micro_batch for (micro_batch,) in islice(ahead, batches.accumulation)]


def _one_ahead(loader):
    """The batches of a loader; when one comes out, the next has been collated."""
    for batch, _ in pairwise(chain(loader, [None])):
        yield batch

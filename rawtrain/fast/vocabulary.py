"""The embeddings of the words that the data has, while a model is trained on it.

The embedding table is half of a small encoder, and most of a multilingual one. Rows of absent words
have no gradient, but a dense optimizer reads and writes them and their two moments at every step.
20,000 sentences of PAN-X use 16,248 of the 30,522 rows of BERT's table, which saves 3 % of a step;
of the 250,002 rows of XLM-R's, any data uses a small share.

This holds for AdamW, whose weight decay is decoupled: each step multiplies a row without a gradient
by 1 - learning rate * decay, the same number for all absent rows. Adam passes the decay through its
moments, so where an absent row ends depends on its values. With any optimizer but
`torch.optim.AdamW` the table stays whole.

Shapes: V rows of the whole table, U of them used, D width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from rawtrain.config import TrainingSettings
from rawtrain.data.columns import Columns
from rawtrain.optim import make_optimizer


@contextmanager
def compact_vocabulary(
    model: PreTrainedModel, columns: Columns, settings: TrainingSettings
) -> Iterator[None]:
    """Within it, the input embeddings train the rows of the words in `columns` alone.

    Whoever evaluates or saves the model meanwhile sees the whole table, and on leaving, the table
    is put back, with what was learnt. Rows of absent words change by weight decay as they would
    have. A table that other modules share (a masked-LM decoder) is left as it is.
    """
    table: Any = model.get_input_embeddings()
    if not (settings.is_fast and _can_be_compact(model, table, settings)):
        yield
        return
    padding = [] if table.padding_idx is None else [table.padding_idx]
    used = np.union1d(columns.values["input_ids"], padding)
    compact = CompactEmbedding(table, torch.from_numpy(used.astype(np.int64)))
    model.set_input_embeddings(compact)
    try:
        yield
    finally:
        table.weight.data.copy_(compact.whole_table())
        model.set_input_embeddings(table)


class CompactEmbedding(nn.Module):
    """An embedding of which only some rows are a parameter (U + 1, D).

    The last row stands for all absent words: it is 1 and no token of the training data reads it, so
    weight decay multiplies it by the very factors that it would multiply their rows by.
    """

    whole: torch.Tensor  # (V, D)
    used: torch.Tensor  # (U,) word ids
    place: torch.Tensor  # (V,) the row of each word in `weight`; U of an absent one

    def __init__(self, table: nn.Embedding, used: torch.Tensor):
        super().__init__()
        whole = table.weight.detach()
        used = used.to(whole.device)
        place = torch.full((len(whole),), len(used), device=whole.device)
        place[used] = torch.arange(len(used), device=whole.device)
        self.register_buffer("whole", whole, persistent=False)
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("place", place, persistent=False)
        self.embedding_dim = table.embedding_dim
        self.padding_idx = None if table.padding_idx is None else int(place[table.padding_idx])
        self.weight = nn.Parameter(torch.cat([whole[used], whole.new_ones(1, whole.shape[1])]))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        place = self.place[input_ids]
        rows = F.embedding(place, self.weight, self.padding_idx)
        if self.training:
            return rows
        is_absent = (place == len(self.used))[..., None]  # other data has other words
        return torch.where(is_absent, self.whole[input_ids] * rows, rows)

    @torch.no_grad()
    def whole_table(self) -> torch.Tensor:
        """All rows (V, D) as they are now."""
        table = self.whole * self.weight[-1]
        table[self.used] = self.weight[:-1]
        return table

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[f"{prefix}weight"] = self.whole_table()

    @torch.no_grad()
    def _load_from_state_dict(self, state_dict, prefix, *_):
        self.whole.copy_(state_dict[f"{prefix}weight"])
        self.weight.copy_(torch.cat([self.whole[self.used], torch.ones_like(self.weight[-1:])]))


def _can_be_compact(model, table, settings):
    """Whether it is a plain embedding, trained by AdamW, that nothing else of the model uses."""
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return False
    if type(make_optimizer(model, settings)) is not torch.optim.AdamW:  # nor a subclass
        return False
    named = model.named_parameters(remove_duplicate=False)
    return sum(parameter is table.weight for _, parameter in named) == 1

"""The embeddings of the words that the data has, while a model is trained on it.

The embedding table is half of a small encoder, and most of a multilingual one. Rows of absent words
have no gradient, but a dense optimizer reads and writes them and their two moments at every step.
20,000 sentences of PAN-X use 16,248 of the 30,522 rows of BERT's table, which saves 3 % of a step;
of the 250,002 rows of XLM-R's, any data uses a small share.

This holds for AdamW alone, whose decay is decoupled: a row without a gradient is multiplied by
1 - learning rate * decay, and that factor is the same for all absent rows. Adam puts the decay
through the moments, so that an absent row's path depends on its values; Adafactor and others look
at the whole table. With any optimizer but `torch.optim.AdamW` the table stays whole.

V rows of the whole table, U rows that are used, D width.
"""

from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rawtrain.optim import make_optimizer


@contextmanager
def compact_vocabulary(model, columns, settings):
    """Within it, the input embeddings train the rows of the words in `columns` alone.

    Whoever evaluates or saves it in between sees the whole table, and on leaving, the table is put
    back, with what was learnt. Rows of absent words change by weight decay as they would have. A
    table that other modules share (a masked-LM decoder) is left as it is.
    """
    table = model.get_input_embeddings()
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
    """An embedding of which only some rows are a parameter."""

    def __init__(self, table, used):
        super().__init__()
        device = table.weight.device
        self.embedding_dim = table.embedding_dim
        self.register_buffer("whole", table.weight.detach(), persistent=False)  # (V, D)
        self.register_buffer("used", used.to(device), persistent=False)  # (U,)
        place = torch.zeros(len(self.whole), dtype=torch.int64, device=device)
        place[self.used] = torch.arange(len(used), device=device)
        self.register_buffer("place", place, persistent=False)  # (V,) of a word among the used
        is_used = torch.zeros(len(self.whole), dtype=torch.bool, device=device)
        self.register_buffer("is_used", is_used.index_fill_(0, self.used, True), persistent=False)
        self.padding_idx = None if table.padding_idx is None else int(place[table.padding_idx])
        # The last row stands for all absent words: it is 1 and no token reads it, so weight decay
        # multiplies it by the very factors that it multiplies their rows by.
        rows = torch.cat([self.whole[self.used], self.whole.new_ones(1, self.embedding_dim)])
        self.weight = nn.Parameter(rows)  # (U + 1, D)

    def forward(self, input_ids):
        rows = F.embedding(self.place[input_ids], self.weight, self.padding_idx)
        if self.training:
            return rows
        absent = self.whole[input_ids] * self.weight[-1]  # other data has other words
        return torch.where(self.is_used[input_ids][..., None], rows, absent)

    @torch.no_grad()
    def whole_table(self):
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

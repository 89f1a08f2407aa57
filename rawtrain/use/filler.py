"""What a masked language model predicts for hidden words, from Python; fill.py is the command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

from rawtrain.config import MlmSettings
from rawtrain.data.encoding import truncating
from rawtrain.models import loading, tokenizers
from rawtrain.precision import choose_device

MASK = "[MASK]"  # in texts, for the mask token of any model
WORD = "the"  # stands in for a mask while a text is encoded


@dataclass(eq=False, repr=False)
class MaskFiller:
    """`MaskFiller.from_pretrained(folder)("Rows are [MASK].")` lists the likeliest words.

    Each mask of the text has a list of dicts with the keys of transformers' pipeline: "score" (the
    probability), "token" (its id) and "token_str". Each mask is filled with the others hidden.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_seq_length: int

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> "MaskFiller":
        """The filler of a folder that a run wrote, or of any model with a masked-LM head.

        options: use_cpu, and trust_remote_code for a model with code of its own.
        """
        settings = MlmSettings(model_name_or_path=str(folder), **options)
        config, tokenizer = loading.load_config(settings), tokenizers.load_tokenizer(settings)
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"{folder}: its tokenizer has no mask token; name a model that was trained by "
                f"masked-language modelling"
            )
        model = loading.load_model(AutoModelForMaskedLM, config, settings)
        loading.check_vocabulary(tokenizer, model)
        max_seq_length = loading.check_length(settings, tokenizer, model)
        return cls(model.to(choose_device(settings)), tokenizer, max_seq_length)

    def __call__(self, text: str, top_k: int = 5) -> list[list[dict[str, Any]]]:
        """Raises ValueError for a text without a mask, or too long for the model."""
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; expected a whole number from 1")
        text.encode()  # raises for half of a surrogate pair: an argument that is not UTF-8
        num_tokens = len(self.tokenizer)  # a model may have embeddings for more
        likeliest = self.probabilities(text)[:, :num_tokens].topk(min(top_k, num_tokens))
        return [
            [
                {"score": score, "token": token, "token_str": self.tokenizer.decode([token])}
                for score, token in zip(scores, tokens, strict=True)
            ]
            for scores, tokens in zip(*map(torch.Tensor.tolist, likeliest), strict=True)
        ]

    def probabilities(self, text: str) -> torch.Tensor:
        """The probability of every token of the vocabulary at each mask, float32 [masks, V]."""
        parts = text.replace(self.tokenizer.mask_token, MASK).split(MASK)
        if len(parts) == 1:
            raise ValueError(f"the text has no {MASK}; write it in place of the word to find")
        return self.predict(self.hide_in_place(parts))

    def hide_in_place(self, parts: list[str]) -> list[int]:
        """The ids of a text that is cut at its masks, with the mask token in the place of words.

        Written into the text, the mask token changes what stands beside it in many models: the
        blank before it becomes a token, the full stop after it the beginning of a word. So words
        are written, and their tokens replaced. A mask within a word is written into the text.
        """
        mask, end = self.tokenizer.mask_token_id, 0
        with truncating(self.tokenizer) as backend:
            encoding = backend.encode(WORD.join(parts))
            ids, (first, last) = np.array(encoding.ids), np.array(encoding.offsets).T
            last = np.maximum(last, first + 1)  # some tokens are of no character
            for part in parts[:-1]:
                start, end = end + len(part), end + len(part + WORD)
                start -= part.endswith(" ")
                its = (first < end) & (last > start) & (np.array(encoding.special_tokens_mask) == 0)
                if not its.any() or first[its].min() < start or last[its].max() > end:
                    before = [part.removesuffix(" ") for part in parts[:-1]]
                    return backend.encode(self.tokenizer.mask_token.join([*before, parts[-1]])).ids
                ids[its] = [mask, *[-1] * (its.sum() - 1)]
        return ids[ids >= 0].tolist()

    @torch.inference_mode()
    def predict(self, ids: list[int]) -> torch.Tensor:
        """The probability of every token of the vocabulary at each mask among the tokens `ids`."""
        if len(ids) > self.max_seq_length:
            raise ValueError(
                f"the text has {len(ids):,} tokens, special ones counted, and this model takes up "
                f"to {self.max_seq_length:,}; shorten it around its mask"
            )
        row = torch.tensor([ids], device=self.model.device)
        is_mask = row[0] == self.tokenizer.mask_token_id
        logits = self.model.eval()(input_ids=row).logits[0, is_mask]
        return logits.float().softmax(-1).cpu()

"""What a masked language model predicts for hidden words, from Python; fill.py is the command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

from rawtrain.config import MlmSettings
from rawtrain.models import loading, tokenizers
from rawtrain.precision import choose_device

MASK = "[MASK]"  # in texts, for the mask token of any model


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
    def from_pretrained(cls, folder: str | Path, *, use_cpu: bool = False) -> "MaskFiller":
        """The filler of a folder that a run wrote, or of any model with a masked-LM head."""
        settings = MlmSettings(model_name_or_path=str(folder), use_cpu=use_cpu)
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
        likeliest = self.probabilities(text).topk(min(top_k, len(self.tokenizer)))
        return [
            [
                {"score": score, "token": token, "token_str": self.tokenizer.decode([token])}
                for score, token in zip(scores, tokens, strict=True)
            ]
            for scores, tokens in zip(*map(torch.Tensor.tolist, likeliest), strict=True)
        ]

    @torch.inference_mode()
    def probabilities(self, text: str) -> torch.Tensor:
        """The probability of every token of the vocabulary at each mask, float32 [masks, V]."""
        tokenizer = self.tokenizer
        ids = tokenizer(text.replace(MASK, tokenizer.mask_token), verbose=False)["input_ids"]
        if len(ids) > self.max_seq_length:
            raise ValueError(
                f"the text has {len(ids):,} tokens, special ones counted, and this model takes up "
                f"to {self.max_seq_length:,}; shorten it around its mask"
            )
        ids = torch.tensor([ids], device=self.model.device)
        is_mask = ids[0] == tokenizer.mask_token_id
        if not is_mask.any():
            raise ValueError(f"the text has no {MASK}; write it in place of the word to find")
        logits = self.model.eval()(input_ids=ids).logits[0, is_mask]
        return logits.float().softmax(-1).cpu()

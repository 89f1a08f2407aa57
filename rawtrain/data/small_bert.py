"""A tokenizer trained on the spot and a small BERT for it: the model of the first run.

transformers is imported inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedTokenizerFast

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_small_tokenizer(
    texts: Sequence[str], vocab_size: int = 6000, model_max_length: int = 128
) -> PreTrainedTokenizerFast:
    """A cased WordPiece tokenizer with BERT's special tokens; the same texts give the same one."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    def with_model(model: models.WordPiece) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    # The trainer breaks ties by id, and numbers the "##" letters in an order that changes from
    # process to process. Given as special tokens they have their ids beforehand; the vocabulary is
    # then taken over without that mark.
    letters = sorted({letter for text in texts for letter in text if not letter.isspace()})
    learner = with_model(models.WordPiece(unk_token="[UNK]"))
    learner.train_from_iterator(
        texts,
        WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=SPECIAL_TOKENS + [f"##{letter}" for letter in letters],
            show_progress=False,
        ),
    )
    vocab = learner.get_vocab()
    tokenizer = with_model(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=model_max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def small_bert_config(tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    """Two layers of width 128: trained from scratch within a minute on two cores."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
    )

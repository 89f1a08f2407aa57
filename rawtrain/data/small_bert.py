"""A tokenizer trained on the spot and a small BERT for it: the model of the first run.

transformers is imported inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rawtrain.data.raw_text import word_splitter

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedTokenizerFast

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_small_tokenizer(
    texts: Sequence[str], vocab_size: int = 8000, model_max_length: int = 128
) -> PreTrainedTokenizerFast:
    """A cased WordPiece tokenizer with BERT's special tokens; the same texts give the same one.

    BERT's own splits words at every dot and underscore. Here names stay whole, as far as they are
    in the vocabulary: a small model has neither the data nor the time to put them together again
    (worth 0.025 of entity F1 on the docstrings).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    def with_model(model: models.WordPiece) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = word_splitter()
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
        intermediate_size=256,
        hidden_dropout_prob=0.2,
        initializer_range=0.05,  # BERT's 0.02 is made for width 768; worth 0.02 of F1
        max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
    )

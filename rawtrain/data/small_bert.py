"""A tokenizer trained on the spot and a small BERT for it: the model of the first run."""

from tokenizers import Tokenizer, decoders, models, normalizers, processors
from tokenizers.trainers import WordPieceTrainer
from transformers import BertConfig, PreTrainedTokenizerFast

from rawtrain.data.raw_text import word_splitter
from rawtrain.data.rows import Texts

SPECIAL_TOKENS = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}


def train_small_tokenizer(
    texts: Texts | list[str], vocab_size: int = 8000, model_max_length: int = 128
) -> PreTrainedTokenizerFast:
    """A cased WordPiece tokenizer with BERT's special tokens; the same texts give the same one.

    BERT's own splits words at every dot and underscore. Here a name is one token if it is in the
    vocabulary: a small model has neither the data nor the time to put it together from parts (worth
    0.025 of entity F1 on the docstrings).
    """
    # The trainer breaks ties by id, and gives the "##" letters ids in an order that changes from
    # process to process. As special tokens they get their ids first; then the vocabulary is moved
    # to a tokenizer in which they are not special.
    letters = sorted({letter for text in texts for letter in text if not letter.isspace()})
    special = [*SPECIAL_TOKENS.values(), *(f"##{letter}" for letter in letters)]
    trainer = WordPieceTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    learner = _cased(models.WordPiece(unk_token="[UNK]"))
    learner.train_from_iterator(texts, trainer)
    vocab = learner.get_vocab()
    tokenizer = _cased(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=model_max_length, **SPECIAL_TOKENS
    )


def small_bert_config(tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    """Two layers of width 128: trained from scratch within a minute on two cores."""
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


def _cased(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = word_splitter()
    return tokenizer

"""One step with all its numbers: two sentences, two micro-batches, one update of a tiny BERT.

    python scripts/one_step.py

The very functions of the loop run here; what is printed stands in README.md, and a test compares
the two. In a real step the numbers stay on the device until a log line needs them.
"""

from statistics import fmean

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from rawtrain import NerSettings, TrainingBatches, encode_words, fresh_model
from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.loop import train_step
from rawtrain.loss import summed_cross_entropy
from rawtrain.optim import learning_rate_schedule, make_optimizer, set_learning_rate
from rawtrain.precision import make_scaler
from rawtrain.randomness import seed_dropout

WORDS = [["Ada", "Lovelace", "met", "Babbage"], ["Rome", "!"]]
TAGS = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "O"]]
LABELS = ["O", "B-LOC", "B-PER", "I-PER"]
SUB_WORDS = "[PAD] [UNK] [CLS] [SEP] Ada Love ##lace met Babb ##age Rome !".split()  # noqa: SIM905
SETTINGS = NerSettings(
    per_device_train_batch_size=1,
    gradient_accumulation_steps=2,
    learning_rate=1e-3,
    max_steps=10,
    use_cpu=True,
)


def small_tokenizer():
    """A WordPiece tokenizer that knows the two sentences."""
    ids = {piece: number for number, piece in enumerate(SUB_WORDS)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def small_model():
    config = BertConfig(
        vocab_size=len(SUB_WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=len(LABELS),
    )
    return BertForTokenClassification(config)


def main():
    """Take the first of ten steps, and print what went in and what came out."""
    tokenizer, model = small_tokenizer(), fresh_model(small_model, SETTINGS.seed)
    label2id = {name: number for number, name in enumerate(LABELS)}
    rows = encode_words(tokenizer, WORDS, TAGS, label2id, max_length=16, stride=0)
    source = TaggedTokens(rows.columns)
    batches = TrainingBatches(len(WORDS), SETTINGS, PaddedRows(source, tokenizer))
    optimizer = make_optimizer(model, SETTINGS)
    scaler = make_scaler(SETTINGS, model.device)
    sums = []

    def batch_loss(model, batch, labelled):
        loss_sum, logits = summed_cross_entropy(model, batch, labelled)
        sums.append((loss_sum.item(), len(labelled)))
        return loss_sum, logits

    learning_rate_after = learning_rate_schedule(SETTINGS, SETTINGS.max_steps)
    set_learning_rate(optimizer, learning_rate_after(0))
    seed_dropout(SETTINGS, step=1)
    micro_batches = batches[1]
    result = train_step(model, micro_batches, optimizer, scaler, SETTINGS, batch_loss)

    divisor = result.num_labelled_tokens
    for number, (batch, (loss_sum, num_labels)) in enumerate(zip(micro_batches, sums, strict=True)):
        pieces = tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
        print(f"micro-batch {number + 1} of 2")
        print_row("sub-words", pieces)
        print_row("input_ids", batch["input_ids"][0].tolist())
        print_row("labels", batch["labels"][0].tolist())
        loss = result.losses[number].item()
        print(f"  loss_sum {loss_sum:.4f} over {num_labels} labelled tokens")
        print(f"  loss     {loss_sum:.4f} / {divisor} = {loss:.4f}; backward() adds its gradient\n")
    step_loss = sum(loss.item() for loss in result.losses)
    mean_of_means = fmean(loss_sum / num_labels for loss_sum, num_labels in sums)
    print(f"divisor        {divisor}: the labelled tokens of the whole step")
    print(f"loss of step   {step_loss:.4f} (a mean of the two means would say {mean_of_means:.4f})")
    print(f"gradient norm  {result.grad_norm:.4f}, clipped to {SETTINGS.max_grad_norm}")
    print(f"learning rate  {learning_rate_after(0):g}, and {learning_rate_after(1):g} in step 2")


def print_row(name, cells):
    print(f"  {name:<10}" + "".join(f"{cell:>8}" for cell in cells))


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Chapter 9 of "Natural Language Processing with Transformers": BERT reads GitHub issues, so that a
# classifier with few labels starts from a model that knows the domain.
#
#   scripts/mlm_issues.sh issues.jsonl                     # an object a line, the text under "text"
#   scripts/mlm_issues.sh issues.jsonl --whole_word_mask   # any flag of rawtrain.mlm is passed on
#   MODEL=path/to/encoder scripts/mlm_issues.sh issues.jsonl
#
# The book joins title, a blank line and body of an issue to its text. Needs the hub for the model
# (about 440 MB, once) and, for a run in minutes rather than hours, a GPU.
set -euo pipefail

FILE=${1:?which JSONL file? usage: scripts/mlm_issues.sh issues.jsonl [--flag value ...]}
shift
MODEL=${MODEL:-bert-base-uncased}

settings=(
  --model_name_or_path "$MODEL"
  --train_file "$FILE"
  --text_column_name text
  --output_dir mlm-issues

  # A row is an issue, cut at 128 tokens; 15 % of its tokens are masked anew in each epoch.
  --line_by_line
  --max_seq_length 128
  --mlm_probability 0.15

  # The book's TrainingArguments: 16 epochs of 32 issues a step, log line and evaluation each epoch.
  --num_train_epochs 16
  --per_device_train_batch_size 32
  --logging_strategy epoch
  --eval_strategy epoch
  --save_strategy no
)
exec python -m rawtrain.mlm "${settings[@]}" "$@"

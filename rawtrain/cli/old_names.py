"""Names of settings that older commands, the book and the scripts use: what to do instead."""

TABLE = """
evaluation_strategy evaluate_during_training -> use --eval_strategy
warmup_ratio -> use --warmup_steps with a share of the run below 1
num_warmup_steps -> use --warmup_steps
no_cuda cpu -> use --use_cpu
epochs num_epochs -> use --num_train_epochs
max_train_steps -> use --max_steps
lr -> use --learning_rate
scheduler lr_scheduler -> use --lr_scheduler_type
batch_size train_batch_size per_gpu_train_batch_size -> use --per_device_train_batch_size
eval_batch_size per_gpu_eval_batch_size -> use --per_device_eval_batch_size
gradient_clipping clip_grad_norm -> use --max_grad_norm
model_checkpoint -> use --model_name_or_path
patience -> use --early_stopping_patience
max_length block_size max_seq_len -> use --max_seq_length
model_type -> use --config_name with a configuration of that type
config_overrides -> write them into a configuration and name it with --config_name
data_dir -> use --train_file, --validation_file and --test_file (ner)
train_data_file train_data -> use --train_file
eval_data_file eval_file dev_file valid_file -> use --validation_file
debug -> use --max_train_samples and --max_eval_samples
wwm wwm_probability -> use --whole_word_mask
checkpointing_steps -> use --save_strategy and --save_steps
logging_first_step -> use --logging_steps
ignore_data_skip -> leave it out: a resumed run finds its place in the data at once
logging_dir run_name -> leave it out: metrics.jsonl in --output_dir holds every logged number
project trackio_space_id -> leave it out: metrics.jsonl in --output_dir holds every logged number
with_tracking -> use --report_to
group_by_length -> leave it out: the order of the rows is Trainer's random one
train_sampling_strategy -> leave it out: the order of the rows is Trainer's random one
length_column_name -> leave it out: the order of the rows is Trainer's random one
pad_to_max_length -> leave it out: a batch is padded to its longest row
ignore_mismatched_sizes -> leave it out: weights of another shape are refused
save_safetensors -> leave it out: models are always saved as safetensors
use_fast_tokenizer use_slow_tokenizer -> leave it out: the tokenizer is always a fast one
half_precision_backend fp16_backend -> leave it out: --bf16 and --fp16 use torch.autocast
fp16_opt_level fp16_full_eval bf16_full_eval -> leave it out: --bf16 and --fp16 use torch.autocast
optim adafactor -> leave it out: the optimizer is AdamW
label_smoothing_factor -> leave it out: the loss is cross-entropy without smoothing
low_cpu_mem_usage -> leave it out: transformers 5 always saves memory there
streaming -> leave it out: the data is encoded before training starts
local_rank -> leave it out: this version runs in one process
cache_dir -> set the environment variable HF_HOME
push_to_hub_token -> use --hub_token, or better HF_TOKEN or `hf auth login`
push_to_hub_model_id push_to_hub_organization -> use --hub_model_id
hub_strategy hub_always_push -> leave it out: --push_to_hub uploads the final model, once
hub_revision -> leave it out: --push_to_hub uploads the final model, once
token -> set HF_TOKEN or run `hf auth login`: a token on a command line is seen by others
use_auth_token -> set HF_TOKEN or run `hf auth login`: a token on a command line is seen by others
"""
ROWS = [line.split(" -> ") for line in TABLE.strip().splitlines()]
RENAMED = {name: answer for names, answer in ROWS for name in names.split()}

"""Names of settings that older commands, the book and the scripts use: what to do instead."""

OLD_NAMES = {
    "use --eval_strategy": "evaluation_strategy evaluate_during_training",
    "use --warmup_steps with a share of the run below 1": "warmup_ratio",
    "use --warmup_steps": "num_warmup_steps",
    "use --use_cpu": "no_cuda cpu",
    "use --num_train_epochs": "epochs num_epochs",
    "use --max_steps": "max_train_steps",
    "use --learning_rate": "lr",
    "use --lr_scheduler_type": "scheduler lr_scheduler",
    "use --per_device_train_batch_size": "batch_size train_batch_size per_gpu_train_batch_size",
    "use --per_device_eval_batch_size": "eval_batch_size per_gpu_eval_batch_size",
    "use --max_grad_norm": "gradient_clipping clip_grad_norm",
    "use --model_name_or_path": "model_checkpoint",
    "use --early_stopping_patience": "patience",
    "use --max_seq_length": "max_length block_size max_seq_len",
    "use --config_name with a configuration of that type": "model_type",
    "write them into a configuration and name it with --config_name": "config_overrides",
    "use --train_file, --validation_file and --test_file (ner)": "data_dir",
    "use --train_file": "train_data_file train_data",
    "use --validation_file": "eval_data_file eval_file dev_file valid_file",
    "use --max_train_samples and --max_eval_samples": "debug",
    "use --whole_word_mask": "wwm wwm_probability",
    "use --save_strategy and --save_steps": "checkpointing_steps",
    "use --logging_steps": "logging_first_step",
    "leave it out: a resumed run finds its place in the data at once": "ignore_data_skip",
    "leave it out: metrics.jsonl in --output_dir holds every logged number": (
        "logging_dir run_name project trackio_space_id"
    ),
    "use --report_to": "with_tracking",
    "leave it out: the order of the rows is Trainer's random one": (
        "group_by_length train_sampling_strategy length_column_name"
    ),
    "leave it out: a batch is padded to its longest row": "pad_to_max_length",
    "leave it out: weights of another shape are refused": "ignore_mismatched_sizes",
    "leave it out: models are always saved as safetensors": "save_safetensors",
    "leave it out: the tokenizer is always a fast one": "use_fast_tokenizer use_slow_tokenizer",
    "leave it out: --bf16 and --fp16 use torch.autocast": (
        "half_precision_backend fp16_backend fp16_opt_level fp16_full_eval bf16_full_eval"
    ),
    "leave it out: the optimizer is AdamW": "optim adafactor",
    "leave it out: the loss is cross-entropy without smoothing": "label_smoothing_factor",
    "leave it out: transformers 5 always saves memory there": "low_cpu_mem_usage",
    "leave it out: the data is encoded before training starts": "streaming",
    "leave it out: this version runs in one process": "local_rank",
    "set the environment variable HF_HOME": "cache_dir",
    "use --hub_token, or better HF_TOKEN or `hf auth login`": "push_to_hub_token",
    "use --hub_model_id": "push_to_hub_model_id push_to_hub_organization",
    "leave it out: --push_to_hub uploads the final model, once": (
        "hub_strategy hub_always_push hub_revision"
    ),
    "set HF_TOKEN or run `hf auth login`: a token on a command line is seen by others": (
        "token use_auth_token"
    ),
}
RENAMED = {name: answer for answer, names in OLD_NAMES.items() for name in names.split()}

"""Everything that training changes as it goes, and therefore all that a checkpoint holds.

What is not here is a function of the settings and of the step: order of rows, masks, dropout,
learning rate, and when to log, evaluate and save.
"""

import functools
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from rawtrain.models.files import check_weight_files
from rawtrain.run.durable import DamagedError, json_text, reading
from rawtrain.run.log import RunLog
from rawtrain.run.step_record import NonFiniteError, StepRecord

OPTIMIZER_FILE, NUMBERS_FILE = "optimizer.safetensors", "state.json"
PARAMETER = "parameter"


@dataclass
class RunState:
    """A run after `step`; nothing of the next step has begun and the gradients are empty."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    record: StepRecord
    log: RunLog
    step: int = 0  # done
    num_updates: int = 0  # of these, those that the scaler did not skip
    seconds_before: float = 0.0  # of training, in processes before this one
    start_time: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.start_time

    @functools.cached_property
    def num_bytes(self) -> int:
        """What a checkpoint takes, without its small files: the weights and AdamW's two moments."""
        weights = {tensor.data_ptr(): tensor.nbytes for tensor in self.model.state_dict().values()}
        moments = [2 * parameter.nbytes for parameter in self.model.parameters()]
        return sum(weights.values()) + sum(moments)

    def save(self, folder: Path, tokenizer) -> None:
        """Write all of it; the model loads with `from_pretrained`."""
        self.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(self._tensors(), folder / OPTIMIZER_FILE)
        text = json_text(self._numbers(), indent=1)
        (folder / NUMBERS_FILE).write_text(text + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take all of it from a verified checkpoint of this run."""
        numbers, weights = read_numbers(folder), load_weights(self.model, folder)
        with reading(folder):
            state = load_file(folder / OPTIMIZER_FILE) | numbers["optimizer"]
            self._load_parameters(weights, state)
            self.scaler.load_state_dict(numbers["scaler"])
            self.record.load_state_dict(numbers["record"])
            self.seconds_before = float(numbers["seconds"])
            assert math.isfinite(self.seconds_before), "seconds without end"
        self.log.restore(numbers["log_history"])
        self.step, self.num_updates = numbers["step"], numbers["num_updates"]

    def _numbers(self):
        return {
            "step": self.step,
            "num_updates": self.num_updates,
            "seconds": self.seconds,
            "optimizer": {  # AdamW has no plain number, Adafactor has
                key: value for key, value in self._optimizer_state() if not torch.is_tensor(value)
            },
            "scaler": self.scaler.state_dict(),
            "record": self.record.state_dict(),
            "log_history": self.log.history,
        }

    def _optimizer_state(self):
        """The optimizer's state by the names of the parameters: ("<name>|exp_avg", value)."""
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                yield f"{name}|{key}", value

    def _tensors(self):
        """The optimizer's, and parameters that the saved model holds in another form.

        The latter are those of fast/vocabulary.py, a table of which only some rows are trained.
        """
        tensors = {key: value for key, value in self._optimizer_state() if torch.is_tensor(value)}
        saved = self.model.state_dict()
        for name, parameter in self.model.named_parameters():
            if saved[name].data_ptr() != parameter.data_ptr():
                tensors[f"{name}|{PARAMETER}"] = parameter.detach()
        return {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}

    @torch.no_grad()
    def _load_parameters(self, weights, state):
        parameters = dict(self.model.named_parameters())
        for name, parameter in parameters.items():
            parameter.copy_(state.pop(f"{name}|{PARAMETER}", weights.get(name)))
        for key, value in state.items():
            name, _, key = key.rpartition("|")
            assert name in parameters, f"the optimizer has no parameter {name}"
            if torch.is_tensor(value):  # copied: the file is mapped into memory, and may change
                value = value.to(parameters[name].device, copy=True)
            self.optimizer.state[parameters[name]][key] = value
        self._check_moments()
        for name, buffer in self.model.named_buffers():
            if name in weights:
                buffer.copy_(weights[name])

    def _check_moments(self):
        """AdamW takes whatever is there, and reads beyond the end of a moment that is too small."""
        if type(self.optimizer) is torch.optim.AdamW:
            for parameter, state in self.optimizer.state.items():
                shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
                for name, shape in shapes.items():
                    is_sound = state[name].is_floating_point() and state[name].shape == shape
                    assert is_sound, f"{name} has another shape or type"


def read_numbers(folder: Path) -> dict:
    """The numbers of a checkpoint, among them its "step" and "log_history"."""
    with reading(folder / NUMBERS_FILE):
        numbers = json.loads((folder / NUMBERS_FILE).read_bytes())
        steps = [entry["step"] for entry in (numbers, *numbers["log_history"])]
        assert all(type(step) is int for step in (numbers["num_updates"], *steps)), "no steps"
        logged = (value for entry in numbers["log_history"] for value in entry.values())
        assert all(type(value) in (int, float) for value in logged), "a log of other things"
        return numbers


def load_weights(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a saved model of the same kind, under the names of its `state_dict()`.

    Of the folder nothing but its safetensors is read: the configuration and the code are those of
    the model. Raises DamagedError if they are not all of its weights.
    """
    model_class: Any = type(model)
    with reading(folder):
        stored: dict[str, torch.Tensor] = {}
        for file in check_weight_files(str(folder)):
            stored |= load_file(file)
        loaded, report = model_class.from_pretrained(
            None,
            config=model.config,
            state_dict=stored,
            dtype=model.dtype,
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):
        raise DamagedError(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
    return loaded.state_dict()


def check_saves(model) -> None:
    """Raise ValueError for a model whose checkpoint could not be read back, before any training."""
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"a {type(model).__name__} cannot be saved and read back; expected a PreTrainedModel "
            f"of transformers. Train the model that it wraps, or pass no `checkpoints`"
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "a model with an adapter saves the adapter alone, so a checkpoint would not hold its "
            "weights; pass no `checkpoints`, and save it with model.save_pretrained()"
        )


def check_weights(model: PreTrainedModel) -> None:
    """Raise NonFiniteError if a weight is NaN or infinite: that is no model to keep."""
    sums = torch.stack([parameter.detach().sum() for parameter in model.parameters()])
    if sums.isfinite().all():  # cheaper than to look at each number
        return
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise NonFiniteError(
                f"the weight {name} is NaN or infinite, though every loss and gradient was finite; "
                f"it was not saved. Try a lower --learning_rate"
            )

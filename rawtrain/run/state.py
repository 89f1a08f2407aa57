"""Everything that training changes as it goes, and therefore all that a checkpoint holds.

What is not here is a function of the settings and of the step: order of rows, masks, dropout,
learning rate, and when to log, evaluate and save.
"""

import functools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rawtrain.run.log import RunLog
from rawtrain.run.step_record import NonFiniteError, StepRecord

OPTIMIZER_FILE, NUMBERS_FILE = "optimizer.safetensors", "state.json"
PARAMETER = "parameter"


@dataclass
class RunState:
    """A run after `step`; nothing of the next step has begun and the gradients are empty."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    record: StepRecord
    log: RunLog
    step: int = 0  # done
    num_updates: int = 0  # of these, those that the scaler did not skip
    evaluation_due: bool = False  # of `step`: interrupted before it was through
    seconds_before: float = 0.0  # of training, in processes before this one
    start_time: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self):
        return self.seconds_before + time.perf_counter() - self.start_time

    def check(self):
        """Raise NonFiniteError if a number of the steps so far, or a weight, is none."""
        self.record.check()
        check_weights(self.model)

    @functools.cached_property
    def num_bytes(self):
        """What a checkpoint takes, without its small files: the weights, and twice the moments."""
        weights = {tensor.data_ptr(): tensor.nbytes for tensor in self.model.state_dict().values()}
        moments = [2 * parameter.nbytes for parameter in self.model.parameters()]
        return sum(weights.values()) + sum(moments)

    def save(self, folder: Path, tokenizer) -> None:
        """Write all of it; the model loads with `from_pretrained`."""
        self.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(self._optimizer_tensors(), folder / OPTIMIZER_FILE)
        text = json.dumps(self._numbers(), indent=1, allow_nan=False)
        (folder / NUMBERS_FILE).write_text(text + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take all of it from a verified checkpoint of this run."""
        self._load_tensors(load_file(folder / OPTIMIZER_FILE), load_weights(self.model, folder))
        numbers = json.loads((folder / NUMBERS_FILE).read_bytes())
        self.scaler.load_state_dict(numbers["scaler"])
        self.record.load_state_dict(numbers["record"])
        self.log.restore(numbers["log_history"])
        for name in ("step", "num_updates", "evaluation_due"):
            setattr(self, name, numbers[name])
        self.seconds_before = numbers["seconds"]

    def _numbers(self):
        return {
            "step": self.step,
            "num_updates": self.num_updates,
            "evaluation_due": self.evaluation_due,
            "seconds": self.seconds,
            "scaler": self.scaler.state_dict(),
            "record": self.record.state_dict(),
            "log_history": self.log.history,
        }

    def _optimizer_tensors(self):
        """The optimizer's state by the names of the parameters, as "<name>|exp_avg".

        And the parameters that the saved model holds in another form (fast/vocabulary.py).
        """
        tensors, saved = {}, self.model.state_dict()
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{name}|{key}"] = value
            if saved[name].data_ptr() != parameter.data_ptr():
                tensors[f"{name}|{PARAMETER}"] = parameter.detach()
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}

    @torch.no_grad()
    def _load_tensors(self, tensors, weights):
        by_name = {}
        for key, tensor in tensors.items():
            name, _, key = key.rpartition("|")
            by_name.setdefault(name, {})[key] = tensor
        for name, parameter in self.model.named_parameters():
            states = by_name.pop(name, {})
            parameter.copy_(states.pop(PARAMETER, weights.get(name)))
            if states:  # cloned: the file is mapped into memory, and may be deleted or changed
                self.optimizer.state[parameter] = {
                    key: tensor.to(parameter.device, copy=True) for key, tensor in states.items()
                }
        assert not by_name, f"the optimizer has no parameters {sorted(by_name)}"
        for name, buffer in self.model.named_buffers():
            if name in weights:
                buffer.copy_(weights[name])


def load_weights(model, folder: Path):
    """The weights of a saved model of the same kind, under the names of its `state_dict()`."""
    return type(model).from_pretrained(folder, dtype=model.dtype).state_dict()


def check_weights(model) -> None:
    """Raise NonFiniteError if a weight is infinite or no number: that is no model to keep."""
    sums = torch.stack([parameter.detach().sum() for parameter in model.parameters()])
    if sums.isfinite().all():  # cheaper than to look at each number
        return
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise NonFiniteError(
                f"the weight {name} holds numbers that are infinite or none, though every loss and "
                f"gradient was one; nothing of it was saved. Try a lower --learning_rate"
            )

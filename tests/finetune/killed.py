"""Trains in a process that is there to be killed: a checkpoint a step, a line a batch."""

from __future__ import annotations

import sys
from pathlib import Path

from probe.finetune import train
from tests.finetune.data import Silent, training_of

OPTIONS = {
    "epochs": 2, "augment": "strong,jitter,hue,lighting", "mixup": 0.2, "ema": 0.9,
    "optimizer": "adamw", "bn": "moving", "freeze": "backbone", "unfreeze": ((2, "none"),),
    "sizes": (28, 32), "accumulate": 2, "batch_size": 16, "sampling": "balanced", "clip": 1.0,
}  # fmt: skip


class Loud(Silent):
    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None:
        print(done, flush=True)


if __name__ == "__main__":
    train.CHECKPOINT_SECONDS = 0.0
    training = training_of(Path(sys.argv[1]), Path(sys.argv[2]), **OPTIONS)
    training.resume()
    training.run(Loud())
    print("done", flush=True)

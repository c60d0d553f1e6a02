"""fastai as its documentation has it: data loaders, learner, `fit_one_cycle`. Run by a stopwatch.

Started in the peers' environment, which has fastai and no Podium.
"""

import argparse
from pathlib import Path

import stopwatch  # type: ignore[import-not-found]
from fastai.vision.all import (  # type: ignore[import-not-found]
    Callback,
    FlipItem,
    ImageDataLoaders,
    Learner,
    RandomResizedCrop,
    resnet18,
)


class _Tick(Callback):  # type: ignore[misc]
    def after_batch(self) -> None:
        if self.training:
            stopwatch.STOPWATCH.tick()


parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--batch-size", type=int, required=True)
parser.add_argument("--channels-last", action="store_true")
given = parser.parse_args()

loaders = ImageDataLoaders.from_folder(
    given.data,
    train="train",
    valid="valid",
    bs=given.batch_size,
    device="cpu",
    item_tfms=[RandomResizedCrop(224, min_scale=0.35), FlipItem(0.5)],
)
learner = Learner(loaders, resnet18(num_classes=loaders.c), cbs=[_Tick()])
if given.channels_last:
    learner = learner.to_channelslast(use_amp=False)  # its mixed precision is for CUDA alone
with learner.no_bar():
    learner.fit_one_cycle(1, 1e-4)

"""Write a ResNet-18 of random weights for Hugging Face's example: `hf_model.py DIR CLASSES`.

The layout of `microsoft/resnet-18`. Started in the peers' environment.
"""

import sys

from transformers import (  # type: ignore[import-not-found]
    ConvNextImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
)

folder, classes = sys.argv[1], int(sys.argv[2])
config = ResNetConfig(
    depths=[2, 2, 2, 2],
    hidden_sizes=[64, 128, 256, 512],
    layer_type="basic",
    num_labels=classes,
)
ResNetForImageClassification(config).save_pretrained(folder)
ConvNextImageProcessor(size={"shortest_edge": 224}).save_pretrained(folder)

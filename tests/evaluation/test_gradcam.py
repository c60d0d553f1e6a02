"""Heat maps against CAM, against places that are known, and of every kind of network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from podium.errors import UserError
from podium.evaluation.gradcam import _Layout, grad_cam, overlay, watched_layer
from podium.evaluation.trained import TrainedModel
from podium.models import build_model

Pixels = npt.NDArray[np.uint8]


def trained(module: nn.Module, size: int, classes: int = 5, **more: Any) -> TrainedModel:
    names = tuple(f"class {number}" for number in range(classes))
    return TrainedModel(module.eval(), names, size, more.pop("normalization", None), **more)


def noise(n: int, size: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def built(name: str, size: int, pooling: Any = "own", **more: Any) -> TrainedModel:
    found = build_model(name, 5, pooling=pooling, seed=3)
    normalization = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return trained(found.module, size, normalization=normalization, **more)


def cam(model: TrainedModel, pixels: Pixels, layer: str, weights: torch.Tensor) -> Any:
    """Zhou et al., 2016: ReLU of the weighted sum of a layer's maps; of `weights` (n, channels)."""
    kept: list[torch.Tensor] = []
    module = model.module.get_submodule(layer)
    handle = module.register_forward_hook(lambda layer, given, output: kept.append(output))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in model.normalization or ())
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        model.module((images - mean) / std)
        heat = torch.einsum("nc,nchw->nhw", weights, kept[0]).relu()
        heat = interpolate(heat[:, None], model.image_size, mode="bilinear")[:, 0]
    handle.remove()
    return heat.numpy()


def scaled(heat: Any) -> Any:
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-30)


def linear_weights(model: TrainedModel, classifier: str) -> torch.Tensor:
    """Of a linear layer, or of several with nothing in between, as one of (classes, channels)."""
    head = model.module.get_submodule(classifier)
    leaves = [one for one in head.modules() if not isinstance(one, nn.Sequential)]
    layers = [one for one in leaves if isinstance(one, nn.Linear)]
    assert layers == leaves
    weights = torch.eye(layers[0].in_features)
    for layer in layers:
        weights = torch.matmul(layer.weight.detach(), weights)
    return weights


@pytest.mark.parametrize(
    ("name", "layer", "classifier", "size"),
    [
        ("resnet18", "layer4", "fc", 96),
        ("efficientnet_lite0", "bn2", "classifier", 96),
        # heads that take maxima: a channel's slope lies at one place, and is its weight
        ("simple_resnet", "8.2", "9.3", 64),
        ("inception_resnet", "12.2", "13.3", 64),
    ],
)
def test_of_a_pooled_linear_head_it_is_cam(
    name: str, layer: str, classifier: str, size: int
) -> None:
    model, pixels = built(name, size), noise(3, size)
    targets = np.array([4, 0, 2])
    weights = linear_weights(model, classifier)[torch.from_numpy(targets)]
    expected = cam(model, pixels, layer, weights)
    heat, logits = grad_cam(model, pixels, targets)
    assert watched_layer(model).startswith(layer)
    assert expected.max() > 0
    np.testing.assert_allclose(heat, scaled(expected), atol=1e-5)
    assert heat.dtype == np.float32
    # of no class given, it is the predicted one's
    own, same = grad_cam(model, pixels)
    np.testing.assert_array_equal(same, logits)
    np.testing.assert_array_equal(own, grad_cam(model, pixels, logits.argmax(1))[0])
    assert not np.allclose(own, heat)


def test_the_map_of_a_mirrored_test_is_the_mean_of_both() -> None:
    model, pixels = built("resnet18", 64, flip_test=True), noise(2, 64)
    targets = np.array([1, 3])
    weights = linear_weights(model, "fc")[torch.from_numpy(targets)]
    mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
    both = [cam(model, one, "layer4", weights) for one in (pixels, mirrored)]
    heat, logits = grad_cam(model, pixels, targets)
    np.testing.assert_allclose(heat, scaled(both[0] + both[1][..., ::-1]), atol=1e-5)
    np.testing.assert_allclose(grad_cam(model, mirrored, targets)[1], logits, atol=1e-5)


def test_it_lights_up_where_the_class_is() -> None:
    """A detector of red and one of blue; a picture with red at the top left, blue right below."""
    detect = nn.Conv2d(3, 2, 1, bias=False)
    detect.weight.data = torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[..., None, None]
    module = nn.Sequential(
        detect, nn.ReLU(inplace=True), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    picture[0, 2:10, 4:12, 0] = 255
    picture[0, 20:30, 16:28, 2] = 255
    for target, (rows, columns) in enumerate(
        [(slice(2, 10), slice(4, 12)), (slice(20, 30), slice(16, 28))]
    ):
        heat = grad_cam(trained(module, 32, 2), picture, np.array([target]))[0][0]
        assert heat[rows, columns].min() == 1
        assert heat.sum() == heat[rows, columns].size


def test_a_trained_network_lights_up_where_the_class_is() -> None:
    """Stripes of one direction are the class; they lie anywhere on noise."""
    random = np.random.default_rng(1)

    def draw(n: int) -> tuple[Pixels, npt.NDArray[np.int64], list[tuple[slice, slice]]]:
        pixels = random.integers(0, 60, (n, 64, 64, 3), dtype=np.uint8)
        labels, places = random.integers(0, 2, n), []
        for number, label in enumerate(labels):
            top, left = random.integers(0, 40, 2)
            place = (slice(top, top + 24), slice(left, left + 24))
            axis = np.arange(24)[:, None] if label else np.arange(24)[None]
            stripes = np.broadcast_to(((axis // 3) % 2) * 200, (24, 24))
            pixels[number][place] = stripes[..., None]
            places.append(place)
        return pixels, labels, places

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(60):
        pixels, labels, _ = draw(24)
        inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        optimizer.zero_grad()
        cross_entropy(module(inputs), torch.from_numpy(labels)).backward()
        optimizer.step()
    pixels, labels, places = draw(24)
    heat, logits = grad_cam(trained(module, 64, 2), pixels)
    right = logits.argmax(1) == labels
    assert right.mean() > 0.9
    inside = np.array([one[place].mean() for one, place in zip(heat, places, strict=True)])
    assert (inside[right] > 1.5 * heat.mean(axis=(1, 2))[right]).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "size", "pooling", "layer"),
    [
        ("simple_resnet", 32, "own", "8.2"),
        ("resnet18", 32, "own", "layer3"),
        ("efficientnet_lite0", 64, "stages", "network.bn2"),
        ("resnet18", 64, "stages", "network.layer4"),
        ("convnext_atto", 64, "stages", "network.stages.3"),  # asks if two maps are one object
        ("vit_tiny_patch16_224", 224, "own", "blocks.11.norm1"),  # reads its class token alone
        ("vit_tiny_patch16_224", 224, "stages", "network.norm"),
        ("test_vit3", 160, "own", "norm"),  # reads all tokens
        ("test_mambaout", 96, "own", "stages"),  # channels last
        ("densenet121", 64, "own", "features"),
    ],
)
def test_every_kind_of_network_has_a_map(name: str, size: int, pooling: str, layer: str) -> None:
    model, pixels = built(name, size, pooling), noise(2, size)
    assert watched_layer(model).startswith(layer)
    heat, logits = grad_cam(model, pixels, np.array([1, 1]))
    assert heat.shape == (2, size, size)
    assert heat.min() >= 0
    assert heat.max() <= 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in model.normalization or ())
    with torch.no_grad():
        plain = model.module((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
    np.testing.assert_allclose(logits, plain.numpy(), atol=2e-5 * float(plain.abs().max()) + 1e-5)


def test_tokens_and_channels_last_are_put_in_their_places() -> None:
    grid = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    tokens = torch.cat([torch.full((2, 5, 3), -1.0), grid.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(_Layout(2, 3, prefix=5).places(tokens), grid)
    assert torch.equal(_Layout(3, 3).places(grid.permute(0, 2, 3, 1)), grid)
    assert torch.equal(_Layout(1, 3).places(grid), grid)


def test_threads_and_inference_get_the_same_and_the_model_stays_as_it_was() -> None:
    model, pixels = built("resnet18", 64), noise(8, 64)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    alone = [grad_cam(model, pixels[n : n + 1])[0] for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: grad_cam(model, pixels[n : n + 1])[0], range(8)))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(alone))
    with torch.inference_mode():
        np.testing.assert_array_equal(grad_cam(model, pixels[:1])[0], alone[0])
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(one.requires_grad and one.grad is None for one in model.module.parameters())
    assert not any(one._forward_hooks for one in model.module.modules())
    assert not model.module.training


def test_a_model_without_places_is_refused_in_words() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    with pytest.raises(UserError, match="needs a layer with a spatial feature map"):
        grad_cam(trained(flat, 16, 2), noise(1, 16))


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_heat_is_seen_on_dark_and_light_pictures(shade: int) -> None:
    picture = Image.new("RGB", (60, 30), (shade, shade, shade))
    heat = np.zeros((16, 16), np.float32)
    heat[:, 8:] = 1
    seen = np.asarray(overlay(picture, heat)).astype(int)
    assert seen.shape == (30, 60, 3)
    cold, hot = seen[15, 5], seen[15, 55]
    assert np.abs(cold - hot).max() > 70
    assert hot[0] > hot[2] + 60  # orange on any ground
    assert np.ptp(cold) < 30  # no colour where there is no heat

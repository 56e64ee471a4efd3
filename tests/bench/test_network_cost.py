"""Parameters and multiply-adds against published ones."""

from __future__ import annotations

import pytest

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import network_cost


@pytest.mark.parametrize(
    ("name", "billions"),
    [  # torchvision's tables of weights, the column GFLOPS, which counts multiply-adds
        ("resnet50", 4.09),
        ("vgg16", 15.47),
        ("resnet18", 1.81),
        ("inception_v3", 5.71),
        ("densenet121", 2.83),
        ("alexnet", 0.71),
        ("squeezenet1_0", 0.82),
    ],
)
def test_whole_networks_cost_what_is_published(name: str, billions: float) -> None:
    cost = network_cost(BACKBONES[name], ())
    assert cost.multiply_adds / 1e9 == pytest.approx(billions, abs=0.006)
    assert cost.parameters == BACKBONES[name].parameters


def test_a_cut_network_costs_its_convolutions_by_hand() -> None:
    layer = BACKBONES["vgg16"].layer("pool1")
    cost = network_cost(BACKBONES["vgg16"], ((layer, "avg"),), 32)
    assert cost.multiply_adds == 32 * 32 * (64 * 27 + 64 * 64 * 9)
    assert cost.parameters == 64 * 27 + 64 + 64 * 64 * 9 + 64


def test_two_layers_of_one_pass_cost_the_deeper_one() -> None:
    early, late = (BACKBONES["vgg16"].layer(name) for name in ("pool1", "pool2"))
    both = network_cost(BACKBONES["vgg16"], ((early, "avg"), (late, "avg")), 32)
    assert both == network_cost(BACKBONES["vgg16"], ((late, "avg"),), 32)

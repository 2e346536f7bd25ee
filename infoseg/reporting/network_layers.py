"""What a network is made of, read from the module itself: blocks, layers, shapes, parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infoseg.model import BlockC, BlockD, ChannelNorm, Network

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One box of the diagram.

    text: the paper's legend, "Conv, W x W, C, d" (filter, channels, stride). then: normalisation
    and activation that follow. shape: of its output, without the batch.
    """

    text: str
    then: str
    shape: Shape


@dataclass(frozen=True)
class Block:
    """One of the blocks A, B, C, C', D.

    layers: in order. shortcut, tail: of a residual block only: the layer beside the others, and
    what follows their sum. entry, shape: of the block's input and output, without the batch.
    parameters: how many numbers it learns. field: side in pixels of the square that one position
    of its output sees, for blocks of convolutions alone, counted from the block's own input.
    """

    name: str
    layers: tuple[Layer, ...]
    shortcut: Layer | None
    tail: Layer | None
    entry: Shape
    shape: Shape
    parameters: int
    field: int | None


def read_blocks(network: Network, height: int, width: int) -> tuple[Shape, dict[str, Block]]:
    """The input's shape (C, M, N), and the blocks "A", "B", "C", "C'", "D" of a network.

    Kernels, channels and strides are read from the modules, shapes with hooks from a forward of a
    black image of height x width pixels in evaluation mode, so that nothing can be said here that
    the network does not do. Its training mode is left as it was.
    Raises ValueError for an image that is too small for the network.
    """
    entries, shapes = _shapes(network, height, width)
    parts = {
        "A": [network.block_a],
        "B": [network.block_b],
        "C": [network.block_c_local],
        "C'": [network.block_c_global],
        "D": [network.norm_d, network.block_d],
    }
    blocks = {name: _read(name, modules, entries, shapes) for name, modules in parts.items()}
    return (len(network.mean), height, width), blocks


def _shapes(
    network: Network, height: int, width: int
) -> tuple[dict[nn.Module, Shape], dict[nn.Module, Shape]]:
    """Shape of every module's input and output in one forward."""
    entries: dict[nn.Module, Shape] = {}
    shapes: dict[nn.Module, Shape] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            entries[module], shapes[module] = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])

    handles = [module.register_forward_hook(note) for module in network.modules()]
    was_training = network.training
    network.eval()
    image = torch.zeros(1, len(network.mean), height, width, device=network.mean.device)
    try:
        with torch.no_grad():
            network(image)
    except RuntimeError as error:
        raise ValueError(f"this network takes no image of {height} x {width}: {error}") from None
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return entries, shapes


def _read(
    name: str,
    modules: list[nn.Module],
    entries: dict[nn.Module, Shape],
    shapes: dict[nn.Module, Shape],
) -> Block:
    first, last = modules[0], modules[-1]
    shortcut = tail = None
    if isinstance(first, BlockC):
        # Its forward is no plain sequence, and its ReLU is a function that no module shows.
        layers = [
            _add(_layer(first.expand, shapes), _norm_name(first.norm), "ReLU"),
            _layer(first.mix, shapes),
        ]
        shortcut = _layer(first.shortcut, shapes)
        after = _norm_name(first.out)
        tail = Layer(after, "", shapes[first.out]) if after else None
    else:
        layers = _sequence(modules, shapes)
    leaves = [leaf for module in modules for leaf in _leaves(module)]
    return Block(
        name=name,
        layers=tuple(layers),
        shortcut=shortcut,
        tail=tail,
        entry=entries[first],
        shape=shapes[last],
        parameters=sum(p.numel() for module in modules for p in module.parameters()),
        field=_receptive_field(leaves),
    )


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that do something, in the order of a sequence."""
    children = list(module.children())
    if not children or isinstance(module, ChannelNorm | BlockC | BlockD):
        yield module
        return
    for child in children:
        yield from _leaves(child)


def _sequence(modules: list[nn.Module], shapes: dict[nn.Module, Shape]) -> list[Layer]:
    """Boxes of modules that run one after another; norms and ReLUs join the box before them."""
    layers: list[Layer] = []
    for module in modules:
        for leaf in _leaves(module):
            follows = "ReLU" if isinstance(leaf, nn.ReLU) else _norm_name(leaf)
            if isinstance(leaf, nn.Identity):
                continue
            if not follows:
                layers.append(_layer(leaf, shapes))
            elif layers:
                layers[-1] = _add(layers[-1], follows)
            else:
                layers.append(Layer(follows, "", shapes[leaf]))
    return layers


def _add(layer: Layer, *then: str) -> Layer:
    return Layer(layer.text, ", ".join(filter(None, [layer.then, *then])), layer.shape)


def _norm_name(module: nn.Module) -> str:
    if isinstance(module, ChannelNorm | nn.LayerNorm):
        return "layer norm"
    return "batch norm" if isinstance(module, nn.BatchNorm2d) else ""


def _layer(module: nn.Module, shapes: dict[nn.Module, Shape]) -> Layer:
    shape = shapes[module]
    if isinstance(module, nn.Conv2d):
        high, wide = module.kernel_size
        text = f"Conv, {high} × {wide}, {module.out_channels}, {module.stride[0]}"
        return Layer(text, "", shape)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return Layer(f"Average to {shape[-2]} × {shape[-1]}", "", shape)
    if isinstance(module, BlockD):
        wide = module.linear.in_features
        each = f"{wide} → {module.linear.out_features // module.classes} each"
        return Layer(f"{module.classes} linear layers", each, shape)
    return Layer(type(module).__name__, "", shape)


def _receptive_field(leaves: list[nn.Module]) -> int | None:
    """Pixels of the input one output position sees along one axis; None with more than convs."""
    field, step, convolutions = 1, 1, 0
    for leaf in leaves:
        if isinstance(leaf, nn.Conv2d):
            field += (leaf.kernel_size[0] - 1) * step
            step *= leaf.stride[0]
            convolutions += 1
        elif not isinstance(leaf, nn.ReLU | nn.BatchNorm2d | ChannelNorm | nn.Identity):
            return None
    return field if convolutions else None

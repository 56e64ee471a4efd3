"""Match a file's tensors with a backbone's parameters, by names, shapes and the file's graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import parameter_shapes
from probe.backbones.foreign import ForeignBackbone
from probe.backbones.spec import IMAGENET, BackboneSpec, Layer
from probe.core.short_repr import short_repr
from probe.errors import UsageError, WeightsError
from probe.weights.architecture import difference
from probe.weights.classifier import classes_in, head_of, layer_of, renamed_tensors
from probe.weights.families import namings
from probe.weights.naming import Naming
from probe.weights.symbol_graph import own_graph
from probe.weights.tensors import FLOATING, LazyTensor, Shape, TensorFile

SHOWN = 3  # names listed in a message before it goes on with a count


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a file's tensors match a backbone's parameters.

    Parameters
    ----------
    naming : Naming
        The naming that matches best.
    tensors : mapping of str to LazyTensor
        The file's tensors under the names that `naming` has.
    missing, misshapen : mapping of canonical name to str
        Parameters that the file lacks or has in another shape -> the problem, for messages.
    unsure : mapping of canonical name to str
        Parameters whose layout in the file is ambiguous -> the reason, for messages.
    unknown : tuple of str
        Tensors that the backbone does not use.
    omitted : tuple of str
        What is known to be missing or left out, for messages.
    renamed : tuple of str
        Tensors of a classifier under other names, as fine-tuned weights have.
    refusal : str or None
        Why the file must not be loaded even if all names and shapes match.
    difference : str or None
        Where the network that the file describes differs from the backbone, if it describes one.
    ones : frozenset of str
        Canonical names of factors that are fixed to 1 in the backbone and not in the file.
    """

    __repr__ = short_repr

    naming: Naming
    tensors: Mapping[str, LazyTensor]
    missing: Mapping[str, str]
    misshapen: Mapping[str, str]
    unsure: Mapping[str, str]
    unknown: tuple[str, ...]
    omitted: tuple[str, ...]
    renamed: tuple[str, ...]
    refusal: str | None
    difference: str | None
    ones: frozenset[str]

    def problems(self, backbone: BackboneSpec, layer: Layer) -> list[str]:
        """Return why the file cannot be used up to a layer, the most important reason first."""
        if self.refusal is not None:
            return [f"the names are those of {self.naming.name}: {self.refusal}"]
        found = []
        for what, named in (("missing", self.missing), ("of another shape", self.misshapen)):
            used = [text for name, text in named.items() if backbone.uses(layer, name)]
            if used:
                found.append(f"{len(used)} {what} ({_few(used)})")
        unsure = [text for name, text in self.unsure.items() if backbone.uses(layer, name)]
        found += list(dict.fromkeys(unsure))
        if self.unknown:
            found.append(f"{len(self.unknown)} left over ({_few(list(self.unknown))})")
        if self.difference is not None:
            found.append(f"its network differs from the backbone's: {self.difference}")
        return found


def fit_file(file: TensorFile, backbone: BackboneSpec) -> Fit | None:
    """Return the best fit among the backbone's namings, None if no tensor's name is known.

    No tensor is read: one that claims to be huge is refused by its shape.
    """
    number, tensors = _best(file, backbone)
    if number is None:
        return None
    return _fit(_namings(backbone.name)[number], tensors, file, backbone, shapes_of(backbone.name))


def fit_classifier(file: TensorFile, backbone: BackboneSpec) -> tuple[Fit, int] | None:
    """Return the fit of a file with its own classifier, and that classifier's number of classes.

    A single-layer classifier may have other names than the published one and any width. If there is
    none, `Fit.problems` says so.
    """
    number, tensors = _best(file, backbone)
    if number is None:
        return None
    naming = _namings(backbone.name)[number]
    fit = _fit(naming, tensors, file, backbone, shapes_of(backbone.name))
    tops = {name: one for name, one in naming.sources.items() if name.startswith("output.")}
    if fit.renamed:
        tensors = tensors | renamed_tensors(fit.renamed, tensors, tops)
    classes = classes_in(tops, tensors)
    if classes is None or (classes == IMAGENET and not fit.renamed):
        return fit, IMAGENET
    naming, shapes = _namings(backbone.name, classes)[number], shapes_of(backbone.name, classes)
    used = {name: one for name, one in tensors.items() if name not in fit.renamed}
    return _fit(naming, used, file, backbone, shapes), classes


def _best(file: TensorFile, backbone: BackboneSpec) -> tuple[int | None, dict[str, LazyTensor]]:
    """Return the number of the naming that fits best, and the tensors under its names."""
    best: tuple[int | None, dict[str, LazyTensor]] = (None, {})
    best_score = (0, 0)
    for number, naming in enumerate(_namings(backbone.name)):
        if file.format not in naming.formats:
            continue
        tensors = {naming.key(name): tensor for name, tensor in file.tensors.items()}
        hits = len(naming.known & set(tensors))
        score = (hits, -len(naming.known))
        if hits and score > best_score:
            best, best_score = (number, tensors), score
    return best


def holds_layers(file: TensorFile, backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the names of the layers whose parameters are complete, in network order."""
    fit = fit_file(file, backbone)
    if fit is None or fit.refusal is not None or fit.difference is not None:
        return ()
    bad = [*fit.missing, *fit.misshapen, *fit.unsure]
    return tuple(
        layer.name
        for layer in backbone.layers
        if not any(backbone.uses(layer, name) for name in bad)
    )


def default_layer(backbone: BackboneSpec, held: tuple[str, ...], size: int) -> Layer:
    """Return the last layer that the weights hold and that can be computed at an input size.

    Parameters
    ----------
    held : tuple of str
        From `holds_layers`.
    size : int
        Side of the input, in pixels.

    Raises
    ------
    WeightsError
        The weights hold no layer.
    UsageError
        None of the layers that they hold can be computed at that size; or a network from outside
        the catalog has several outputs.
    """
    if isinstance(backbone, ForeignBackbone):
        if backbone.usual is None:
            listed = ", ".join(layer.name for layer in backbone.layers)
            raise UsageError(
                f"{backbone.name} has several outputs; name one with --layer, of {listed}"
            )
        backbone.check_size(backbone.usual, size)
        return backbone.usual
    layers = [layer for layer in backbone.layers if layer.name in held]
    if not layers:
        raise WeightsError(f"the weights hold no layer of {backbone.name} completely")
    for layer in reversed(layers):
        if layer.min_size <= size <= (layer.max_size or size):
            return layer
    smallest = min(layers, key=lambda layer: layer.min_size)
    backbone.check_size(smallest, size)
    raise UsageError(f"--size {size} fits no layer of {backbone.name} that the weights hold")


def refuse(file: TensorFile, backbone: BackboneSpec, reasons: list[str]) -> WeightsError:
    """Return the error that says why a file does not fit, and which backbones it fits."""
    fitting = fitting_backbones(file)
    others = [name for name in fitting if name != backbone.name]
    hint = f"; it fits --backbone {' or '.join(others)}" if others else ""
    if backbone.name in fitting:
        hint = f"; it holds the layers up to --layer {holds_layers(file, backbone)[-1]}"
    if file.format == "onnx" and re.match(r"\d+ missing \([\w.]*bias\b", reasons[0]):
        hint += (
            "; torch's newer exporter leaves out biases that are all 0, as untrained networks have "
            "them: export with torch.onnx.export(..., dynamo=False)"
        )
    return WeightsError(f"{file.path}: not weights of {backbone.name}: {', '.join(reasons)}{hint}")


def fitting_backbones(file: TensorFile) -> tuple[str, ...]:
    """Return the backbones whose last map the file can compute, with no tensor left over."""
    found = []
    for backbone in BACKBONES.values():
        fit = fit_file(file, backbone)
        held = holds_layers(file, backbone)
        # up to the last map, since the first layers of several networks can be the same
        last_map = [layer.name for layer in backbone.layers if layer.kind != "vector"][-1]
        if fit is not None and last_map in held and not fit.unknown:
            found.append(backbone.name)
    return tuple(found)


def why_not(file: TensorFile) -> dict[str, str]:
    """Return why a file does not fit the backbones that share some of its parameter names.

    Returns
    -------
    dict of str to str
        Backbone -> reason, the one with the fewest problems first.
    """
    fitting = fitting_backbones(file)
    found: list[tuple[int, str, str]] = []
    for backbone in BACKBONES.values():
        fit = fit_file(file, backbone)
        if fit is None or backbone.name in fitting:
            continue
        last_map = [layer for layer in backbone.layers if layer.kind != "vector"][-1]
        wrong = len(fit.missing) + len(fit.misshapen) + len(fit.unknown)
        reasons = fit.problems(backbone, last_map)
        if reasons:
            found.append((wrong, backbone.name, ", ".join(reasons)))
    return {name: reason for _, name, reason in sorted(found)}


@lru_cache(maxsize=64)
def shapes_of(name: str, classes: int = IMAGENET) -> Mapping[str, Shape]:
    """Return canonical name -> shape of a backbone's parameters."""
    return parameter_shapes(BACKBONES[name], classes)


@lru_cache(maxsize=64)
def _namings(name: str, classes: int = IMAGENET) -> tuple[Naming, ...]:
    return tuple(namings(BACKBONES[name], shapes_of(name, classes)))


def _fit(
    naming: Naming, tensors: Mapping[str, LazyTensor], file: TensorFile, backbone: BackboneSpec,
    shapes: Mapping[str, Shape],
) -> Fit:  # fmt: skip
    missing = {name: f"{name}, which they do not have" for name in shapes.keys() - naming.sources}
    misshapen, unsure = {}, {}
    for canonical, source in naming.sources.items():
        absent = [name for name in source.names if name not in tensors]
        if absent:
            missing[canonical] = absent[0]
            continue
        for name, shape in zip(source.names, source.shapes, strict=True):
            tensor = tensors[name]
            if name in file.unsure:
                unsure[canonical] = file.unsure[name]
            if tensor.shape != shape:
                misshapen[canonical] = f"{name} is {_sides(tensor.shape)}, expected {_sides(shape)}"
            elif tensor.dtype not in FLOATING:
                misshapen[canonical] = f"{name} is {tensor.dtype}, expected floating point"
    spare = [name for name in tensors if name not in naming.known]
    labels = [*file.notes, *([naming.note] if naming.note else [])]
    for omission in naming.omissions:
        count = sum(omission.matches(name) for name in spare)
        if count:
            labels.append(omission.label.format(count=count))
    unknown = [name for name in spare if not any(o.matches(name) for o in naming.omissions)]
    renamed: tuple[str, ...] = ()
    tops = [name for name in shapes if name.startswith("output.")]
    if all(name in missing or name in misshapen for name in tops):
        convolution = any(len(shapes[name]) == 4 for name in tops)
        entering = _entering(backbone, shapes)
        renamed = head_of(unknown, tensors, entering, convolution=convolution)
        unknown = [name for name in unknown if name not in renamed]
    if renamed:
        layers = dict.fromkeys(layer_of(name) for name in renamed)
        labels.append(f"the file's own classifier left out ({_few(list(layers))})")
    labels += _absent_tops(naming, missing, labels)
    if any(name.startswith("output.") for name in misshapen):
        labels.append("a classifier of another shape left out")
    accepted = naming.unless is not None and naming.unless(file)
    return Fit(
        naming=naming, tensors=tensors, missing=missing, misshapen=misshapen,
        unsure=unsure, unknown=tuple(unknown), omitted=tuple(labels), renamed=renamed,
        refusal=None if accepted else naming.refusal,
        difference=_difference(naming, file, backbone),
        ones=frozenset() if file.graph is None else own_graph(backbone.name).ones,
    )  # fmt: skip


def _difference(naming: Naming, file: TensorFile, backbone: BackboneSpec) -> str | None:
    """Return where the network that the file describes differs from the backbone's, or None."""
    if file.graph is None:
        return None
    own = own_graph(backbone.name)
    canonical, absent = {}, set()
    sources = naming.sources
    for name, source in sources.items():
        if source.names:
            canonical[source.names[0]] = name
        module, _, leaf = name.rpartition(".")
        if source.names or leaf not in ("weight", "running_var"):
            continue
        mean, gain = sources.get(f"{module}.running_mean"), sources.get(f"{module}.gamma")
        folded = not any(one.names for one in (mean, gain) if one is not None)
        if leaf == "weight" or folded:
            absent.add(module)
    held = {one: canonical[naming.key(one)] for one in file.tensors if naming.key(one) in canonical}
    return difference(
        file.graph, backbone=backbone.name, own=own, size=backbone.input_size, canonical=held,
        absent=frozenset(absent),
    )  # fmt: skip


def _entering(backbone: BackboneSpec, shapes: Mapping[str, Shape]) -> set[int]:
    """Return the possible input widths of a classifier: those of the last map and after it."""
    last = max(layer.after for layer in backbone.layers if layer.kind == "map")
    found = {layer.width for layer in backbone.layers if layer.after >= last}
    dense = [shape for name, shape in shapes.items() if name.endswith("weight") and len(shape) == 2]
    return found | {entered for _, entered in dense}


def _absent_tops(naming: Naming, missing: Mapping[str, str], said: list[str]) -> list[str]:
    labels = []
    if any(name.startswith("output.") for name in missing) and not any(
        "classifier" in label for label in said
    ):
        labels.append("no classifier")
    # fully connected layers are the two-dimensional ones inside `features`
    if any(
        name.startswith("features.") and len(naming.sources[name].shapes[0]) == 2
        for name in missing.keys() & naming.sources
    ):
        labels.append("no fully connected layers")
    return labels


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")

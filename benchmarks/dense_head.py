"""The dense head against the same loop in PyTorch: not slower, same accuracy.

    python benchmarks/dense_head.py --torch-python PATH/TO/python   # or with torch in this one
    python benchmarks/dense_head.py --entry cache/features/KEY.h5 --torch-python ...

50 epochs on 35,000 x 512 features, batch 256, Adam 0.001, standardised, two threads each. Features
are seeded: ten Gaussian classes that overlap, plus noise that the features share; or an entry of
the cache. Rounds alternate between the two, each with its own seed; the best and the median of the
rounds are printed, and the mean accuracy on held-out rows. Both sides standardise inside the timed
part, and neither counts imports or its first, shorter fit.

The peer is torch.nn.Linear, CrossEntropyLoss, torch.optim.Adam, one permutation an epoch and one
index select a batch. It is timed twice: `bare`, and `measured`, which also computes loss and top-1
on the training rows after each epoch, as DenseHead always does. `gluon` is the same layer trained
the way MXNet's tutorials do it, to show what binding the graph once buys.

Showed, with MXNet 1.9.1 and torch 2.13 on two cores of a Xeon that others were using too (seconds,
best of four rounds; ratio is ours to theirs):

    probe              2.36 s            71.44 % (sd 0.07)
    gluon              3.64 s    0.65    71.43 % (sd 0.05)
    torch, bare        4.15 s    0.57    71.46 % (sd 0.10)
    torch, measured    4.55 s    0.52    71.46 % (sd 0.10)

Other runs of it gave 0.44 to 0.57 against `bare`, and 0.38 with OMP_NUM_THREADS=1 for both. When
the cores are busy, torch's threads, which spin while they wait for each other, can take ten times
as long: believe the best rounds, not the median, and look at the load first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")  # before either library loads

import numpy as np

BATCH, LR = 256, 1e-3
PEERS = ("bare", "measured")


def synthetic(n_rows: int, width: int, n_classes: int) -> dict[str, np.ndarray]:
    """Return seeded train and test rows, float32, that a linear head gets about 75 % right."""
    random = np.random.default_rng(0)
    n_test = 15_000
    y = random.integers(0, n_classes, n_rows + n_test)
    means = 0.105 * random.normal(size=(n_classes, width)).astype(np.float32)
    shared = random.normal(size=(64, width)).astype(np.float32) / 8
    X = means[y] + random.normal(size=(len(y), width)).astype(np.float32)
    X += random.normal(size=(len(y), 64)).astype(np.float32) @ shared
    return {"X": X[:n_rows], "y": y[:n_rows], "X_test": X[n_rows:], "y_test": y[n_rows:]}


def from_entry(path: Path) -> dict[str, np.ndarray]:
    """Return the train and test rows of a cache entry."""
    import h5py

    with h5py.File(path) as file:
        splits = [(file[s]["features"][:], file[s]["labels"][:]) for s in ("train", "test")]
    (X, y), (X_test, y_test) = splits
    return {"X": X, "y": y.astype(np.int64), "X_test": X_test, "y_test": y_test.astype(np.int64)}


def time_probe(data: dict[str, np.ndarray], epochs: int, seed: int) -> dict[str, float]:
    """Fit a DenseHead; return seconds and test accuracy."""
    from probe.heads import DenseHead

    DenseHead(epochs=2, batch_size=BATCH).fit(data["X"], data["y"])
    head = DenseHead(epochs=epochs, batch_size=BATCH, lr=LR, random_state=seed)
    started = time.perf_counter()
    head.fit(data["X"], data["y"])
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "top1": float(head.score(data["X_test"], data["y_test"]))}


def time_gluon(data: dict[str, np.ndarray], epochs: int, seed: int) -> dict[str, float]:
    """Run the loop of MXNet's tutorials: record, backward, Trainer.step; nothing measured."""
    from probe.engines.mxnet.mx import mx
    from probe.heads.normalize import fit_normalizer

    mx.random.seed(seed)
    net, loss_of = mx.gluon.nn.Dense(int(data["y"].max()) + 1), mx.gluon.loss.SoftmaxCELoss()
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    loss_of.hybridize(static_alloc=True, static_shape=True)
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": LR})
    random = np.random.default_rng(seed)
    started = time.perf_counter()
    normalizer = fit_normalizer("standard", data["X"])
    X, y = mx.nd.array(normalizer.transform(data["X"])), mx.nd.array(data["y"])
    for _ in range(epochs):
        order = mx.nd.array(random.permutation(len(X)), dtype="int32")
        for start in range(0, len(X), BATCH):
            rows = order[start : start + BATCH]
            with mx.autograd.record():
                loss = loss_of(net(mx.nd.take(X, rows)), mx.nd.take(y, rows))
            loss.backward()
            trainer.step(len(rows))
    mx.nd.waitall()
    seconds = time.perf_counter() - started
    scores = net(mx.nd.array(normalizer.transform(data["X_test"]))).asnumpy()
    return {"seconds": seconds, "top1": float((scores.argmax(1) == data["y_test"]).mean())}


def time_torch(data: dict[str, Any], epochs: int, seed: int, measured: bool) -> dict[str, float]:
    """Run the same loop in PyTorch; return seconds and test accuracy."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch_fit(torch, data, 2, seed, measured)
    started = time.perf_counter()
    net, mean, scale = torch_fit(torch, data, epochs, seed, measured)
    seconds = time.perf_counter() - started
    with torch.no_grad():
        predicted = net((torch.from_numpy(data["X_test"]) - mean) / scale).argmax(1).numpy()
    return {"seconds": seconds, "top1": float((predicted == data["y_test"]).mean())}


def torch_fit(torch: Any, data: dict[str, Any], epochs: int, seed: int, measured: bool) -> Any:
    """Return (layer, mean, scale) after `epochs` epochs."""
    torch.manual_seed(seed)
    X, y = torch.from_numpy(data["X"]), torch.from_numpy(data["y"])
    scale, mean = torch.std_mean(X, dim=0, correction=0)
    X = (X - mean) / scale
    net = torch.nn.Linear(X.shape[1], int(y.max()) + 1)
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    for _ in range(epochs):
        order = torch.randperm(len(X))
        for start in range(0, len(X), BATCH):
            rows = order[start : start + BATCH]
            optimizer.zero_grad()
            loss_of(net(X[rows]), y[rows]).backward()
            optimizer.step()
        if measured:
            with torch.no_grad():
                scores = net(X)
                loss_of(scores, y).item()
                (scores.argmax(1) == y).float().mean().item()
    return net, mean, scale


def run_peer(args: argparse.Namespace, folder: Path, seed: int, peer: str) -> dict[str, float]:
    """Run one PyTorch fit in its own environment."""
    command = [str(args.torch_python), __file__, "--peer", peer, "--data", str(folder)]
    command += ["--seed", str(seed), "--epochs", str(args.epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def load(folder: Path) -> dict[str, np.ndarray]:
    """Read what `main` left for the peer."""
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def main() -> None:
    """Alternate the two and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", type=Path, default=sys.executable)
    parser.add_argument("--entry", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        measured = args.peer == "measured"
        print(json.dumps(time_torch(load(args.data), args.epochs, args.seed, measured)))
        return
    data = from_entry(args.entry) if args.entry else synthetic(35_000, 512, 10)
    print(f"{data['X'].shape} rows, {args.epochs} epochs, {args.rounds} rounds", flush=True)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("probe", "gluon", *PEERS)}
    with tempfile.TemporaryDirectory() as folder:
        for name, array in data.items():
            np.save(Path(folder) / f"{name}.npy", array)
        for seed in range(args.rounds):
            found["probe"].append(time_probe(data, args.epochs, seed))
            found["gluon"].append(time_gluon(data, args.epochs, seed))
            for peer in PEERS:
                found[peer].append(run_peer(args, Path(folder), seed, peer))
    report(found)


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Print best and median seconds, their ratios to ours, and mean accuracy."""
    best = {name: min(run["seconds"] for run in runs) for name, runs in found.items()}
    median = {n: float(np.median([run["seconds"] for run in runs])) for n, runs in found.items()}
    for name, runs in found.items():
        top1 = [run["top1"] for run in runs]
        label = f"torch, {name}" if name in PEERS else name
        print(
            f"{label:16} best {best[name]:.2f} s, median {median[name]:.2f} s, "
            f"top-1 {100 * np.mean(top1):.2f} % (sd {100 * np.std(top1):.2f}); "
            f"probe / this: best {best['probe'] / best[name]:.2f}, "
            f"median {median['probe'] / median[name]:.2f}"
        )


if __name__ == "__main__":
    main()

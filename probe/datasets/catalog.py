"""The catalog of named datasets. A new dataset of a known format is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from probe.core.registry import Registry

Format = Literal["cifar_binary", "cifar_pickle", "idx", "digits"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file on the official host.

    Parameters
    ----------
    urls : tuple of str
        Tried in this order; the checksum makes them equal.
    checksum : str
        ``md5:...`` or ``sha256:...``.
    """

    urls: tuple[str, ...]
    checksum: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.urls[0].rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One official layout of a dataset on disk.

    Parameters
    ----------
    folders : tuple of str
        Folders below the root that may hold the files; ``""`` is the root itself. An archive is
        unpacked to the first.
    splits : tuple of (split, files)
        For IDX the images, then the labels.
    sources : tuple of Source
        One archive, or one compressed file for each file.
    """

    format: Format
    folders: tuple[str, ...]
    splits: tuple[tuple[str, tuple[str, ...]], ...]
    sources: tuple[Source, ...]

    def files(self, wanted: tuple[str, ...]) -> list[str]:
        """Return the names of the files of those splits."""
        return [name for split, names in self.splits if split in wanted for name in names]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A named dataset.

    Parameters
    ----------
    layouts : tuple of Layout
        The first is the one that is downloaded.
    coarse_classes : tuple of str
        The superclasses, where there are any.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    classes: tuple[str, ...]
    coarse_classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train", "test")
    homepage: str
    licence: str
    citation: str


TORONTO = "https://www.cs.toronto.edu/~kriz/"
LECUN = "http://yann.lecun.com/exdb/mnist/"
LECUN_MIRROR = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/"  # the same bytes; the first is often down
)
ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

KRIZHEVSKY = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
DIGITS = tuple("0123456789")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _cifar(
    layout: Format, folder: str, *, train: tuple[str, ...], test: str, file: str, md5: str
) -> Layout:
    return Layout(
        format=layout,
        folders=(folder,),
        splits=(("train", train), ("test", (test,))),
        sources=(Source(urls=(TORONTO + file,), checksum=f"md5:{md5}"),),
    )


def _idx(folder: str, hosts: tuple[str, ...], md5s: tuple[str, str, str, str]) -> Layout:
    train = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    test = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return Layout(
        format="idx",
        folders=("", "raw", f"{folder}/raw"),  # the latter two are torchvision's
        splits=(("train", train), ("test", test)),
        sources=tuple(
            Source(urls=tuple(f"{host}{name}.gz" for host in hosts), checksum=f"md5:{md5}")
            for name, md5 in zip((*train, *test), md5s, strict=True)
        ),
    )


CIFAR100_CLASSES = _words(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""
)

CIFAR100_COARSE = _words(
    """aquatic_mammals fish flowers food_containers fruit_and_vegetables
    household_electrical_devices household_furniture insects large_carnivores
    large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1
    vehicles_2"""
)

# Binary before pickled: the same images, and nothing in them can be run.
CIFAR10 = (
    _cifar(
        "cifar_binary",
        "cifar-10-batches-bin",
        train=tuple(f"{name}.bin" for name in BATCHES),
        test="test_batch.bin",
        file="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
    ),
    _cifar(
        "cifar_pickle",
        "cifar-10-batches-py",
        train=BATCHES,
        test="test_batch",
        file="cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
    ),
)
CIFAR100 = (
    _cifar(
        "cifar_binary",
        "cifar-100-binary",
        train=("train.bin",),
        test="test.bin",
        file="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
    ),
    _cifar(
        "cifar_pickle",
        "cifar-100-python",
        train=("train",),
        test="test",
        file="cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
    ),
)

DATASETS = Registry(
    "dataset",
    [
        DatasetSpec(
            name="cifar10",
            title="CIFAR-10: 60,000 photographs, 32x32, of animals and vehicles",
            layouts=CIFAR10,
            classes=_words("airplane automobile bird cat deer dog frog horse ship truck"),
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            licence="none stated; cite the report",
            citation=KRIZHEVSKY,
        ),
        DatasetSpec(
            name="cifar100",
            title="CIFAR-100: 60,000 photographs, 32x32, of 100 things in 20 groups",
            layouts=CIFAR100,
            classes=CIFAR100_CLASSES,
            coarse_classes=CIFAR100_COARSE,
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            licence="none stated; cite the report",
            citation=KRIZHEVSKY,
        ),
        DatasetSpec(
            name="mnist",
            title="MNIST: 70,000 handwritten digits, 28x28",
            layouts=(
                _idx(
                    "MNIST",
                    (LECUN, LECUN_MIRROR),
                    (
                        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                        "d53e105ee54ea40749a09fcbcd1e9432",
                        "9fb629c4189551a2d022fa330f9573f3",
                        "ec29112dd5afa0611ce80d1b7f02629c",
                    ),
                ),
            ),
            classes=DIGITS,
            homepage=LECUN,
            licence="CC-BY-SA-3.0",
            citation="LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998",
        ),
        DatasetSpec(
            name="fashion_mnist",
            title="Fashion-MNIST: 70,000 articles of clothing, 28x28",
            layouts=(
                _idx(
                    "FashionMNIST",
                    (ZALANDO,),
                    (
                        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                        "25c81989df183df01b3e8a0aad5dffbe",
                        "bef4ecab320f06d8554ea6380940ec79",
                        "bb300cfdad3c16e7a12a480ee83cd310",
                    ),
                ),
            ),
            classes=(
                *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
                *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            ),
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            licence="MIT",
            citation="Xiao, Rasul, Vollgraf, Fashion-MNIST, arXiv:1708.07747",
        ),
        DatasetSpec(
            name="digits",
            title="Digits: 1,797 handwritten digits, 8x8, part of scikit-learn",
            layouts=(
                Layout(
                    format="digits",
                    folders=("",),
                    splits=(("train", ("digits.csv.gz",)),),
                    sources=(),
                ),
            ),
            classes=DIGITS,
            splits=("train",),
            homepage="https://archive.ics.uci.edu/dataset/80",
            licence="CC-BY-4.0",
            citation="Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        ),
    ],
)

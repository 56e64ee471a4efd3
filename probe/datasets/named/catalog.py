"""The catalog of named datasets. A new dataset of a known format is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from probe.core.registry import Registry

Format = Literal[
    "cifar_binary", "cifar_pickle", "idx", "digits",  # pixels in files
    "folders", "dtd", "pets", "flowers", "arrays", "elpv",  # see `probe.datasets.named.image_sets`
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file on the official host.

    Parameters
    ----------
    urls : tuple of str
        Tried in this order; the checksum makes them equal.
    checksum : str
        ``md5:...`` or ``sha256:...``.
    gives : str
        What of an image set it puts into the folder: the folder that an archive unpacks to.
        Default: the file itself.
    """

    urls: tuple[str, ...]
    checksum: str
    gives: str = ""

    @property
    def file(self) -> str:
        """The file's name."""
        return self.urls[0].rsplit("/", 1)[-1].partition("?")[0]

    @property
    def target(self) -> str:
        """What of an image set lies in the folder once the source is there."""
        return self.gives or self.file


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
        One archive, or one compressed file for each file; of an image set all archives and files.
    class_folders : tuple of str
        Of an image set of class folders: what the folders are called, in the order of the classes.
    """

    format: Format
    folders: tuple[str, ...]
    splits: tuple[tuple[str, tuple[str, ...]], ...]
    sources: tuple[Source, ...]
    class_folders: tuple[str, ...] = ()

    def files(self, wanted: tuple[str, ...]) -> list[str]:
        """Return the names of the files of those splits."""
        return [name for split, names in self.splits if split in wanted for name in names]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published result to compare with.

    Parameters
    ----------
    value : float
        A fraction from 0 to 1.
    metric : str
    how : str
        What was fitted, and on what.
    source : str
        The publication.
    """

    value: float
    metric: str
    how: str
    source: str

    def __str__(self) -> str:
        return f"{100 * self.value:.4g} % {self.metric}: {self.how} ({self.source})"


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A named dataset.

    Parameters
    ----------
    layouts : tuple of Layout
        The first is the one that is downloaded.
    coarse_classes : tuple of str
        The superclasses, where there are any.
    package : str
        The Python package that it comes with; empty where it is downloaded.
    figure : Figure, optional
        What others reached.
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
    package: str = ""
    figure: Figure | None = None


TORONTO = "https://www.cs.toronto.edu/~kriz/"
LECUN = "http://yann.lecun.com/exdb/mnist/"
LECUN_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # the same bytes, over https
ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

KRIZHEVSKY = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
DIGITS = tuple("0123456789")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _names(text: str) -> tuple[str, ...]:
    """Return names with commas between them, which may have blanks."""
    return tuple(" ".join(name.split()) for name in text.split(","))


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


def _linear(value: float, metric: str = "top-1 accuracy") -> Figure:
    return Figure(
        value=value,
        metric=metric,
        how="logistic regression on a ResNet-50 of ImageNet, fitted on all that is not test",
        source="Grill et al., arXiv:2006.07733, table 3, Supervised-IN",
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

FASTAI = "https://s3.amazonaws.com/fast-ai-imageclas/"
VGG = "https://www.robots.ox.ac.uk/~vgg/data/"
TORCHGEO = "https://huggingface.co/datasets/torchgeo/"
MEDMNIST = "https://zenodo.org/records/10519652/files/"

IMAGENETTE_FOLDERS = _words(
    """n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777
    n03888257"""
)
IMAGENETTE_CLASSES = (
    *("tench", "English springer", "cassette player", "chain saw", "church"),
    *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
)
EUROSAT_COMMIT = "c877bcd43f099cd0196738f714544e355477f3fd"
EUROSAT_CLASSES = _words(
    """AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential
    River SeaLake"""
)
DTD_CLASSES = _words(
    """banded blotchy braided bubbly bumpy chequered cobwebbed cracked crosshatched crystalline
    dotted fibrous flecked freckled frilly gauzy grid grooved honeycombed interlaced knitted
    lacelike lined marbled matted meshed paisley perforated pitted pleated polka-dotted porous
    potholed scaly smeared spiralled sprinkled stained stratified striped studded swirly veined
    waffled woven wrinkled zigzagged"""
)
PETS_CLASSES = _words(
    """Abyssinian american_bulldog american_pit_bull_terrier basset_hound beagle Bengal Birman
    Bombay boxer British_Shorthair chihuahua Egyptian_Mau english_cocker_spaniel english_setter
    german_shorthaired great_pyrenees havanese japanese_chin keeshond leonberger Maine_Coon
    miniature_pinscher newfoundland Persian pomeranian pug Ragdoll Russian_Blue saint_bernard
    samoyed scottish_terrier shiba_inu Siamese Sphynx staffordshire_bull_terrier wheaten_terrier
    yorkshire_terrier"""
)
# the files have numbers alone; the names are those of TensorFlow Datasets
FLOWERS_CLASSES = _names(
    """pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold,
    tiger lily, moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot,
    king protea, spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily,
    balloon flower, giant white arum lily, fire lily, pincushion flower, fritillary, red ginger,
    grape hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet
    william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-
    lipped cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy,
    daffodil, sword lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye
    daisy, common dandelion, petunia, wild pansy, primula, sunflower, pelargonium, bishop of
    llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia, cautleya spicata, japanese
    anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus, bearded
    iris, windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory,
    passion flower, lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-
    rose, tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball
    moss, foxglove, bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower,
    trumpet creeper, blackberry lily"""
)


FLOWERS_IMAGES = "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246"
FLOWERS_LABELS = "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d"
FLOWERS_SPLITS = "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd"


def _imagenette(
    name: str, file: str, md5: str, *, sides: str, size: int, reached: float
) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        title=f"Imagenette: 13,394 photographs of 10 easily told classes of ImageNet, {sides}",
        layouts=(
            Layout(
                format="folders",
                folders=("",),
                splits=(),
                sources=(Source(urls=(f"{FASTAI}{file}.tgz",), checksum=f"md5:{md5}", gives=file),),
                class_folders=IMAGENETTE_FOLDERS,
            ),
        ),
        classes=IMAGENETTE_CLASSES,
        splits=("train", "val"),
        homepage="https://github.com/fastai/imagenette",
        licence="Apache-2.0; the photographs as ImageNet's",
        citation="Howard, Imagenette, 2019",
        figure=Figure(
            value=reached,
            metric="top-1 accuracy on val",
            how=f"from random weights, 20 epochs at {size} pixels, mean of 5 runs",
            source="leaderboard of its homepage",
        ),
    )


def _medmnist(
    name: str, about: str, md5: str, *, classes: tuple[str, ...], reached: float,
    licence: str = "CC-BY-4.0",
) -> DatasetSpec:  # fmt: skip
    return DatasetSpec(
        name=name,
        title=f"MedMNIST: {about}, 28x28",
        layouts=(
            Layout(
                format="arrays",
                folders=("",),
                splits=(),
                sources=(
                    Source(urls=(f"{MEDMNIST}{name}.npz?download=1",), checksum=f"md5:{md5}"),
                ),
            ),
        ),
        classes=classes,
        splits=("train", "val", "test"),
        homepage="https://medmnist.com",
        licence=licence,
        citation="Yang et al., MedMNIST v2, Scientific Data 10:41, 2023",
        figure=Figure(
            value=reached,
            metric="top-1 accuracy",
            how="ResNet-18 trained on it at 28 pixels",
            source="Yang et al., Scientific Data 10:41, table 3",
        ),
    )


IMAGE_SETS = (
    _imagenette(
        "imagenette",
        "imagenette2",
        "fe2fc210e6bb7c5664d602c3cd71e612",
        sides="at their full size",
        size=256,
        reached=0.9353,
    ),
    _imagenette(
        "imagenette320",
        "imagenette2-320",
        "3df6f0d01a2c9592104656642f5e78a3",
        sides="shorter side 320",
        size=256,
        reached=0.9353,
    ),
    _imagenette(
        "imagenette160",
        "imagenette2-160",
        "e793b78cc4c9e9a4ccc0c1155377a412",
        sides="shorter side 160",
        size=128,
        reached=0.9157,
    ),
    DatasetSpec(
        name="flowers102",
        title="Oxford Flowers 102: 8,189 photographs of flowers",
        layouts=(
            Layout(
                format="flowers",
                folders=("", "flowers-102"),  # the latter is torchvision's
                splits=(),
                sources=(
                    Source(
                        urls=(VGG + "flowers/102/102flowers.tgz",),
                        checksum=f"sha256:{FLOWERS_IMAGES}",
                        gives="jpg",
                    ),
                    Source(
                        urls=(VGG + "flowers/102/imagelabels.mat",),
                        checksum=f"sha256:{FLOWERS_LABELS}",
                    ),
                    Source(
                        urls=(VGG + "flowers/102/setid.mat",),
                        checksum=f"sha256:{FLOWERS_SPLITS}",
                    ),
                ),
            ),
        ),
        classes=FLOWERS_CLASSES,
        splits=("train", "val", "test"),
        homepage=VGG + "flowers/102/",
        licence="none stated; cite the paper",
        citation="Nilsback, Zisserman, Automated Flower Classification over a Large Number of "
        "Classes, 2008",
        figure=_linear(0.947, "balanced accuracy"),
    ),
    DatasetSpec(
        name="eurosat",
        title="EuroSAT: 27,000 satellite images of land use, RGB, 64x64; it has no splits",
        layouts=(
            Layout(
                format="folders",
                folders=("", "eurosat"),  # the latter is torchvision's
                splits=(),
                sources=(
                    Source(
                        urls=(
                            f"{TORCHGEO}eurosat/resolve/{EUROSAT_COMMIT}/EuroSAT.zip",
                            "https://madm.dfki.de/files/sentinel/EuroSAT.zip",
                        ),
                        checksum="md5:c8fa014336c82ac7804f0398fcb19387",
                        gives="2750",
                    ),
                ),
                class_folders=EUROSAT_CLASSES,
            ),
        ),
        classes=EUROSAT_CLASSES,
        splits=("train",),
        homepage="https://github.com/phelber/EuroSAT",
        licence="MIT",
        citation="Helber et al., EuroSAT, arXiv:1709.00029",
        figure=Figure(
            value=0.9857,
            metric="top-1 accuracy",
            how="ResNet-50 of ImageNet fine-tuned on 80 % of the images",
            source="Helber et al., arXiv:1709.00029",
        ),
    ),
    DatasetSpec(
        name="dtd",
        title="Describable Textures: 5,640 photographs of 47 textures, the first of ten partitions",
        layouts=(
            Layout(
                format="dtd",
                folders=("",),
                splits=(),
                sources=(
                    Source(
                        urls=(VGG + "dtd/download/dtd-r1.0.1.tar.gz",),
                        checksum="md5:fff73e5086ae6bdbea199a49dfb8a4c1",
                        gives="dtd",
                    ),
                ),
            ),
        ),
        classes=DTD_CLASSES,
        splits=("train", "val", "test"),
        homepage=VGG + "dtd/",
        licence="for research",
        citation="Cimpoi et al., Describing Textures in the Wild, 2014",
        figure=_linear(0.749),
    ),
    DatasetSpec(
        name="pets",
        title="Oxford-IIIT Pets: 7,349 photographs of cats and dogs of 37 breeds",
        layouts=(
            Layout(
                format="pets",
                folders=("", "oxford-iiit-pet"),  # the latter is torchvision's
                splits=(),
                sources=(
                    Source(
                        urls=(VGG + "pets/data/images.tar.gz",),
                        checksum="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
                        gives="images",
                    ),
                    Source(
                        urls=(VGG + "pets/data/annotations.tar.gz",),
                        checksum="md5:95a8c909bbe2e81eed6a22bccdf3f68f",
                        gives="annotations",
                    ),
                ),
            ),
        ),
        classes=PETS_CLASSES,
        homepage=VGG + "pets/",
        licence="CC-BY-SA-4.0",
        citation="Parkhi et al., Cats and Dogs, 2012",
        figure=_linear(0.915, "balanced accuracy"),
    ),
    _medmnist(
        "pathmnist",
        "107,180 patches of colorectal tissue",
        "a8b06965200029087d5bd730944a56c1",
        classes=(
            *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle"),
            *("normal colon mucosa", "cancer-associated stroma"),
            "colorectal adenocarcinoma epithelium",
        ),
        reached=0.907,
    ),
    _medmnist(
        "dermamnist",
        "10,015 skin lesions",
        "0744692d530f8e62ec473284d019b0c7",
        classes=(
            *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma"),
            *("benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi"),
            "vascular lesions",
        ),
        reached=0.735,
        licence="CC-BY-NC-4.0",
    ),
    _medmnist(
        "bloodmnist",
        "17,092 blood cells",
        "7053d0359d879ad8a5505303e11de1dc",
        classes=(
            *("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte"),
            *("monocyte", "neutrophil", "platelet"),
        ),
        reached=0.958,
    ),
    _medmnist(
        "pneumoniamnist",
        "5,856 chest X-rays of children",
        "28209eda62fecd6e6a2d98b1501bb15f",
        classes=("normal", "pneumonia"),
        reached=0.854,
    ),
    _medmnist(
        "breastmnist",
        "780 ultrasound images of breasts",
        "750601b1f35ba3300ea97c75c52ff8f6",
        classes=("malignant", "normal, benign"),
        reached=0.863,
    ),
    DatasetSpec(
        name="elpv",
        title="ELPV: 2,624 solar cells in electroluminescence, 300x300; it has no splits",
        layouts=(Layout(format="elpv", folders=("",), splits=(), sources=()),),
        classes=("defective", "functional"),
        splits=("train",),
        homepage="https://github.com/zae-bayern/elpv-dataset",
        licence="CC-BY-NC-SA-4.0",
        citation="Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar "
        "Cells in Electroluminescence Imagery, 2018",
        package="elpv-dataset",
        figure=Figure(
            value=0.8842,
            metric="accuracy",
            how="a CNN trained on 1,968 of the cells, labels weighted by their certainty",
            source="Deitsch et al., Solar Energy 185, 2019, arXiv:1807.02894",
        ),
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
            figure=_linear(0.936),
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
            figure=_linear(0.783),
        ),
        DatasetSpec(
            name="mnist",
            title="MNIST: 70,000 handwritten digits, 28x28",
            layouts=(
                _idx(
                    "MNIST",
                    (LECUN_MIRROR, LECUN),
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
            package="scikit-learn",
        ),
        *IMAGE_SETS,
    ],
)

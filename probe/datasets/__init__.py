"""Labelled images: named datasets and folders, read lazily, identified by their content."""

from probe.datasets.images.decode import decode, decode_file
from probe.datasets.in_memory import given_dataset
from probe.datasets.load import chosen_images, load_dataset, require_dataset
from probe.datasets.named.catalog import DATASETS, DatasetSpec
from probe.datasets.named.pickles import load_pickle
from probe.datasets.spec import CONTENT_BYTES, SPLITS, BadImage, Dataset, Images, Split

__all__ = [
    "CONTENT_BYTES",
    "DATASETS",
    "SPLITS",
    "BadImage",
    "Dataset",
    "DatasetSpec",
    "Images",
    "Split",
    "chosen_images",
    "decode",
    "decode_file",
    "given_dataset",
    "load_dataset",
    "load_pickle",
    "require_dataset",
]

"""What somebody writes in a minute: features of a folder of images by torch and its DataLoader.

python benchmarks/newcomer_torch.py FOLDER OUT.npy
"""

import sys

import numpy as np
import torch
import torchvision
from torchvision import transforms

folder, out = sys.argv[1:]
transform = transforms.Compose(
    [
        transforms.Resize(64),
        transforms.CenterCrop(64),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
images = torchvision.datasets.ImageFolder(folder, transform)
network = torchvision.models.resnet18(weights=None).eval()
network.fc = torch.nn.Identity()

if __name__ == "__main__":  # the loader's processes import this file
    loader = torch.utils.data.DataLoader(images, batch_size=64, num_workers=2)
    with torch.inference_mode():
        features = [network(batch).numpy() for batch, _ in loader]
    np.save(out, np.concatenate(features))

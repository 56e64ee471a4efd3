"""From decoded pixels to a network's input.

spec          the preprocessing of a set of weights, and the presets
load          what `--preprocess` accepts
published     the preprocessing that transformers and timm publish beside their networks
torchvision_weights  the preprocessing of torchvision's weights, by name
resize        any image to the network's square input, and which part of the image that shows
views         augmented copies of an image
known_pixels  whether this machine's Pillow and JPEG decoder give the usual pixels
"""

"""From decoded pixels to a network's input.

spec          the preprocessing of a set of weights, and the presets
resize        any image to the network's square input, and which part of the image that shows
views         augmented copies of an image
known_pixels  whether this machine's Pillow and JPEG decoder give the usual pixels
"""

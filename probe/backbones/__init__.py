"""Architectures: their names and layers, and what they compute; no inference framework.

catalog        the backbones there are
spec           what a catalog entry says: layers, widths, input sizes
architectures  one function a family that describes what its networks compute
network        the description: operations, shapes, multiply-adds
cut            a network cut at some layers, with its preprocessing in front
"""

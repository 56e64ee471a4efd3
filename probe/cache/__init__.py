"""The feature cache: what makes entries equal (`key`), what one is on disk (`file`), how it is
read (`features`) and where entries lie (`store`). Nothing here imports MXNet.
"""

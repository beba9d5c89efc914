"""Weights shipped with pnpkit: NAME.safetensors and its card NAME.json.

A package ships weights by an entry point ``NAME = "package.folder"`` in the group ``pnpkit.weights``.
"""

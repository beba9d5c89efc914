"""Makers of kernels, masks and coil maps: registered functions that return tensors."""

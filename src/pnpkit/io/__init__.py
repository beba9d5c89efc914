"""Reading and writing arrays and images. Readers are registered by file suffix and called ``read(path, key)``."""

from pnpkit.io.arrays import read_hdf5, read_mat, read_npy, read_npz, read_safetensors, write_npy
from pnpkit.io.cfl import read_cfl
from pnpkit.io.images import read_image, write_image

__all__ = [
    "read_cfl",
    "read_hdf5",
    "read_image",
    "read_mat",
    "read_npy",
    "read_npz",
    "read_safetensors",
    "write_image",
    "write_npy",
]

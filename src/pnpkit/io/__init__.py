"""Reading and writing arrays, images and volumes. Readers are registered by suffix and called ``read(path, key)``."""

from pnpkit.io.arrays import read_npy, read_npz, read_safetensors, write_npy
from pnpkit.io.cfl import read_cfl
from pnpkit.io.dicom import open_dicom, read_dicom
from pnpkit.io.fastmri import FastMRI
from pnpkit.io.hdf5 import read_hdf5
from pnpkit.io.images import read_image, write_image
from pnpkit.io.info import info
from pnpkit.io.matlab import read_mat
from pnpkit.io.nifti import open_nifti, read_nifti, write_nifti
from pnpkit.io.volume import Geometry, Volume

__all__ = [
    "FastMRI",
    "Geometry",
    "Volume",
    "info",
    "open_dicom",
    "open_nifti",
    "read_cfl",
    "read_dicom",
    "read_hdf5",
    "read_image",
    "read_mat",
    "read_nifti",
    "read_npy",
    "read_npz",
    "read_safetensors",
    "write_image",
    "write_nifti",
    "write_npy",
]

"""Array readers: round trips, keys, and one-line errors for anything that is not what it should be."""

import struct

import numpy as np
import pytest
import torch

from pnpkit import registry
from pnpkit.errors import DataError
from pnpkit.io import read_cfl, read_hdf5, read_mat, read_npy, read_npz, read_safetensors, write_npy
from pnpkit.spec import load_tensor

ARRAYS = {
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4),
    "complex64": (np.arange(6) * (1 + 2j)).astype(np.complex64).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "uint16": np.array([0, 65535], dtype=np.uint16),
    "bool": np.array([[True, False]]),
}


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) > 20
    return text


# --- npy, npz, safetensors ---


@pytest.mark.parametrize("name", ARRAYS)
def test_npy_round_trip(tmp_path, name):
    write_npy(tmp_path / "a.npy", ARRAYS[name])
    back = read_npy(tmp_path / "a.npy")
    assert back.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(back, ARRAYS[name])


def test_npy_of_a_tensor_is_plain_numpy(tmp_path):
    value = torch.randn(2, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    write_npy(tmp_path / "a.npy", value.conj().mT)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), value.detach().conj().resolve_conj().mT.numpy())
    assert torch.equal(load_tensor({"file": str(tmp_path / "a.npy")}), value.detach().conj().mT)


def test_npz_by_key(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=ARRAYS["float32"], y=ARRAYS["complex64"])
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", "y"), ARRAYS["complex64"])
    with pytest.raises(DataError, match="x, y"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match="no 'z'"):
        read_npz(tmp_path / "a.npz", "z")
    np.savez(tmp_path / "one.npz", only=ARRAYS["uint16"])
    np.testing.assert_array_equal(read_npz(tmp_path / "one.npz"), ARRAYS["uint16"])


def test_safetensors_by_key(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.float16)}, str(tmp_path / "t.safetensors"))
    assert torch.equal(read_safetensors(tmp_path / "t.safetensors", "a"), torch.arange(3.0))
    assert read_safetensors(tmp_path / "t.safetensors", "b").dtype == torch.float16
    with pytest.raises(DataError, match="a, b"):
        read_safetensors(tmp_path / "t.safetensors")


class Payload:
    """Unpickling this would leave a mark."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was loaded')",))


def test_pickles_are_never_loaded(tmp_path):
    bad = np.array([Payload()], dtype=object)
    np.save(tmp_path / "p.npy", bad, allow_pickle=True)
    np.savez(tmp_path / "p.npz", a=bad)
    for read, name in ((read_npy, "p.npy"), (read_npz, "p.npz")):
        with pytest.raises(DataError, match=r"[Oo]bject arrays"):
            read(tmp_path / name)


# --- MATLAB ---


def test_mat_version_5(tmp_path):
    from scipy.io import savemat

    cells = np.empty((2, 2), dtype=object)
    cells[0, 0], cells[1, 0], cells[0, 1], cells[1, 1] = (np.full((1, 2), float(i)) for i in range(4))
    savemat(
        tmp_path / "a.mat",
        {"x": ARRAYS["float32"], "k": ARRAYS["complex64"], "cells": cells, "s": {"in": {"deep": 7.0}}},
    )
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "x"), ARRAYS["float32"])
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "k"), ARRAYS["complex64"])
    for i in range(4):  # MATLAB's column order
        np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", f"cells/{i}"), [[i, i]])
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "s/in/deep"), [[7.0]])
    for key, words in (
        ("cells", "cells/0|key/0"),
        ("cells/4", "entries 0 to 3"),
        ("s/out", "has in"),
        ("x/0", "must end"),
        (None, "4 arrays"),
    ):
        with pytest.raises(DataError, match=words):
            read_mat(tmp_path / "a.mat", key)


def test_mat_version_7_3(tmp_path):
    """HDF5 with reversed axes, cells as references, complex numbers as compounds."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["x"] = ARRAYS["float32"].T
        pair = np.dtype([("real", "<f4"), ("imag", "<f4")])
        file["k"] = ARRAYS["complex64"].T.copy().view(pair)
        file["s/field"] = np.ones((1, 5))
        for i in range(3):
            file[f"#refs#/{i}"] = np.full((2, 1), float(i))
        file["cells"] = np.array([[file[f"#refs#/{i}"].ref] for i in range(3)], dtype=h5py.ref_dtype)
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "x"), ARRAYS["float32"])
    back = read_mat(tmp_path / "a.mat", "k")
    assert back.dtype == np.complex64
    np.testing.assert_array_equal(back, ARRAYS["complex64"])
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "cells/2"), [[2.0, 2.0]])
    assert read_mat(tmp_path / "a.mat", "s/field").shape == (5, 1)
    for key, words in (
        ("cells", "key/0"),
        ("cells/3", "entries 0 to 2"),
        ("s", "field"),
        ("s/f", "has field"),
        (None, "4 arrays"),
    ):
        with pytest.raises(DataError, match=words):
            read_mat(tmp_path / "a.mat", key)


def test_measured_kernels(data_dir):
    """Both MATLAB versions, kernels that sum to 1; through a config too."""
    pytest.importorskip("h5py")
    for i, side in enumerate((19, 17, 15, 27, 13, 21, 23, 23)):
        kernel = read_mat(data_dir / "kernels" / "Levin09.mat", f"kernels/{i}")
        assert kernel.shape == (side, side) and kernel.sum() == pytest.approx(1)
    config = {"file": str(data_dir / "kernels" / "kernels_12.mat"), "key": "kernels/11"}
    assert load_tensor(config).shape == (25, 25)


# --- HDF5 ---


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/kspace"] = ARRAYS["complex64"]
        file["group/text"] = "words"
    np.testing.assert_array_equal(read_hdf5(tmp_path / "a.h5", "group/kspace"), ARRAYS["complex64"])
    for key, words in (
        ("group", "kspace, text"),
        ("group/image", "has kspace, text"),
        ("group/text", "not a numeric"),
        (None, "2 arrays"),
    ):
        with pytest.raises(DataError, match=words):
            read_hdf5(tmp_path / "a.h5", key)


# --- BART ---


def write_cfl(folder, sizes, values):
    (folder / "a.hdr").write_text(f"# Dimensions\n{' '.join(map(str, sizes))} \n# Command\nfft 7\n")
    np.asarray(values, dtype="<c8").tofile(folder / "a.cfl")


def test_cfl_axis_order(tmp_path):
    """Column-major (readout 2, phase 3, slice 1, coils 4): coils first, spatial axes in BART's order."""
    write_cfl(tmp_path, (2, 3, 1, 4, 1), np.arange(24) + 1j)
    array = read_cfl(tmp_path / "a.cfl")
    assert array.shape == (4, 2, 3) and array.dtype == np.complex64 and array.flags.c_contiguous
    for c, i, j in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (3, 1, 2)):
        assert array[c, i, j] == (i + 2 * j + 6 * c) + 1j
    for path in ("a.hdr", "a"):
        np.testing.assert_array_equal(read_cfl(tmp_path / path), array)


def test_cfl_with_maps_axis_and_scalars(tmp_path):
    write_cfl(tmp_path, (1, 2, 3, 4, 5), np.arange(120))
    assert read_cfl(tmp_path / "a.cfl").shape == (5, 4, 2, 3)
    assert read_cfl(tmp_path / "a.cfl")[1, 0, 1, 0] == 24 + 1
    write_cfl(tmp_path, (1, 1), [7])
    np.testing.assert_array_equal(read_cfl(tmp_path / "a.cfl"), [7])


@pytest.mark.parametrize(
    ("header", "count", "words"),
    [
        ("# Dimensions\n2 3\n", 5, "40 bytes.*asks for 48"),
        ("# Dimensions\n2 x\n", 6, "cannot be read"),
        ("# Dimensions\n0 3\n", 6, "positive"),
        ("# Dimensions\n", 6, "not a BART header"),
        ("nothing", 6, "not a BART header"),
        (None, 6, "does not exist"),
        ("# Dimensions\n2 3\n", None, "does not exist"),
    ],
)
def test_cfl_malformed(tmp_path, header, count, words):
    if header is not None:
        (tmp_path / "a.hdr").write_text(header)
    if count is not None:
        np.zeros(count, dtype=np.complex64).tofile(tmp_path / "a.cfl")
    with pytest.raises(DataError, match=words) as error:
        read_cfl(tmp_path / "a.cfl")
    one_line(error)


def test_real_kspace(data_dir):
    kspace = load_tensor({"file": str(data_dir / "mri" / "espirit_full.cfl")})
    mask = load_tensor({"file": str(data_dir / "mri" / "espirit_und2x2_mask.npy")})
    assert kspace.shape == (8, 230, 180) and kspace.dtype == torch.complex64 and mask.shape == (230, 180)
    peak = divmod(int(kspace.abs().sum(0).argmax()), 180)
    assert abs(peak[0] - 115) <= 2 and abs(peak[1] - 90) <= 2  # centred


# --- anything else under these names ---

JUNK = {
    "empty": b"",
    "text": b"hello, this is not an array\n" * 40,
    "zeros": bytes(600),
    "hdf5 head": b"\x89HDF\r\n\x1a\n" + bytes(60),
}
SUFFIXES = ("npy", "npz", "safetensors", "mat", "h5", "hdf5")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", JUNK)
def test_junk(tmp_path, suffix, kind):
    if suffix in ("h5", "hdf5") or "hdf5" in kind:
        pytest.importorskip("h5py")
    path = tmp_path / f"junk.{suffix}"
    path.write_bytes(JUNK[kind])
    with pytest.raises(DataError, match=r"junk") as error:
        load_tensor({"file": str(path)})
    one_line(error)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    whole = _valid(path)
    for part in (0.2, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(DataError, match="cut") as error:
            registry.get("readers", suffix)(path, None)
        one_line(error)


def _valid(path) -> bytes:
    value = np.random.default_rng(0).standard_normal((50, 40))
    if path.suffix == ".npy":
        np.save(path, value)
    elif path.suffix == ".npz":
        np.savez_compressed(path, a=value)
    elif path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({"a": torch.from_numpy(value)}, str(path))
    elif path.suffix == ".mat":
        from scipy.io import savemat

        savemat(path, {"a": value})
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["a"] = value
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [*SUFFIXES, "cfl"])
def test_missing(tmp_path, suffix):
    if suffix in ("h5", "hdf5"):
        pytest.importorskip("h5py")
    with pytest.raises(DataError, match="does not exist"):
        registry.get("readers", suffix)(tmp_path / f"no.{suffix}", None)


def test_a_key_where_there_is_none(tmp_path):
    write_npy(tmp_path / "a.npy", np.ones(2))
    with pytest.raises(DataError, match="leave 'key' out"):
        read_npy(tmp_path / "a.npy", "x")


def test_a_folder_and_an_unwritable_place(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_npy(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        write_npy(tmp_path / "no" / "a.npy", np.ones(2))


def test_a_header_that_promises_too_much(tmp_path):
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000,), }".ljust(117) + b"\n"
    (tmp_path / "big.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(80))
    with pytest.raises(DataError, match=r"big\.npy"):
        read_npy(tmp_path / "big.npy")

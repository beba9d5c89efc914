"""Images: values, modes, depths, round trips, and files that are no images."""

import numpy as np
import pytest
import torch
from PIL import Image

from pnpkit.errors import DataError, ShapeError
from pnpkit.io import read_image, write_image
from pnpkit.spec import load_tensor

LEVELS = np.array([[0, 51, 255], [102, 153, 204]], dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip_is_exact_to_a_level(tmp_path, suffix, channels):
    image = torch.rand(channels, 7, 5, generator=torch.Generator().manual_seed(0))
    write_image(tmp_path / f"a.{suffix}", image[None])
    back = read_image(tmp_path / f"a.{suffix}")
    assert back.dtype == np.float32 and back.shape == (channels, 7, 5)
    assert float(np.abs(back - image.numpy()).max()) <= 0.5 / 255 + 1e-6
    assert load_tensor({"file": str(tmp_path / f"a.{suffix}")}).shape == (channels, 7, 5)


def test_grey_keeps_one_channel_and_exact_levels(tmp_path):
    Image.fromarray(LEVELS).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[0], LEVELS / 255, atol=1e-7)


def test_jpeg(tmp_path):
    image = torch.linspace(0, 1, 64).expand(3, 48, 64)
    for suffix in ("jpg", "jpeg"):
        write_image(tmp_path / f"a.{suffix}", image)
        assert float(np.abs(read_image(tmp_path / f"a.{suffix}") - image.numpy()).max()) < 0.05


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit(tmp_path, suffix):
    image = np.array([[[0.0, 1 / 65535, 0.5, 1.0]]])
    write_image(tmp_path / f"a.{suffix}", image, bits=16)
    np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}"), image, atol=0.5 / 65535 + 1e-8)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)])
def test_modes(tmp_path, mode, channels):
    Image.fromarray(LEVELS).convert("RGB").convert(mode).save(tmp_path / "a.png")
    back = read_image(tmp_path / "a.png")
    assert back.shape == (channels, 2, 3) and 0 <= back.min() <= back.max() <= 1


def test_orientation_tag_is_applied(tmp_path):
    image = Image.fromarray(LEVELS)
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90° clockwise
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[0], np.rot90(LEVELS, -1) / 255, atol=1e-7)


def test_clipping_on_writing(tmp_path):
    write_image(tmp_path / "a.png", torch.tensor([[[-1.0, 0.2, 3.0]]]))
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[0, 0], [0, 51 / 255, 1], atol=1e-7)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_truncated_and_junk(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    write_image(path, torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)))
    whole = path.read_bytes()
    for data in (b"", b"not an image", whole[:10], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(DataError, match="cut") as error:
            read_image(path)
        assert "\n" not in str(error.value)


def test_what_has_no_range_is_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="floating-point"):
        read_image(tmp_path / "f.tif")
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match="32-bit"):
        read_image(tmp_path / "i.tif")


def test_refused(tmp_path):
    for bad in (torch.ones(4, 4), torch.ones(2, 4, 4), torch.ones(2, 3, 4, 4)):
        with pytest.raises(ShapeError, match="1 or 3"):
            write_image(tmp_path / "a.png", bad)
    for bad in (
        torch.full((1, 2, 2), torch.nan),
        torch.ones(1, 2, 2, dtype=torch.complex64),
        torch.ones(1, 2, 2, dtype=torch.int64),
    ):
        with pytest.raises(DataError, match="finite"):
            write_image(tmp_path / "a.png", bad)
    with pytest.raises(DataError, match="16 bits"):
        write_image(tmp_path / "a.png", torch.ones(3, 2, 2), bits=16)
    for name in ("a.xyz", "no/a.png"):
        with pytest.raises(DataError, match="cannot be written"):
            write_image(tmp_path / name, torch.ones(1, 2, 2))
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "no.png")
    with pytest.raises(DataError, match="leave 'key' out"):
        read_image(tmp_path / "no.png", "x")

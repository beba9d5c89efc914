"""Training images: every kind of source, crops that depend on nothing but their number, and files that are wrong."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from pnpkit.errors import DataError
from pnpkit.training.data import Pool, turned, with_contrast, with_phase
from pnpkit.training.sources import Array, Dicom, Images, Kernels, KSpace, Volumes

from .toys import pictures


def test_a_folder_in_grey_and_in_colour(tmp_path):
    folder = pictures(tmp_path / "a", 3)
    grey, colour = (Pool([Images(path=str(folder))], c, 8) for c in (1, 3))
    assert [a.shape for a in grey.images] == [(1, 24, 28)] * 3 and [a.shape for a in colour.images] == [(3, 24, 28)] * 3
    rgb = np.asarray(Image.open(folder / "0.png"), dtype=np.float64)
    assert np.abs(grey.images[0][0] - rgb @ [0.299, 0.587, 0.114]).max() <= 0.51  # BT.601, rounded


def test_grey_files_become_colour(tmp_path):
    pool = Pool([Images(path=str(pictures(tmp_path / "a", 1, mode="L")))], 3, 8)
    assert np.array_equal(pool.images[0][0], pool.images[0][2])


def test_a_zip_is_a_folder(tmp_path):
    folder = pictures(tmp_path / "a", 4)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"inside/{file.name}")
        archive.writestr("inside/notes.txt", "no image")
    both = [Pool([Images(path=str(p))], 3, 8).images for p in (folder, tmp_path / "a.zip")]
    assert all(np.array_equal(a, b) for a, b in zip(*both, strict=True))


def test_arrays_volumes_and_kspace(tmp_path):
    digits = (255 * np.random.default_rng(0).random((5, 12, 10))).astype(np.uint8)
    np.savez(tmp_path / "d.npz", train=digits, test=digits[:2])
    pool = Pool([Array(path=str(tmp_path / "d.npz"), key="train", first=1, last=4)], 1, 10)
    assert [a.shape for a in pool.images] == [(1, 12, 10)] * 3 and np.array_equal(pool.images[0][0], digits[1])

    import nibabel

    ball = (np.mgrid[-10:10, -12:12, -8:8] ** 2).sum(0) < 49
    nibabel.save(nibabel.Nifti1Image((1000 * ball).astype(np.float32), np.eye(4)), tmp_path / "ball.nii.gz")
    pool = Pool([Volumes(path=str(tmp_path), axes=(2,))], 1, 12)
    assert 5 < len(pool.images) <= 16 and pool.images[0].shape == (1, 20, 24)
    assert max(a.max() for a in pool.images) == pytest.approx(1)

    from pnpkit import make
    from pnpkit.operators import MRI

    maps = make("birdcage_maps", shape=(4, 32, 28))
    x = torch.zeros(1, 1, 32, 28, dtype=torch.complex64)
    x[..., 8:24, 7:21] = 1
    y = MRI(mask=torch.ones(1, 32, 28), maps=maps)(x)[0]
    np.save(tmp_path / "k.npy", y.numpy())
    (image,) = Pool([KSpace(path=str(tmp_path / "k.npy"))], 1, 16).images
    assert image.shape == (1, 32, 28) and image.dtype == np.complex64
    inside = np.abs(image[0, 10:22, 9:19])
    assert inside.min() > 0.8 and np.abs(image[0, :4]).max() < 0.2


def test_kernels_sum_to_one_and_are_centred():
    source = Kernels(size=32, peak=0.1)
    centre = torch.arange(32.0)
    kinds = set()
    for seed in range(40):
        k = source.draw(torch.Generator().manual_seed(seed))
        assert k.shape == (1, 32, 32) and float(k.sum()) == pytest.approx(10, rel=1e-4) and float(k.min()) >= 0
        assert float((k.sum((0, 1)) * centre).sum() / k.sum()) == pytest.approx(16, abs=0.6)
        kinds.add(bool((k == 0).any()))
    assert kinds == {True, False}  # paths and Gaussians


def test_a_sample_depends_on_its_number_only(tmp_path):
    pool = Pool([Images(path=str(pictures(tmp_path / "a")))], 1, 16)
    a, b = pool.sample(3, 17)[0], pool.sample(3, 17)[0]
    assert torch.equal(a, b) and a.shape == (1, 16, 16) and 0 <= float(a.min()) <= float(a.max()) <= 1
    assert not torch.equal(a, pool.sample(3, 18)[0]) and not torch.equal(a, pool.sample(4, 17)[0])


def test_larger_images_are_drawn_more_often(tmp_path):
    pictures(tmp_path / "a", 1, (16, 16))
    pictures(tmp_path / "b", 1, (32, 32), seed=1)
    pool = Pool([Images(path=str(tmp_path / n)) for n in "ab"], 1, 16, augment=False)
    small = torch.from_numpy(pool.images[0][:, :16, :16]).float() / 255
    share = np.mean([torch.equal(pool.sample(0, i)[0], small) for i in range(400)])
    assert share == pytest.approx(0.2, abs=0.06)


def test_the_eight_symmetries_differ():
    x = torch.arange(9.0).reshape(1, 3, 3)
    assert len({tuple(turned(x, i).flatten().tolist()) for i in range(8)}) == 8


def test_another_contrast_keeps_zeros_and_phases_and_stays_in_range(tmp_path):
    x = torch.linspace(0, 1.2, 121).reshape(1, 11, 11)
    curves = [with_contrast(x, torch.Generator().manual_seed(i)) for i in range(40)]
    assert all(float(c[0, 0, 0]) == 0 and float(c.min()) >= 0 and 0.05 <= float(c.max()) <= 1 for c in curves)
    rising = [bool((c.flatten().diff() >= -1e-6).all()) for c in curves]
    assert not all(rising)
    z = torch.polar(x, torch.full_like(x, 0.7))
    turned_too = with_contrast(z, torch.Generator().manual_seed(1))
    assert torch.allclose(turned_too, torch.polar(curves[1], torch.full_like(x, 0.7)), atol=1e-6)
    source = Images(path=str(pictures(tmp_path / "a")))
    plain, other, rare = (Pool([source], 1, 16, augment=False, contrast=c) for c in (0.0, 1.0, 0.3))
    assert not torch.equal(plain.sample(0, 3)[0], other.sample(0, 3)[0])
    kept = [holds_bytes(rare.sample(0, i)[0]) for i in range(100)]
    assert 0.5 < np.mean(kept) < 0.9


def holds_bytes(x: torch.Tensor) -> bool:
    """Whether every value of x is a byte / 255."""
    return bool((x * 255 - (x * 255).round()).abs().max() < 1e-4)


def test_phase_keeps_the_magnitude_and_is_smooth(tmp_path):
    x = torch.rand(1, 20, 24)
    z = with_phase(x, torch.Generator().manual_seed(3))
    assert torch.allclose(z.abs(), x, atol=1e-5)
    turn = (z[..., 1:] * z[..., :-1].conj()).angle().abs()
    assert 0 < float(turn.median()) < 0.6
    pool = Pool([Images(path=str(pictures(tmp_path / "a")))], 1, 16, phase=True)
    assert pool.sample(0, 0)[0].shape == (2, 16, 16)


# --- what is wrong ---


def test_corrupt_and_small_images_are_counted_or_refused(tmp_path):
    folder = pictures(tmp_path / "a", 3)
    (folder / "3.png").write_bytes((folder / "0.png").read_bytes()[:60])
    pictures(tmp_path / "a" / "small", 2, (9, 40))
    pool = Pool([Images(path=str(folder))], 1, 16)
    assert len(pool.images) == 3 and len(pool.skipped) == 3
    assert sum("3.png" in s for s in pool.skipped) == 1 and sum("smaller than the crop" in s for s in pool.skipped) == 2
    with pytest.raises(DataError, match=r"3\.png"):
        Pool([Images(path=str(folder))], 1, 16, strict=True)
    with pytest.raises(DataError, match="smaller than the crop of 16"):
        Pool([Images(path=str(folder / "small"))], 1, 16, strict=True)


def test_nothing_to_train_on(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hold no image of at least 16×16"):
        Pool([Images(path=str(tmp_path / "empty"))], 1, 16)
    with pytest.raises(DataError, match="PNPKIT_DATA"):
        Pool([Images(path=str(tmp_path / "nowhere"))], 1, 16)
    (tmp_path / "no.zip").write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        Pool([Images(path=str(tmp_path / "no.zip"))], 1, 16)


def test_wrong_arrays(tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros((5, 4)))
    np.save(tmp_path / "real.npy", np.zeros((4, 16, 16)))
    with pytest.raises(DataError, match=r"\(N, H, W\)"):
        Pool([Array(path=str(tmp_path / "flat.npy"))], 1, 2, strict=True)
    with pytest.raises(DataError, match="complex k-space"):
        Pool([KSpace(path=str(tmp_path / "real.npy"))], 1, 2, strict=True)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.dcm").write_bytes(b"no scan")
    with pytest.raises(DataError, match=r"a\.dcm cannot be read as a DICOM image"):
        Pool([Dicom(path=str(tmp_path / "scans"))], 1, 2, strict=True)
    (tmp_path / "a.nii").write_bytes(b"no volume")
    with pytest.raises(DataError, match=r"a\.nii cannot be read as a NIfTI volume"):
        Pool([Volumes(path=str(tmp_path))], 1, 2, strict=True)
    np.save(tmp_path / "five.npy", np.zeros((2, 5, 16, 16), np.float32))
    with pytest.raises(DataError, match="has 5 channels, the recipe wants 1"):
        Pool([Array(path=str(tmp_path / "five.npy"))], 1, 2, strict=True)

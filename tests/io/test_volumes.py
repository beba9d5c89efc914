"""NIfTI, DICOM and fastMRI: values, order of slices, geometry and units against nibabel, and what goes wrong."""

import numpy as np
import pytest
import torch

from pnpkit.errors import DataError, ShapeError
from pnpkit.io import FastMRI, Geometry, Volume, open_dicom, open_nifti, read_dicom, read_nifti, write_nifti
from pnpkit.spec import load_tensor

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")

TILTED = np.array([[0, -0.9, 0.1, 5], [2.0, 0, 0, -7], [0, 0.2, 3.0, 11], [0, 0, 0, 1]])


# --- NIfTI ---


def save(path, array, affine=None, unit="mm", slope=None):
    image = nibabel.Nifti1Image(array, np.diag([2.0, 3, 4, 1]) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    if slope:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_axes_and_geometry(tmp_path, suffix):
    """NIfTI's i, j, k are W, H, D; the affine is nibabel's; voxel sizes and letters follow our order."""
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    volume = open_nifti(save(tmp_path / f"a{suffix}", array, TILTED))
    assert volume.values.shape == (1, 2, 3, 4) and volume.values.dtype == np.float32
    assert volume.values[0, 1, 2, 3] == array[3, 2, 1]
    np.testing.assert_allclose(volume.geometry.affine, TILTED)
    assert volume.geometry.voxel_size == pytest.approx(np.linalg.norm(TILTED[:3, :3], axis=0)[::-1])
    assert tuple(volume.geometry.orientation) == nibabel.aff2axcodes(TILTED)[::-1]
    assert load_tensor({"file": str(tmp_path / f"a{suffix}")}).shape == (1, 2, 3, 4)


def test_nifti_stored_integers_slope_time_and_units(tmp_path):
    counts = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    assert read_nifti(save(tmp_path / "a.nii", counts)).dtype == np.int16
    assert read_nifti(tmp_path / "a.nii").shape == (2, 4, 3, 2)  # time points are channels
    scaled = read_nifti(save(tmp_path / "b.nii", counts[..., 0], slope=(0.5, -1)))
    np.testing.assert_array_equal(scaled[0].T, nibabel.load(tmp_path / "b.nii").get_fdata().astype(np.float32))
    metres = open_nifti(save(tmp_path / "c.nii", counts[..., 0], np.diag([0.002, 0.003, 0.004, 1]), "meter"))
    assert metres.geometry.voxel_size == pytest.approx((4, 3, 2))
    wave = (np.arange(6) * (1 + 2j)).astype(np.complex64).reshape(1, 2, 3)
    np.testing.assert_array_equal(read_nifti(save(tmp_path / "d.nii", wave))[0].T, wave)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_is_written_is_what_was_read(tmp_path, suffix):
    geometry = Geometry(TILTED, placed=True, unit="HU")
    values = torch.randn(1, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    write_nifti(tmp_path / f"a{suffix}", values, geometry)
    back = open_nifti(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.values, values.numpy())
    np.testing.assert_allclose(back.geometry.affine, TILTED, atol=1e-6)
    assert back.geometry.placed and back.geometry.unit == "HU"
    write_nifti(tmp_path / f"b{suffix}", back.values[0])
    assert not open_nifti(tmp_path / f"b{suffix}").geometry.placed
    assert open_nifti(tmp_path / f"b{suffix}").geometry.orientation == "???"


def test_nifti_that_cannot_be_written(tmp_path):
    for values, kind, words in (
        (np.zeros((2, 2)), ShapeError, r"\(D, H, W\)"),
        (np.zeros((2, 2, 2), dtype=bool), DataError, "convert it first"),
        (np.zeros((2, 2, 2), dtype=np.float16), DataError, "convert it first"),
    ):
        with pytest.raises(kind, match=words):
            write_nifti(tmp_path / "a.nii", values)
    with pytest.raises(DataError, match="must end in"):
        write_nifti(tmp_path / "a.hdr", np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match="cannot be written"):
        write_nifti(tmp_path / "no" / "a.nii", np.zeros((2, 2, 2)))
    with pytest.raises(ShapeError, match=r"\(C, D, H, W\)"):
        Volume(np.zeros((2, 2)))


def test_a_nifti_header_that_promises_too_much(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((2, 2, 2), dtype=np.uint8))
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([30000, 30000, 30000], dtype="<i2").tobytes()
    path.write_bytes(raw)
    with pytest.raises(DataError, match="promises"):
        open_nifti(path)


# --- DICOM ---


def write_slice(path, pixels, position=None, turn=(1, 0, 0, 0, 1, 0), series="1.2.3", **changes):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID, d.SeriesInstanceUID, d.Modality = CTImageStorage, "1.2.3.4", series, "CT"
    d.Rows, d.Columns = pixels.shape
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
    d.PixelSpacing, d.SliceThickness = [0.8, 0.5], 2.5
    d.RescaleSlope, d.RescaleIntercept = 2, -1024
    if position is not None:
        d.ImagePositionPatient, d.ImageOrientationPatient = list(position), list(turn)
    d.PixelData = pixels.astype("<i2").tobytes()
    for name, value in changes.items():
        setattr(d, name, value)
    d.save_as(path, enforce_file_format=True)
    return path


def stack(folder, n=4, turn=(1, 0, 0, 0, 1, 0), normal=(0, 0, 1), **changes):
    """Slices named against their order in space."""
    folder.mkdir(exist_ok=True)
    for i in range(n):
        pixels = np.full((3, 5), i) + np.arange(5)
        position = np.array([10.0, 20, 30]) + 2.5 * i * np.array(normal)
        write_slice(folder / f"{n - i}.dcm", pixels, position, turn, **changes)
    return folder


def test_a_slice_is_in_hounsfield_units(tmp_path):
    path = write_slice(tmp_path / "a.dcm", np.arange(15).reshape(3, 5), (1, 2, 3))
    np.testing.assert_array_equal(read_dicom(path), 2 * np.arange(15, dtype=np.float32).reshape(1, 3, 5) - 1024)
    volume = open_dicom(path)
    assert volume.geometry.unit == "HU" and volume.geometry.voxel_size == (2.5, 0.8, 0.5)
    assert volume.geometry.orientation == "SPL"


@pytest.mark.parametrize(
    ("turn", "normal"),
    [((1, 0, 0, 0, 1, 0), (0, 0, 1)), ((0, 1, 0, 0, 0, -1), (-1, 0, 0)), ((0.8, 0.6, 0, 0, 0, -1), (-0.6, 0.8, 0))],
)
def test_a_series_is_put_in_order_and_placed_as_nibabel_does(tmp_path, turn, normal):
    folder = stack(tmp_path / "series", 4, turn, normal)
    (folder / "notes.txt").write_text("not an image")
    volume = open_dicom(folder)
    assert volume.values.shape == (1, 4, 3, 5)
    np.testing.assert_array_equal(volume.values[0, :, 0, 0], 2 * np.arange(4) - 1024)
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    for i in range(4):  # nibabel: (row, column, 0) to DICOM's axes
        theirs = wrapper_from_file(folder / f"{4 - i}.dcm").affine
        for row, column in ((0, 0), (2, 4)):
            point = np.diag([-1, -1, 1, 1]) @ theirs @ [row, column, 0, 1]
            np.testing.assert_allclose(volume.geometry.affine @ [column, row, i, 1], point, atol=1e-6)
    # and it survives the way to NIfTI
    write_nifti(tmp_path / "a.nii.gz", volume.values, volume.geometry)
    back = open_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.values, volume.values)
    np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine, atol=1e-5)
    assert back.geometry.unit == "HU" and back.geometry.orientation == volume.geometry.orientation


def test_two_series_are_told_apart(tmp_path):
    stack(tmp_path / "a")
    write_slice(tmp_path / "a" / "other.dcm", np.ones((3, 5)), (0, 0, 0), series="9.9")
    with pytest.raises(DataError, match=r"2 series: 1\.2\.3 \(4 slices\), 9\.9 \(1 slices\)"):
        read_dicom(tmp_path / "a")
    assert read_dicom(tmp_path / "a", "9.9").shape == (1, 1, 3, 5)
    with pytest.raises(DataError, match=r"no series 7\.7"):
        read_dicom(tmp_path / "a", "7.7")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"position": (10, 20, 99)}, "missing or doubled.*92|missing or doubled"),
        ({"position": (10, 20, 30)}, "missing or doubled"),
        ({"position": (10, 20, 40), "PixelSpacing": [1, 1]}, "differ in PixelSpacing"),
        ({"position": (10, 20, 40), "pixels": np.ones((4, 5))}, "differ in size"),
        ({"position": (10, 20, 40), "turn": (0, 1, 0, 1, 0, 0)}, "differ in ImageOrientationPatient"),
    ],
)
def test_a_series_that_is_no_volume(tmp_path, change, words):
    folder = stack(tmp_path / "a")
    pixels = change.pop("pixels", np.ones((3, 5)))
    write_slice(folder / "z.dcm", pixels, **change)
    with pytest.raises(DataError, match=words):
        read_dicom(folder)


def test_dicom_that_is_not_read(tmp_path):
    write_slice(tmp_path / "frames.dcm", np.ones((3, 5)), NumberOfFrames=3)
    with pytest.raises(DataError, match="3 frames"):
        read_dicom(tmp_path / "frames.dcm")
    path = write_slice(tmp_path / "cut.dcm", np.ones((3, 5)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="cut"):
        read_dicom(path)
    write_slice(tmp_path / "large.dcm", np.ones((3, 5)), Rows=60000, Columns=60000)
    with pytest.raises(DataError, match="promises"):
        read_dicom(tmp_path / "large.dcm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no DICOM images"):
        read_dicom(tmp_path / "empty")
    unplaced = tmp_path / "unplaced"
    unplaced.mkdir()
    for i in range(2):
        write_slice(unplaced / f"{i}.dcm", np.ones((3, 5)))
    with pytest.raises(DataError, match="without ImagePositionPatient"):
        read_dicom(unplaced)


def test_the_real_slices(data_dir):
    slices = sorted((data_dir / "ct" / "chest").glob("*.dcm"))
    assert len(slices) == 30
    volume = open_dicom(slices[0])
    assert volume.values.shape == (1, 1, 512, 512) and volume.geometry.unit == "HU"
    assert -1100 < np.median(volume.values) < 200 and not any("TCGA" in v for v in volume.facts.values())


# --- fastMRI ---

HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding><encodedSpace>
<matrixSize><x>8</x><y>6</y><z>1</z></matrixSize><fieldOfView_mm><x>440</x><y>220</y><z>5</z></fieldOfView_mm>
</encodedSpace><reconSpace><matrixSize><x>4</x><y>4</y><z>1</z></matrixSize></reconSpace></encoding></ismrmrdHeader>"""


def fastmri(path, coils=2, **changes):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    shape = (3, coils, 8, 6) if coils else (3, 8, 6)
    with h5py.File(path, "w") as file:
        parts = {
            "kspace": (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64),
            "ismrmrd_header": HEADER.encode(),
            "reconstruction_rss": rng.random((3, 4, 4), dtype=np.float32),
            "mask": np.array([1, 0, 1, 1, 0, 1], dtype=np.uint8),
        }
        for name, value in (parts | changes).items():
            if value is not None:
                file[name] = value
        file.attrs["acquisition"] = "AXT2"
    return path


@pytest.mark.parametrize("coils", [2, 0])
def test_fastmri(tmp_path, coils):
    scan = FastMRI(fastmri(tmp_path / "a.h5", coils))
    assert len(scan) == 3 and scan.shape == (3, max(coils, 1), 8, 6)
    assert scan.kspace(1).shape == scan.shape[1:] and scan.kspace(-1).dtype == np.complex64
    assert scan.target(0).shape == (1, 4, 4)
    mask = scan.mask()
    assert mask is not None and mask.tolist() == [True, False, True, True, False, True]
    assert scan.facts == {
        "acquisition": "AXT2",
        "encoded matrixSize": "8 × 6 × 1",
        "encoded fieldOfView": "440 × 220 × 5 mm",
        "shown matrixSize": "4 × 4 × 1",
    }


def test_fastmri_that_is_not(tmp_path):
    with pytest.raises(DataError, match="slices 0 to 2, asked for 3"):
        FastMRI(fastmri(tmp_path / "a.h5")).kspace(3)
    with pytest.raises(DataError, match="no reconstruction"):
        FastMRI(fastmri(tmp_path / "b.h5", reconstruction_rss=None)).target(0)
    assert FastMRI(fastmri(tmp_path / "c.h5", mask=None)).mask() is None
    for name, changes, words in (
        ("d", {"kspace": None}, "without a dataset 'kspace'"),
        ("e", {"kspace": np.zeros((3, 2))}, "must be complex"),
        ("f", {"ismrmrd_header": b"<a>"}, "not XML"),
    ):
        with pytest.raises(DataError, match=words):
            FastMRI(fastmri(tmp_path / f"{name}.h5", **changes))

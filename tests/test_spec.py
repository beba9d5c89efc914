"""The derived Spec: strict validation, schemas, tensors from files and makers, saving and digests."""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from pydantic import Field, PositiveFloat, PositiveInt

from pnpkit import registry, spec
from pnpkit.errors import DataError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson, SplitLikelihood
from pnpkit.operators.algebra import Compose, Stack
from pnpkit.operators.diagonal import Diagonal, Identity
from pnpkit.operators.inpainting import Inpainting
from pnpkit.priors.base import Proximable

MASK = torch.tensor([[[1.0, 0.0, 1.0], [1.0, 1.0, 0.5]]])


class Knobs(Proximable):
    """One of every kind of parameter."""

    def __init__(
        self,
        count: PositiveInt,
        strength: PositiveFloat = 1.0,
        mode: Literal["a", "b"] = "a",
        share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        on: bool = False,
        sizes: tuple[int, ...] = (1, 2),
        weight: torch.Tensor | None = None,
        parts: tuple[Proximable, ...] = (),
    ):
        super().__init__()
        self.count, self.strength, self.mode, self.share, self.on = count, strength, mode, share, on
        self.sizes, self.weight, self.parts = sizes, weight, parts

    def _prox(self, z, tau):
        return z


# --- strictness ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": "3"},
        {"count": True},
        {"count": 3.0},
        {"count": 0},
        {"count": None},
        {"strength": "1.0"},
        {"strength": 0.0},
        {"strength": float("nan")},
        {"strength": True},
        {"mode": "c"},
        {"mode": 1},
        {"share": 1.0},
        {"on": 1},
        {"on": "yes"},
        {"sizes": (1, "2")},
        {"sizes": 3},
        {"weight": "ones"},
        {"parts": (3,)},
    ],
    ids=str,
)
def test_wrong_value_is_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(SpecError, match=rf"Knobs: {name}"):
        Knobs(**{"count": 1, **wrong})


def test_integers_are_numbers_where_a_float_is_asked_for():
    assert Knobs(count=1, strength=2).strength == 2


def test_lists_become_tuples_and_numpy_scalars_numbers():
    knobs = Knobs(count=np.int64(3), sizes=[4, 5], strength=np.float64(0.25))
    assert (knobs.count, knobs.sizes, knobs.strength) == (3, (4, 5), 0.25)
    assert type(knobs.count) is int and type(knobs.strength) is float


def test_unknown_parameter_suggests_and_missing_one_is_named():
    with pytest.raises(SpecError, match=r"Knobs has no parameter 'strenght'. Did you mean 'strength'"):
        Knobs(count=1, strenght=2.0)
    with pytest.raises(SpecError, match="count: required"):
        Knobs()


def test_positional_arguments_are_checked_too():
    assert Knobs(4, 2.0).count == 4
    with pytest.raises(SpecError, match="'count' is given twice"):
        Knobs(4, count=4)
    with pytest.raises(SpecError, match="takes 8 parameters"):
        Knobs(1, 1.0, "a", 0.5, False, (1,), None, (), "more")


def test_all_problems_are_reported_at_once():
    with pytest.raises(SpecError, match=r"count.*mode"):
        Knobs(count="3", mode="c")


def test_abstract_class_says_so():
    with pytest.raises(TypeError, match="Proximable is abstract"):
        Proximable()


def test_constructor_with_varargs_or_without_annotations_is_refused():
    class Loose(Proximable):
        def __init__(self, **options: float):
            super().__init__()

        def _prox(self, z, tau):
            return z

    class Bare(Loose):
        def __init__(self, strength=1.0):
            super().__init__()

    with pytest.raises(SpecError, match="no varargs"):
        Loose(a=1.0)
    with pytest.raises(SpecError, match="'strength' has no type annotation"):
        Bare(strength=1.0)


# --- Spec objects ---


def test_spec_is_read_back_frozen_and_equal_by_content():
    one, two = Inpainting(mask=MASK), Inpainting(mask=MASK.clone())
    assert one.spec == two.spec and hash(one.spec) == hash(two.spec)
    assert one.spec != Inpainting(mask=MASK * 0.5).spec
    with pytest.raises(Exception, match="frozen"):
        one.spec.mask = MASK


def test_spec_follows_at():
    op = Inpainting(mask=MASK)
    assert op.at(mask=0.5 * MASK).spec == Inpainting(mask=0.5 * MASK).spec


@pytest.mark.parametrize("kind", ["operators", "priors", "solvers", "likelihoods", "makers"])
def test_every_component_has_a_json_schema(kind):
    for name in registry.names(kind):
        schema = spec.spec_type(registry.get(kind, name)).model_json_schema()
        assert json.loads(json.dumps(schema))["additionalProperties"] is False, name


def test_schema_says_how_a_tensor_and_a_component_are_given():
    text = json.dumps(spec.spec_type(Knobs).model_json_schema())
    for word in ('"file"', '"make"', "a registered name", '"exclusiveMinimum": 0'):
        assert word in text


# --- tensors from files and makers ---


@pytest.fixture
def mask_file(tmp_path):
    path = tmp_path / "mask.npy"
    np.save(path, MASK.numpy())
    return path


def test_tensor_from_a_file(mask_file):
    op = registry.operator({"name": "inpainting", "mask": {"file": str(mask_file)}})
    assert torch.equal(op.mask, MASK)


def test_tensor_from_a_file_with_a_key(tmp_path):
    np.savez(tmp_path / "both.npz", first=MASK.numpy(), second=0.5 * MASK.numpy())
    op = registry.operator({"name": "inpainting", "mask": {"file": str(tmp_path / "both.npz"), "key": "second"}})
    assert torch.equal(op.mask, 0.5 * MASK)


def test_tensor_from_a_maker():
    made = {"make": "random_mask", "shape": [1, 6, 6], "fraction": 0.5, "seed": 3}
    op = registry.operator({"name": "inpainting", "mask": made})
    assert torch.equal(op.mask, registry.make("random_mask", shape=(1, 6, 6), fraction=0.5, seed=3))
    assert float(op.mask.sum()) == 18


def test_numpy_array_is_copied_and_float64_becomes_the_default_dtype():
    array = MASK.numpy().astype(np.float64)
    op = Inpainting(mask=array)
    array[:] = 0
    assert op.mask.dtype == torch.float32 and torch.equal(op.mask, MASK)
    assert spec.from_numpy(np.ones(2, np.complex128)).dtype == torch.complex64
    assert spec.from_numpy(np.ones(2, bool)).dtype == torch.bool


def test_numpy_array_with_negative_strides_is_taken():
    assert torch.equal(Inpainting(mask=MASK.numpy()[:, ::-1]).mask, MASK.flip(1))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ({"file": "nowhere.npy"}, DataError, r"nowhere.npy does not exist \(looked from"),
        ({"flie": "mask.npy"}, SpecError, "given keys \\['flie'\\]"),
        ({"file": "mask.npy", "kye": "a"}, SpecError, "kye"),
        ({"make": "random_maks", "shape": [1, 4, 4]}, LookupError, "Did you mean 'random_mask'"),
        ({"make": "random_mask", "shape": [1, 4, 4], "fractoin": 0.5}, SpecError, "Did you mean 'fraction'"),
        ({"make": "random_mask", "shape": [1, 4, 4], "fraction": 1.5}, SpecError, "fraction"),
        ({}, SpecError, "A tensor is"),
        (3.0, SpecError, "mask"),
        (None, SpecError, "mask"),
    ],
    ids=str,
)
def test_bad_tensor_source(source, error, message):
    with pytest.raises(error, match=message):
        Inpainting(mask=source)


def test_file_of_an_unknown_type_suggests_readers(tmp_path):
    (tmp_path / "mask.npyy").touch()
    with pytest.raises(LookupError, match=r"No reader is called 'npyy'. Did you mean 'npy'"):
        Inpainting(mask={"file": str(tmp_path / "mask.npyy")})


# --- nested components ---


def test_nested_components_by_name_and_by_mapping():
    nested = {
        "name": "stack",
        "operators": [
            {"name": "identity", "shape": [1, 2, 3]},
            {
                "name": "compose",
                "operators": [{"name": "identity", "shape": [1, 2, 3]}, {"name": "inpainting", "mask": MASK}],
            },
        ],
    }
    op = registry.operator(nested)
    assert isinstance(op, Stack) and isinstance(op.operators[1], Compose) and op.out_shape == (12,)


def test_error_in_a_nested_component_keeps_its_own_message():
    inner = {"name": "identity", "shpae": [1, 2, 3]}
    with pytest.raises(SpecError, match=r"Identity has no parameter 'shpae'. Did you mean 'shape'"):
        registry.operator({"name": "stack", "operators": [inner]})
    with pytest.raises(LookupError, match="Did you mean 'identity'"):
        registry.operator({"name": "stack", "operators": ["identty"]})


def test_component_of_another_kind_is_refused():
    with pytest.raises(SpecError, match="expected Likelihood"):
        SplitLikelihood(parts=(Identity(shape=(1,)),), sizes=(1,))


# --- saving ---


def composed():
    weight = torch.complex(torch.rand(1, 2, 3), torch.rand(1, 2, 3))
    return Stack(
        operators=(Diagonal(weight=weight, shape=(1, 2, 3), complex=True), Identity(shape=(1, 2, 3), complex=True))
    )


@pytest.mark.parametrize(
    "component",
    [
        Inpainting(mask=MASK),
        composed(),
        Gaussian(sigma=0.25),
        Gaussian(sigma=torch.rand(1, 3, 4) + 0.1),
        SplitLikelihood(parts=(Gaussian(sigma=0.1), Poisson(gain=3.0)), sizes=(4, 5)),
    ],
    ids=lambda c: type(c).__name__,
)
def test_saved_form_is_json_and_rebuilds_an_equal_component(component):
    config, tensors = spec.encode(component)
    again = spec.rebuild(component.kind, json.loads(json.dumps(config)), tensors)
    assert type(again) is type(component) and spec.digest(again) == spec.digest(component)


def test_tensors_are_stored_once_by_content():
    same = Stack(operators=(Inpainting(mask=MASK), Inpainting(mask=MASK.clone())))
    config, tensors = spec.encode(same)
    assert len(tensors) == 1
    (key,) = tensors
    assert config["operators"][0]["mask"] == {"sha256": key}


def test_digest_sees_dtype_shape_name_and_every_bit():
    t = torch.tensor([1.0, 2.0])
    others = [t.double(), t.reshape(1, 2), t + torch.tensor([0.0, 2.4e-7]), t.to(torch.complex64)]
    digests = {spec.tensor_digest(x) for x in [t, *others]}
    assert len(digests) == 5
    assert spec.tensor_digest(t) == spec.tensor_digest(torch.tensor([1.0, 9.0, 2.0])[::2])
    z = torch.tensor([1 + 2j])
    assert spec.tensor_digest(z.conj()) == spec.tensor_digest(z.conj().resolve_conj()) != spec.tensor_digest(z)
    assert spec.digest(Gaussian(sigma=1.0)) != spec.digest(Poisson(gain=1.0))


def test_missing_tensor_is_a_data_error():
    config, _ = spec.encode(Inpainting(mask=MASK))
    with pytest.raises(DataError, match="is missing from the file"):
        spec.rebuild("operators", config, {})


def test_what_cannot_be_saved_says_so():
    with pytest.raises(SpecError, match="A function cannot be saved"):
        spec.encode({"f": lambda: None})


def test_encode_takes_none_numbers_and_nested_mappings():
    value = {"a": [1, 2.5, None, True, "s"], "b": {"c": torch.ones(2)}}
    config, tensors = spec.encode(value)
    back = spec.decode(json.loads(json.dumps(config)), tensors)
    assert isinstance(back, Mapping) and back["a"] == value["a"] and torch.equal(back["b"]["c"], torch.ones(2))


# --- precision ---


def test_precision_of_an_operator_without_tensors_is_saved():
    wide = Identity(shape=(1, 2, 3)).to(torch.float64)
    config, tensors = spec.encode(wide)
    assert config["precision"] == "float64"
    assert spec.rebuild("operators", config, tensors).in_dtype == torch.float64
    assert spec.digest(wide) != spec.digest(Identity(shape=(1, 2, 3)))
    assert "precision" not in spec.encode(Identity(shape=(1, 2, 3)))[0]


def test_precision_in_a_config():
    op = registry.operator({"name": "identity", "shape": [1, 2, 3], "complex": True, "precision": "float64"})
    assert op.in_dtype == torch.complex128
    with pytest.raises(SpecError, match=r"precision is one of float32, float64.*given 'float23'"):
        registry.operator({"name": "identity", "shape": [1, 2, 3], "precision": "float23"})
    with pytest.raises(SpecError, match="for operators, likelihoods and priors"):
        registry.solver({"name": "cg", "precision": "float64"})

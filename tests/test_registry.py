"""Names to components: suggestions, duplicates, broken entries, and that everything is registered."""

import importlib
import inspect
import pkgutil
from importlib.metadata import EntryPoint, entry_points

import pytest
import torch

import pnpkit
from pnpkit import registry
from pnpkit.errors import RegistryError, SpecError
from pnpkit.operators.diagonal import Identity
from pnpkit.operators.inpainting import Inpainting
from pnpkit.spec import Component

MASK = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])


@pytest.fixture
def fresh_registry():
    """An empty cache before and after: tests below replace what entry points say."""
    registry._entries.cache_clear()
    yield
    registry._entries.cache_clear()


def with_entries(monkeypatch, *extra: EntryPoint) -> None:
    real = entry_points

    def patched(group: str):
        return [*real(group=group), *(e for e in extra if e.group == group)]

    monkeypatch.setattr(registry, "entry_points", patched)


# --- looking up ---


def test_names_are_sorted_and_hold_the_built_ins():
    names = registry.names("operators")
    assert names == sorted(names) and {"identity", "inpainting", "blur", "mri"} <= set(names)


def test_get_loads_the_class_and_name_of_is_the_inverse():
    assert registry.get("operators", "inpainting") is Inpainting
    assert registry.name_of("operators", Inpainting) == "inpainting"
    assert registry.name_of("operators", Inpainting(mask=MASK)) == "inpainting"
    assert registry.name_of("priors", Inpainting) is None


def test_name_of_an_unregistered_class_of_the_same_name_is_none():
    impostor = type("Inpainting", (Inpainting,), {})
    assert registry.name_of("operators", impostor) is None


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("inpaintin", "inpainting"), ("Identity", "identity"), ("super-resolution", "super_resolution")],
)
def test_misspelt_name_suggests(wrong, meant):
    with pytest.raises(RegistryError, match=f"No operator is called '{wrong}'. Did you mean '{meant}'"):
        registry.get("operators", wrong)


def test_hopeless_name_lists_what_is_known():
    with pytest.raises(RegistryError, match=r"Known: .*gaussian, poisson, split"):
        registry.get("likelihoods", "zzzzz")


def test_misspelt_kind_suggests():
    with pytest.raises(RegistryError, match=r"'solver' is not a kind of component. Did you mean 'solvers'"):
        registry.names("solver")


def test_lazy_public_names():
    assert pnpkit.operators.Inpainting is Inpainting
    with pytest.raises(AttributeError, match="Did you mean 'Inpainting'"):
        pnpkit.operators.Inpaintng  # noqa: B018


# --- duplicates and broken entries ---


def test_a_name_registered_by_two_packages_is_refused(monkeypatch, fresh_registry):
    with_entries(monkeypatch, EntryPoint("blur", "other_package:Blur", "pnpkit.operators"))
    with pytest.raises(
        RegistryError, match=r"'blur' is registered twice.*pnpkit.operators.blur:Blur.*other_package:Blur"
    ):
        registry.get("operators", "inpainting")  # any use of the kind: nobody finds out later


def test_the_same_entry_seen_twice_is_one(monkeypatch, fresh_registry):
    """An editable install beside a wheel lists its entry points twice."""
    with_entries(monkeypatch, EntryPoint("inpainting", "pnpkit.operators.inpainting:Inpainting", "pnpkit.operators"))
    assert registry.names("operators").count("inpainting") == 1


def test_a_broken_entry_hurts_only_itself(monkeypatch, fresh_registry):
    with_entries(
        monkeypatch,
        EntryPoint("gone", "no_such_package:Thing", "pnpkit.operators"),
        EntryPoint("nameless", "pnpkit.operators.inpainting:NoSuchClass", "pnpkit.operators"),
    )
    assert registry.get("operators", "inpainting") is Inpainting
    with pytest.raises(RegistryError, match=r"'gone' \(no_such_package:Thing\) cannot be imported.*Install"):
        registry.get("operators", "gone")
    with pytest.raises(RegistryError, match=r"'nameless'.*NoSuchClass"):
        registry.get("operators", "nameless")


# --- building ---


def test_build_from_a_name_a_mapping_and_an_object():
    built = registry.operator({"name": "identity", "shape": [1, 4, 4]})
    assert isinstance(built, Identity) and built.in_shape == (1, 4, 4)
    assert registry.build("operators", built) is built
    assert registry.likelihood({"name": "gaussian", "sigma": 0.1}).sigma.item() == pytest.approx(0.1)
    assert type(registry.likelihood("poisson")).__name__ == "Poisson"


def test_a_mapping_without_a_name_says_what_it_has():
    with pytest.raises(SpecError, match="mapping with a 'name'; given keys: shape"):
        registry.operator({"shape": [1, 4, 4]})


def test_build_does_not_change_the_config():
    config = {"name": "identity", "shape": [1, 4, 4]}
    registry.operator(config)
    assert config == {"name": "identity", "shape": [1, 4, 4]}


def test_make_validates_its_arguments():
    kernel = registry.make("gaussian_kernel", size=5, std=1.0)
    assert kernel.shape[-2:] == (5, 5) and float(kernel.sum()) == pytest.approx(1.0)
    with pytest.raises(SpecError, match=r"sdt.*Did you mean 'std'"):
        registry.make("gaussian_kernel", size=5, sdt=1.0)
    with pytest.raises(SpecError, match="size"):
        registry.make("gaussian_kernel", size="5", std=1.0)
    with pytest.raises(RegistryError, match="gaussian_kernel"):
        registry.make("gausian_kernel", size=5, std=1.0)


# --- everything is registered ---

# Made by a method of another component, never by name.
BY_METHOD = {
    "pnpkit.priors.base:Given": "PosteriorDenoiser.given(problem)",
    "pnpkit.priors.adapt:Adapted": "from_vp(network, domain) and its like",
    "pnpkit.bridges.wrapped:WrappedArrays": "from_scipy(matrix, in_shape), from_sigpy(linop)",
    "pnpkit.bridges.wrapped:WrappedTensors": "from_deepinv(physics)",
    "pnpkit.bridges.wrapped:WrappedNonLinear": "from_deepinv(physics)",
    "pnpkit.bridges.sigpy:SigpyProx": "prox_from_sigpy(prox)",
    "pnpkit.bridges.deepinv:DeepinvDenoiser": "denoiser_from_deepinv(network, domain)",
    "pnpkit.bridges.deepinv:DeepinvPrior": "prior_from_deepinv(prior)",
    "pnpkit.bridges.methods:WholeMethod": "method_from_deepinv(model), method_from_sigpy(build)",
}
# Bases that declare no abstract method of their own.
BASES = {
    "pnpkit.spec:Component",
    "pnpkit.priors.base:Prior",
    "pnpkit.bridges.registered:FromPhysics",
    "pnpkit.bridges.networks:Published",
}


def concrete_components() -> dict[str, type]:
    """Every concrete Component class that pnpkit defines, the conformance suite's references apart."""
    found = {}
    for info in pkgutil.walk_packages(pnpkit.__path__, "pnpkit."):
        if info.name.startswith("pnpkit.testing.test_") or info.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            own = inspect.isclass(value) and issubclass(value, Component) and value.__module__.startswith("pnpkit.")
            if own and not inspect.isabstract(value) and not value.__name__.startswith("_"):
                found[f"{value.__module__}:{value.__qualname__}"] = value
    return {k: v for k, v in found.items() if not k.startswith("pnpkit.testing.") and k not in BASES}


def test_every_concrete_component_is_registered():
    components = concrete_components()
    assert len(components) > 40
    missing = [k for k, cls in components.items() if registry.name_of(cls.kind, cls) is None and k not in BY_METHOD]
    assert missing == [], "add an entry point for each of these in pyproject.toml"


def test_exceptions_to_registration_exist_and_are_not_registered():
    for path in BY_METHOD:
        cls = concrete_components()[path]
        assert registry.name_of(cls.kind, cls) is None


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_entry_point_loads_and_is_of_its_kind(kind):
    for name in registry.names(kind):
        loaded = registry.get(kind, name)
        if kind in ("operators", "likelihoods", "priors", "solvers"):
            assert issubclass(loaded, Component) and loaded.kind == kind, name
            assert not inspect.isabstract(loaded), name
        else:
            assert inspect.isfunction(loaded), name
        assert name == name.lower() and " " not in name and "-" not in name, "names are lower snake case"

"""Settings at the door: what is read, and every way in which a value can be refused."""

from dataclasses import dataclass, fields

import pytest
from ml_collections import ConfigDict

from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import as_dict, read_settings, section, setting


@dataclass(frozen=True)
class Plain:
    size: int = setting(3, least=1, most=9)


@dataclass(frozen=True)
class Named(Plain):
    name: str = setting("", wrong=lambda name: "has no vowel" if name and "a" not in name else "")

    @staticmethod
    def among(beside):
        return Named if beside.get("kind") == "b" else Plain


@dataclass(frozen=True)
class Whole:
    kind: str = setting("a", choices=("a", "b"))
    rate: float = setting(0.5)
    flag: bool = setting(False)
    sizes: tuple[float, ...] = setting((1.0,))
    inner: Plain = section(Plain)
    named: Named = section(Named)


@dataclass(frozen=True)
class Renamed:
    mode: str = setting("off", choices=("off", "on"), was={True: "on"})


@dataclass(frozen=True)
class Ways:
    way: str = setting("fast", decisive=False)


def test_what_is_missing_has_its_default():
    assert read_settings(Whole, {}) == Whole()
    settings = read_settings(Whole, {"rate": 1, "sizes": [2, 3.5], "inner": {"size": 9}})
    assert settings == Whole(rate=1, sizes=(2, 3.5), inner=Plain(9))


@pytest.mark.parametrize("size", [1, 9])
def test_bounds_themselves_are_allowed(size):
    assert read_settings(Whole, {"inner": {"size": size}}).inner == Plain(size)


@pytest.mark.parametrize("earlier", [True, "True"])
def test_a_value_of_an_earlier_version_is_read_as_todays(earlier):
    assert read_settings(Renamed, {"mode": earlier}) == Renamed("on")
    with pytest.raises(UsageError, match="mode=1: expected str"):
        read_settings(Renamed, {"mode": 1})


def test_what_no_result_depends_on_names_no_result():
    assert repr(Ways("slow")) == repr(Ways("fast")) and Ways("slow") != Ways("fast")


def test_there_and_back_through_a_config():
    settings = Whole(kind="b", sizes=(), named=Named(2, "ba"))
    assert read_settings(Whole, ConfigDict(as_dict(settings))) == settings
    assert [field.name for field in fields(Whole)] == list(as_dict(settings))


def test_a_class_is_chosen_by_the_fields_beside_it():
    assert read_settings(Whole, {"kind": "b", "named": {"name": "a"}}).named == Named(3, "a")
    with pytest.raises(UsageError, match=r"named\.name: unknown; known: size"):
        read_settings(Whole, {"kind": "a", "named": {"name": "a"}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": 1}, "colour: unknown; known: kind, rate, flag, sizes, inner, named"),
        ({"kind": "c"}, "kind='c': unknown; known: a, b"),
        ({"inner": {"size": 0}}, "inner.size=0: at least 1"),
        ({"inner": {"size": 10}}, "inner.size=10: at most 9"),
        ({"inner": {"size": 1.5}}, "inner.size=1.5: expected int"),
        ({"inner": {"size": True}}, "inner.size=True: expected int"),
        ({"inner": 3}, "inner=3: expected settings"),
        ({"flag": 1}, "flag=1: expected bool"),
        ({"rate": "fast"}, "rate='fast': expected float"),
        ({"sizes": 2.0}, "sizes=2.0: expected a list of float"),
        ({"sizes": [2.0, float("inf")]}, "sizes=\\[2.0, inf\\]: expected a finite number"),
        ({"sizes": ["2"]}, "sizes=\\['2'\\]: expected a list of float"),
        ({"kind": "b", "named": {"name": "xyz"}}, "named.name='xyz': has no vowel"),
    ],
)
def test_each_misfit_is_named(values, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        read_settings(Whole, values)


def test_all_misfits_are_named_at_once():
    with pytest.raises(UsageError, match=r"colour: unknown.*; kind='c': .*; flag=2: "):
        read_settings(Whole, {"kind": "c", "flag": 2, "colour": 1})


@dataclass(frozen=True)
class Open:
    rate: float = setting(1.0, above=0)


@pytest.mark.parametrize(
    ("rate", "message"), [(0, "more than 0"), (-1.0, "more than 0"), (float("nan"), "finite"), (float("inf"), "finite")]
)
def test_open_bounds_and_numbers_that_are_none(rate, message):
    assert read_settings(Open, {"rate": 1e-9}) == Open(1e-9)
    with pytest.raises(UsageError, match=rf"rate=.*{message}"):
        read_settings(Open, {"rate": rate})

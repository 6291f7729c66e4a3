"""Hugging Face checkpoints -> stacked nnx modules, and back.

A port declares a table of `Rule`s beside its module: one line per kind of tensor, read in both directions.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mer_jax.checkpoints.hub import Source, commit_of, download
from mer_jax.checkpoints.weight_files import Header, tensors_of, weight_files
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_object, write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Module = TypeVar("Module", bound=nnx.Module)

REPLICATED = P()
MOST_BYTES = 2**28  # of a file that holds no weights
SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt"}  # of a checkpoint's content


class Transform(NamedTuple):
    """How a checkpoint's tensor becomes ours: `load` gives one array per target, `save` undoes it."""

    load: Callable[[np.ndarray], Sequence[np.ndarray]]
    save: Callable[..., np.ndarray]


IDENTITY = Transform(lambda x: [x], lambda x: x)
TRANSPOSE = Transform(lambda x: [x.T], lambda x: x.T)  # torch Linear [out, in] <-> kernel [in, out]
# torch Conv [out, in, *window] <-> kernel [*window, in, out]
CONV = Transform(
    lambda x: [x.transpose(*range(2, x.ndim), 1, 0)], lambda x: x.transpose(x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))
)
# torch Linear [3 out, in], three layers in one <-> three kernels [in, out]
SPLIT3 = Transform(lambda x: np.split(x.T, 3, axis=1), lambda *x: np.concatenate(x, axis=1).T)
SPLIT3_BIAS = Transform(lambda x: np.split(x, 3), lambda *x: np.concatenate(x))  # and theirs [3 out]


@dataclass(frozen=True)
class Rule:
    """One kind of tensor. A rule whose target a module lacks is for other configs of the port.

    Attributes:
        source: its name in the checkpoint, or alternative names, the first of which is written on saving.
            `{layer}` stands for the index on the leading, stacked axis of the target.
        target: dotted path of the variable in our module, or several paths if `transform` splits the tensor.
            None: `source` is a glob of tensors that are known and not needed.
        transform: between the checkpoint's layout and ours.
        partition: of the target, stacked axis included, over the mesh given to `load_pretrained`.
        dtype: overrides the dtype given to `load_pretrained`.
        spare: a name that stands for the others where the checkpoint has none of them.
        missing: what the variable is filled with where the checkpoint has no such tensor; None: that is an error.
    """

    source: str | tuple[str, ...]
    target: str | tuple[str, ...] | None
    transform: Transform = IDENTITY
    partition: P = REPLICATED
    dtype: Any = None
    spare: str = ""
    missing: float | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,) if isinstance(self.target, str) else self.target or ()


def linear(source: str, target: str, partition: P = REPLICATED) -> list[Rule]:
    """A linear layer's kernel [(layers,) in, out], and its bias, which is split as the outputs are."""
    return [
        Rule(f"{source}.weight", f"{target}.kernel", TRANSPOSE, partition),
        Rule(f"{source}.bias", f"{target}.bias", partition=P(*partition[:1], *partition[2:])),
    ]


def norm(source: str, target: str) -> list[Rule]:
    """A normalisation's scale and bias."""
    return [Rule(f"{source}.weight", f"{target}.scale"), Rule(f"{source}.bias", f"{target}.bias")]


class _Slot(NamedTuple):
    """A tensor that the module needs: its possible names and where it goes."""

    names: tuple[str, ...]
    rule: Rule
    layer: int | None


def fetch(source: str | Path, weights: bool = True) -> Path:
    """The folder of a checkpoint in Hugging Face layout.

    Args:
        source: a folder; "bundled/clip", "bundled/hubert" or "bundled/baichuan", the small ones that come with the
            package; or a name on the hub, `user/name` or `user/name@revision`, which is downloaded if need be.
        weights: whether the weights have to be there.

    Raises:
        DataError: there is no such folder and the hub does not give one, or it has no `config.json`.
    """
    parsed = Source.parse(str(source))
    folder = parsed.folder or download(parsed, weights)
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder}: no config.json; expected a checkpoint folder in Hugging Face layout.")
    check_files(folder)
    return folder


def check_files(folder: Path) -> None:
    """Raises DataError for what would be waited for, or read without end: pipes, devices, files of absurd sizes."""
    for path in content_files(folder):
        if not path.is_file():
            raise DataError(f"{path}: not a regular file; download the checkpoint again.")
        if path.suffix == ".safetensors":
            next(tensors_of(path, ()), None)  # what is none is not hashed
        elif path.suffix == ".bin":
            if path.name.startswith("pytorch_model") and not any(folder.glob("*.safetensors")):
                next(tensors_of(path, ()), None)
        elif (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"{path}: of {size / 2**30:.1f} GiB, which no checkpoint has; download it again.")


def content_files(folder: Path) -> list[Path]:
    """All that makes a checkpoint what it is, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def fingerprint(folder: Path) -> str:
    """Digest of every json and model file in a folder, names and content."""
    paths = content_files(folder)
    with ThreadPoolExecutor() as readers:  # hashing leaves Python's lock, so that shards are read side by side
        contents = list(readers.map(lambda path: _content(path, path.stat().st_size, path.stat().st_mtime_ns), paths))
    named = [f"{path.name}|{content}" for path, content in zip(paths, contents, strict=True)]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:32]


def checkpoint_facts(source: str) -> dict[str, str]:
    """Which weights a run used: the source, the commit that the hub had under that name, the content's digest."""
    folder = fetch(source)
    return {"source": source, "commit": commit_of(folder), "fingerprint": fingerprint(folder)}


@cache
def _content(path: Path, size: int, changed: int) -> str:
    """Digest of a file, read again in this process only if its size or time of change is another."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_config(folder: Path, classes: Mapping[str, type["PreTrainedConfig"]]) -> Any:
    """The configuration of a checkpoint, of the class that belongs to the `model_type` in its `config.json`.

    Raises:
        DataError: `config.json` is broken, of another model or of quantised weights.
    """
    file = folder / "config.json"
    fields = load_object(file)
    model_type, quantised = fields.get("model_type"), fields.get("quantization_config")
    if not isinstance(model_type, str) or model_type not in classes:
        raise DataError(f"{file}: model_type is {model_type!r}; expected {' or '.join(classes)}.")
    if quantised:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else quantised
        raise DataError(
            f"{file}: quantization_config (quant_method {method}): quantised weights are not supported; use the "
            "checkpoint that they were made from."
        )
    try:
        check_sizes(file, fields)
        return classes[model_type].from_pretrained(folder)
    except DataError:
        raise
    except Exception as error:  # whatever transformers makes of a field
        raise DataError(f"{file}: transformers cannot read it ({' '.join(str(error).split())}).") from error


SIZES = re.compile(
    r"(hidden|intermediate|vocab|image|patch|head|projection|conv)_(size|dim)|conv_(kernel|stride)|num_.*_(layers|heads)"
    r"|num_conv_pos_embedding(s|_groups)|num_key_value_heads|d_model|encoder_(layers|ffn_dim|attention_heads)|num_mel_bins"
)
"""Fields of a config that say how large a network is."""
SLACK = 2**20  # more than the weights' bytes that such a field may say, and does no harm


def check_sizes(file: Path, fields: Mapping[str, Any]) -> None:
    """Compares the sizes that a `config.json` claims with those of the weights beside it, before any is allocated.

    Raises:
        DataError: a network of these sizes has more numbers than the files have bytes, or none.
    """
    weights = sum(path.stat().st_size for suffix in ("safetensors", "bin") for path in file.parent.glob(f"*.{suffix}"))
    sizes = {name: value for name, value in fields.items() if SIZES.fullmatch(name) and value is not None}
    least = sizes.get("num_hidden_layers", 1), sizes.get("hidden_size", 1)
    if all(isinstance(value, int) for value in least):
        sizes["num_hidden_layers x hidden_size"] = max(least[0], 0) * max(least[1], 0)
    for name, value in sizes.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int | float) and not (1 <= each <= (weights or MOST_BYTES) + SLACK and each % 1 == 0):
                claim = f"{name} is {each!r}, and the weights hold {weights:,} bytes"
                raise DataError(f"{file}: {claim}; download it again.")
    for section in fields.values():
        if isinstance(section, dict):
            check_sizes(file, section)


def load_pretrained(
    factory: Callable[..., Module],
    rules: Sequence[Rule],
    folder: Path,
    dtype: Any = jnp.float32,
    mesh: Mesh | None = None,
    prefixes: Sequence[str] = (),
) -> Module:
    """Builds a module with the weights of a checkpoint, tensor by tensor from the file to the device.

    Stacked variables are filled in place on the device, so the host never holds more than the tensor in hand.

    Args:
        factory: makes the module from `rngs`; only traced, no random weights are made.
        rules: the port's table; it must cover every variable of the module.
        folder: in Hugging Face layout, see `fetch`.
        dtype: of the loaded variables, where the rule has none of its own.
        mesh: devices to spread the variables over, by each rule's `partition`. None: the default device.
        prefixes: dropped from the checkpoint's names that start with them, in this order ("hubert." of a task model),
            as WRAPPERS always are.

    Raises:
        DataError: broken files, quantised weights, numbers that are not finite, a part of the model that is not there,
            or tensors missing, unexpected, misshapen or there twice (all are listed).
    """
    graphdef, state = nnx.split(nnx.eval_shape(lambda: factory(rngs=nnx.Rngs(0))))
    shapes = {_dotted(path): variable.shape for path, variable in nnx.to_flat_state(state)}
    files = weight_files(folder)
    stored = [header for file in files for header, _ in tensors_of(file, prefixes)]
    names = {header.name for header in stored}
    rules = [replace(rule, source=rule.spare) if _needs_spare(rule, names) else rule for rule in rules]
    slots = {name: slot for slot in _slots(rules, shapes) for name in slot.names}
    _check(folder, stored, rules, slots, shapes)

    arrays: dict[str, jax.Array] = {}
    for file in files:
        for header, read in tensors_of(file, prefixes):
            if header.name not in slots:
                continue
            _, rule, layer = slots[header.name]
            to = rule.dtype or dtype
            partitions = (rule.partition, P(*rule.partition[1:]))  # of the variable, and of one layer of it
            whole, part = (None if mesh is None else NamedSharding(mesh, partition) for partition in partitions)
            if not all_finite(tensor := read()):
                raise DataError(f"{file}: {header.name} holds numbers that are not finite; download it again.")
            for target, array in zip(rule.targets, rule.transform.load(tensor), strict=True):
                if layer is None:
                    arrays[target] = jax.device_put(array.astype(to), whole)
                    continue
                if target not in arrays:
                    arrays[target] = jnp.zeros(shapes[target], to, device=whole)
                arrays[target] = _set_layer(arrays[target], jax.device_put(array.astype(to), part), layer)
    for rule in rules:
        if rule.missing is not None:
            whole = None if mesh is None else NamedSharding(mesh, rule.partition)
            for target in shapes.keys() & set(rule.targets) - arrays.keys():
                arrays[target] = jnp.full(shapes[target], rule.missing, rule.dtype or dtype, device=whole)
    return nnx.merge(graphdef, nnx.map_state(lambda path, v: v.replace(arrays[_dotted(path)]), state))


def save_pretrained(module: nnx.Module, rules: Sequence[Rule], config: Any, folder: str | Path) -> None:
    """Writes `config.json` and `model.safetensors` as transformers does; dtypes stay as they are."""
    folder = Path(folder)
    arrays = {_dotted(path): np.asarray(v[...]) for path, v in nnx.to_flat_state(nnx.state(module))}
    tensors = {}
    for names, rule, layer in _slots(rules, {path: array.shape for path, array in arrays.items()}):
        parts = [arrays[target] if layer is None else arrays[target][layer] for target in rule.targets]
        tensors[names[0]] = np.array(rule.transform.save(*parts), order="C")
    with write_whole(folder / "model.safetensors", "wb") as file:
        file.write(safetensors.numpy.save(tensors, metadata={"format": "pt"}))
    config.save_pretrained(folder)


def all_finite(tensor: np.ndarray) -> bool:
    """Whether every number is one; of bfloat16, which numpy takes long to look at, by their bits."""
    if tensor.dtype == jnp.bfloat16:
        exponent = np.uint16(0x7F80)
        return not ((tensor.view(np.uint16) & exponent) == exponent).any()
    return bool(np.isfinite(tensor).all())


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


@partial(jax.jit, donate_argnums=0)
def _set_layer(stack: jax.Array, tensor: jax.Array, layer: int) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(stack, tensor, layer, axis=0)


def _slots(rules: Sequence[Rule], shapes: dict[str, tuple[int, ...]]) -> list[_Slot]:
    """Every tensor that `rules` ask for; a table that does not cover the module is a bug in the port."""
    rules = [rule for rule in rules if rule.targets and shapes.keys() >= set(rule.targets)]
    if missing := shapes.keys() - {target for rule in rules for target in rule.targets}:
        raise ValueError(f"the module has variables without a rule: {sorted(missing)}")
    slots = []
    for rule in rules:
        stacked = "{layer}" in rule.sources[0]
        for layer in range(shapes[rule.targets[0]][0]) if stacked else [None]:
            names = tuple(name.replace("{layer}", str(layer)) for name in rule.sources)
            slots.append(_Slot(names, rule, layer))
    return slots


def _needs_spare(rule: Rule, names: set[str]) -> bool:
    return rule.spare in names and not names & set(rule.sources)


def _check(
    folder: Path,
    stored: Sequence[Header],
    rules: Sequence[Rule],
    slots: dict[str, _Slot],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Compares names and shapes, from the files' headers alone."""
    ignored = [name for rule in rules if rule.target is None for name in rule.sources]
    needed = [t for t in stored if t.name in slots or not any(fnmatchcase(t.name, glob) for glob in ignored)]
    if quantised := [tensor.name for tensor in needed if tensor.quantised]:
        raise DataError(
            f"{folder}: {len(quantised)} tensors ({quantised[0]}, ...) are quantised, which is not supported: use the "
            "checkpoint that they were made from."
        )
    stored_shapes = {tensor.name: tensor.shape for tensor in needed}
    parts: dict[str, list[bool]] = defaultdict(list)  # of each part, which of its tensors are there
    for names in {slot.names for slot in slots.values()}:
        parts[names[0].partition(".")[0]].append(not stored_shapes.keys().isdisjoint(names))
    lacking = sorted(part for part, there in parts.items() if len(there) > 9 and not any(there))
    if lacking and stored_shapes.keys() & slots.keys():
        raise DataError(
            f"{folder}: its weights hold no {' and no '.join(lacking)}, which config.json promises: use the whole "
            "checkpoint, not one of a single part."
        )
    problems = [f"unexpected: {name} {list(shape)}" for name, shape in stored_shapes.items() if name not in slots]
    times = Counter(tensor.name for tensor in needed)
    problems += [f"there {count} times: {name}" for name, count in times.items() if count > 1]
    for names, rule, layer in dict.fromkeys(slots.values()):
        present = [name for name in names if name in stored_shapes]
        if not present and rule.missing is None:
            problems.append(f"missing: {' or '.join(names)}")
        if len(present) > 1:
            problems.append(f"one tensor under two names: {' and '.join(present)}")
        expected = [shapes[target][layer is not None :] for target in rule.targets]
        for name in present:
            try:
                # A tensor of the right shape that takes no memory.
                loaded = rule.transform.load(np.broadcast_to(np.float32(0), stored_shapes[name]))
            except ValueError:
                loaded = []
            if [tensor.shape for tensor in loaded] != expected:
                parts_of = [np.broadcast_to(np.bool_(0), shape) for shape in expected]
                wanted = list(rule.transform.save(*parts_of).shape)
                problems.append(f"misshapen: {name} {list(stored_shapes[name])}, expected {wanted}")
    if problems:
        raise DataError(f"{folder}: the weights do not fit config.json: " + "; ".join(sorted(problems)))

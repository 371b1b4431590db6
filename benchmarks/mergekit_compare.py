"""mergekit and `crdtmerge merge` on the same configurations, item by item.

    python benchmarks/mergekit_compare.py --mergekit ENVIRONMENT [--large] [--json OUT]

ENVIRONMENT is a virtual environment with mergekit in it (its own: the pins of torch and
pydantic are not ours). Without one the comparison is skipped, with a message. The models
are small random Llamas, made here. Differences are given in units of the last place, of
each item itself and of its tensor's largest item: sums that cancel make the first large.
Times and peak memory are those of whole commands in turn, importing torch included; with
`--large` the models have 84 million parameters each.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crdtmerge.formats.folder import open_tensor, read_folder
from crdtmerge.formats.shards import lay_out_model
from crdtmerge.formats.writer import ModelWriter, create_files
from crdtmerge.numerics import Floats, downcast, upcast


@dataclass(frozen=True)
class Sizes:
    """The sizes of a Llama."""

    hidden: int
    inner: int
    words: int
    layers: int


SMALL, LARGE = Sizes(64, 160, 96, 3), Sizes(1024, 2816, 4000, 6)
NAMES = {"F32": "float32", "BF16": "bfloat16"}
OPTIONS = ("--quiet", "--no-cuda", "--no-copy-tokenizer", "--no-write-model-card")
MANTISSA = {"F32": 23, "BF16": 7}
TWO = (
    "models: [{model: a, parameters: {weight: 0.5}},"
    " {model: b, parameters: {weight: 1.5}}]"
)
THREE = TWO[:-1] + ", {model: c, parameters: {weight: 1}}]"
OWN = THREE.replace("weight: 0.5", "weight: 0.5, density: 0.25")
PLAIN = "models: [{model: a}, {model: b}, {model: c}]"
KIN = "models: [{model: kin-a}, {model: kin-b}, {model: kin-c}]"
WIDE = TWO.replace("model: b", "model: far")
RISING = (
    "models: [{model: a, parameters: {weight: [0.25, 1]}},"
    " {model: b, parameters: {weight: [{filter: mlp, value: [1, 0.5, 0.75]},"
    " {filter: lm_head, value: 2}, {value: 0.5}]}}]"
)
ENDS = "models: [{model: base}, {model: a}]\nbase_model: base"
FAR = "models: [{model: base}, {model: far}]\nbase_model: base"


def slices(*found: str, more: str = "") -> str:
    """Return slices, each `MODEL FIRST STOP [PARAMETERS]`, sources parted by semicolons."""
    lines = ["slices:"]
    for text in found:
        lines.append("- sources:")
        for source in text.split(";"):
            model, first, stop, *own = source.split(maxsplit=3)
            given = f", parameters: {own[0]}" if own else ""
            lines.append(
                f"  - {{model: {model}, layer_range: [{first}, {stop}]{given}}}"
            )
    return "\n".join(lines) + f"\n{more}"


CONFIGURATIONS = {
    "linear": f"merge_method: linear\n{THREE}",
    "linear, sum": f"merge_method: linear\n{THREE}\nparameters: {{normalize: false}}",
    "linear, with base": "merge_method: linear\nbase_model: base\n"
    "models: [{model: a}, {model: b}]\nparameters: {weight: 1}",
    "task_arithmetic": f"merge_method: task_arithmetic\nbase_model: base\n{THREE}\n"
    "parameters: {lambda: 0.4}",
    "task_arithmetic, normalize": "merge_method: task_arithmetic\nbase_model: base\n"
    f"{THREE}\nparameters: {{normalize: true}}",
    "task_arithmetic, negative": "merge_method: task_arithmetic\nbase_model: base\n"
    f"{THREE.replace('1.5', '-0.5')}",
    "ties, density 1": f"merge_method: ties\nbase_model: base\n{THREE}",
    "ties, density 0.5": f"merge_method: ties\nbase_model: base\n{THREE}\n"
    "parameters: {density: 0.5, lambda: 0.7}",
    "ties, own densities": f"merge_method: ties\nbase_model: base\n{OWN}\n"
    "parameters: {density: 0.5, normalize: false}",
    "ties, negative": "merge_method: ties\nbase_model: base\n"
    f"{THREE.replace('1.5', '-0.5')}\nparameters: {{density: 0.5}}",
    "slerp, near": f"merge_method: slerp\n{ENDS}\nparameters: {{t: 0.3}}",
    "slerp, far": f"merge_method: slerp\n{FAR}\nparameters: {{t: 0.3}}",
    "nuslerp": f"merge_method: nuslerp\nbase_model: base\n{TWO}",
    "nuslerp, no base": f"merge_method: nuslerp\n{TWO.replace('model: b', 'model: far')}",
    "nuslerp, rows": f"merge_method: nuslerp\nbase_model: base\n{TWO}\n"
    "parameters: {nuslerp_flatten: false}",
    "nuslerp, columns": f"merge_method: nuslerp\nbase_model: base\n{TWO}\n"
    "parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}",
    "dare_linear, density 1": f"merge_method: dare_linear\nbase_model: base\n{THREE}",
    "dare_ties, density 1": f"merge_method: dare_ties\nbase_model: base\n{THREE}",
    "multislerp": f"merge_method: multislerp\nbase_model: base\n{THREE}",
    "multislerp, no base": f"merge_method: multislerp\n{WIDE}",
    "karcher, near": f"merge_method: karcher\n{PLAIN}",
    "karcher, far": "merge_method: karcher\nmodels: [{model: a}, {model: far}]",
    "model_stock": f"merge_method: model_stock\nbase_model: base\n{KIN}",
    "model_stock, apart": f"merge_method: model_stock\nbase_model: base\n{PLAIN}",
    "model_stock, rows": f"merge_method: model_stock\nbase_model: base\n{KIN}\n"
    "parameters: {filter_wise: true}",
    "passthrough, scaled": "merge_method: passthrough\nmodels: [{model: a, parameters:"
    " {scale: [{filter: down_proj, value: 0}, {value: [1, 0.5, 2]}]}}]",
    "nearswap": f"merge_method: nearswap\n{ENDS}\nparameters: {{t: 0.01}}",
    "arcee_fusion": f"merge_method: arcee_fusion\n{ENDS}",
    "breadcrumbs": f"merge_method: breadcrumbs\nbase_model: base\n{THREE}\n"
    "parameters: {density: 0.5, gamma: 0.125, lambda: 0.5}",
    "breadcrumbs_ties": f"merge_method: breadcrumbs_ties\nbase_model: base\n{THREE}\n"
    "parameters: {density: 0.5, gamma: 0.125}",
    "della, density 1": f"merge_method: della\nbase_model: base\n{THREE}",
    "della_linear, density 1": f"merge_method: della_linear\nbase_model: base\n{THREE}",
    "sce": f"merge_method: sce\nbase_model: base\n{PLAIN}",
    "sce, select 0.25": f"merge_method: sce\nbase_model: base\n{PLAIN}\n"
    "parameters: {select_topk: 0.25}",
    "ram": f"merge_method: ram\nbase_model: base\n{PLAIN}\n"
    "parameters: {epsilon: 0.01}",
    "ramplus_tl": f"merge_method: ramplus_tl\nbase_model: base\n{PLAIN}\n"
    "parameters: {epsilon: 0.01, r: 0.5, alpha: 2}",
    "slerp, t by depth": f"merge_method: slerp\n{FAR}\nparameters: {{t: "
    "[{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]},"
    " {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}, {value: 0.5}]}",
    "linear, weights by depth": f"merge_method: linear\n{RISING}",
    "ties, filtered": f"merge_method: ties\nbase_model: base\n{RISING}\n"
    "parameters: {density: [{filter: layers.1, value: 1}, {filter: mlp, value:"
    " [0.25, 0.75]}, {filter: '*', value: 0.5}, {filter: q_proj, value: 1}]}",
    "slices, passthrough": slices("a 0 2", "b 1 3", more="merge_method: passthrough"),
    "slices, repeated": slices(
        "a 0 3", "a 1 3", "a 0 1", more="merge_method: passthrough\nbase_model: base"
    ),
    "slices, blocks of zeros": slices(
        "a 0 2",
        "a 1 2 {scale: [{filter: o_proj, value: 0}, {filter: down_proj, value: "
        "0}, {value: 1}]}",
        "a 2 3",
        more="merge_method: passthrough",
    ),
    "slices, linear": slices(
        "a 0 2 {weight: 0.5}; b 0 2 {weight: 1.5}",
        "c 1 3 {weight: [0.25, 1]}; a 0 2 {weight: 1}",
        more="merge_method: linear",
    ),
    "slices, one source less": slices(
        "a 0 2; far 0 2", "b 2 3", more="merge_method: linear\nparameters: {weight: 1}"
    ),
    "slices, slerp": slices(
        "base 0 3; far 0 3",
        more="merge_method: slerp\nbase_model: base\nparameters: {t: [{filter: "
        "self_attn, value: [0, 0.5, 1]}, {filter: mlp, value: [1, 0.25]}, {value: 0.5}]}",
    ),
    "slices, slerp in parts": slices(
        "base 0 2; a 0 2",
        "base 1 3; far 1 3",
        more="merge_method: slerp\nbase_model: base\nparameters: {t: [{filter: "
        "layers.2, value: 0.125}, {value: [0.25, 0.75]}]}",
    ),
    "slices, ties": slices(
        "base 0 2; a 0 2 {weight: 0.5}; b 0 2 {weight: 1}",
        "base 1 3; a 1 3 {weight: 1, density: 0.25}; c 1 3 {weight: [1, 0.5]}",
        more="merge_method: ties\nbase_model: base\nparameters: {density: 0.5}",
    ),
    "slices, model_stock": slices(
        "base 0 2; kin-a 0 2; kin-b 0 2",
        "base 1 3; kin-b 1 3; kin-c 1 3",
        more="merge_method: model_stock\nbase_model: base",
    ),
}
"""All of mergekit's methods, none with random masks: two runs of its own differ there."""


def shapes(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the tensors of a Llama."""
    hidden, inner = sizes.hidden, sizes.inner
    yield "model.embed_tokens.weight", (sizes.words, hidden)
    for layer in range(sizes.layers):
        place = f"model.layers.{layer}."
        for name in "qkvo":
            yield f"{place}self_attn.{name}_proj.weight", (hidden, hidden)
        for name in ("gate", "up"):
            yield f"{place}mlp.{name}_proj.weight", (inner, hidden)
        yield f"{place}mlp.down_proj.weight", (hidden, inner)
        yield f"{place}input_layernorm.weight", (hidden,)
        yield f"{place}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (sizes.words, hidden)


def write_models(folder: Path, dtype: str, sizes: Sizes) -> None:
    """Write a base, fine-tunes near it, and a model far from it.

    The steps of a, b and c have nothing in common, half of those of the kin is shared.
    """
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inner,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": sizes.layers,
        "vocab_size": sizes.words,
        "max_position_embeddings": 64,
        "torch_dtype": NAMES[dtype],
    }
    layout = lay_out_model((name, dtype, shape) for name, shape in shapes(sizes))
    base: dict[str, Floats] = {}
    shared: dict[str, Floats] = {}
    names = ("base", "a", "b", "c", "far", "kin-a", "kin-b", "kin-c")
    for seed, model in enumerate(names):
        rng = np.random.default_rng(seed)
        place = folder / model
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(config))
        create_files(place, layout)
        with ModelWriter(place, layout) as writer:
            for name, shape in shapes(sizes):
                noise = rng.standard_normal(int(np.prod(shape)))
                step = {"base": noise / 8, "far": noise / 8}.get(model, noise / 64)
                if model.startswith("kin"):
                    step = (step + shared.setdefault(name, step)) / 2
                values = step if model in {"base", "far"} else base[name] + step
                if model == "base":
                    base[name] = values
                writer.write(name, downcast(values, dtype))


def tensors_of(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Return dtype and bytes of each tensor of a model."""
    return {
        t.name: (t.dtype, bytes(open_tensor(t))) for t in read_folder(folder).tensors
    }


def compare(ours: Path, theirs: Path, dtype: str) -> dict[str, float]:
    """Return the worst differences between two models."""
    left, right = tensors_of(ours), tensors_of(theirs)
    assert left.keys() == right.keys(), "other tensors"
    own, largest, differing, items = 0.0, 0.0, 0, 0
    for name, (kind, data) in left.items():
        assert right[name][0] == kind == dtype, (name, kind, right[name][0])
        a, b = upcast(data, dtype), upcast(right[name][1], dtype)
        gap = np.abs(a - b)
        size = np.maximum(np.abs(a), np.abs(b))
        place = np.ldexp(1.0, np.frexp(size)[1] - 1 - MANTISSA[dtype])
        own = max(own, float((gap / np.where(size > 0, place, 1.0)).max()))
        largest = max(largest, float(gap.max() / place.max()))
        differing += int((gap > 0).sum())
        items += a.size
    return {"own_ulps": own, "tensor_ulps": largest, "differing": differing / items}


@dataclass(frozen=True)
class Ran:
    """What a command took: seconds, MiB at most, and what it said if it failed."""

    seconds: float
    mebibytes: float
    failed: str


LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], "w").write(str(peak))
sys.exit(code)
"""
"""Runs a command and notes its peak: of a process forked here, ours would be noted."""


def timed(command: list[str], folder: Path) -> Ran:
    """Run a command to its end."""
    peak = folder / "peak.txt"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(peak), *command],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - start
    failed = (done.stderr or done.stdout)[-400:] if done.returncode else ""
    return Ran(took, int(peak.read_text()) / 1024, failed)


def run(
    environment: Path, folder: Path, only: str, sizes: Sizes
) -> Iterator[dict[str, object]]:
    """Yield a row for each dtype and configuration with `only` in its title."""
    theirs = [str(environment / "bin" / "mergekit-yaml")]
    ours = [sys.executable, "-m", "nodes.cli"]
    for dtype, name in NAMES.items():
        place = folder / name
        write_models(place, dtype, sizes)
        for i, (title, text) in enumerate(CONFIGURATIONS.items()):
            if only not in title:
                continue
            # mergekit's arcee_fusion writes float32 where out_dtype does not say else.
            dtypes = f"dtype: {name}\nout_dtype: {name}\n"
            (place / f"{i}.yml").write_text(f"{text}\n{dtypes}")
            row: dict[str, object] = {"configuration": title, "dtype": dtype}
            his = timed([*theirs, f"{i}.yml", f"theirs-{i}", *OPTIONS], place)
            mine = timed([*ours, "merge", f"{i}.yml", f"ours-{i}"], place)
            if his.failed or mine.failed:
                yield row | {"mergekit": his.failed, "crdtmerge": mine.failed}
                continue
            outputs = place / f"ours-{i}", place / f"theirs-{i}"
            found = compare(*outputs, dtype)
            for output in outputs:
                shutil.rmtree(output)
            yield (
                row
                | found
                | {
                    "mergekit_s": his.seconds,
                    "mergekit_mib": his.mebibytes,
                    "crdtmerge_s": mine.seconds,
                    "crdtmerge_mib": mine.mebibytes,
                }
            )


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit", type=Path, help="a virtual environment with it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--large", action="store_true", help="84 million parameters")
    parser.add_argument("--only", default="", help="a part of a configuration's title")
    parser.add_argument("--keep", type=Path, help="an empty folder for all files")
    asked = parser.parse_args()
    if (
        asked.mergekit is None
        or not (asked.mergekit / "bin" / "mergekit-yaml").exists()
    ):
        print("skipped: no environment with mergekit (--mergekit ENVIRONMENT)")
        return 0
    rows, sizes = [], LARGE if asked.large else SMALL
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.keep or Path(scratch)).absolute()
        print(f"{'configuration':28} {'dtype':5} {'own ulp':>9} {'tensor ulp':>10} "
              f"{'differ':>7} {'mergekit':>18} {'ours':>14}")  # fmt: skip
        for row in run(asked.mergekit.absolute(), folder, asked.only, sizes):
            rows.append(row)
            if "own_ulps" in row:
                print(
                    f"{row['configuration']:28} {row['dtype']:5} {row['own_ulps']:9.1f} "
                    f"{row['tensor_ulps']:10.2f} {row['differing']:7.1%} "
                    f"{row['mergekit_s']:8.1f}s {row['mergekit_mib']:5.0f}MiB"
                    f" {row['crdtmerge_s']:5.1f}s {row['crdtmerge_mib']:5.0f}MiB",
                    flush=True,
                )
            else:
                print(row, flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes a model of TinyLlama-1.1B's shape with random weights, for machines that cannot fetch a real one.

    python -m benchmarks.random_llama FOLDER [--tiny]

How long a model takes to load and to run depends on its shape alone: 22 layers, 2.2 GB in half precision, 32,000
tokens, as TinyLlama has them. What it says is made of words without sense, in tokens of two to four letters, and it
never ends by itself. The same files each time, one for each layer, so that half a gigabyte of memory is enough.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, product
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from string import ascii_lowercase
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

Weights: TypeAlias = dict[str, NDArray[np.float16]]

VOCABULARY: Final = 32_000
CONTEXT: Final = 2_048
SPECIALS: Final = ("<unk>", "<s>", "</s>")
"""Of Llama: their ids are their places."""

_SEED: Final = 20261125
_SPREAD: Final = 3.0
"""Standard deviation of the logits; the largest of them is about 13, and half precision holds 65,504."""

_SPACE: Final = "Ġ"
"""How byte-level tokenizers write a space."""

_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the time of a step depends on."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


TINYLLAMA: Final = Shape(layers=22, hidden=2_048, intermediate=5_632, heads=32, kv_heads=4)
TINY: Final = Shape(layers=2, hidden=64, intermediate=176, heads=2, kv_heads=1)


def write(folder: Path, shape: Shape = TINYLLAMA) -> Path:
    """Write the model into `folder`, which is made if need be; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    words.save(str(folder / "tokenizer.json"))
    end = SPECIALS.index("</s>")
    _write(folder / "config.json", _config(shape, end))
    _write(folder / "generation_config.json", {"eos_token_id": end, "pad_token_id": end})
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
            "eos_token": "</s>",
            "pad_token": "</s>",
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": _TEMPLATE,
        },
    )
    silent = len(SPECIALS) + len(pre_tokenizers.ByteLevel.alphabet())
    files: dict[str, str] = {}
    total = 0
    for number, weights in enumerate(_parts(shape, silent), start=1):
        name = f"model-{number:05}-of-{shape.layers + 1:05}.safetensors"
        save_file(weights, folder / name, metadata={"format": "pt"})
        files |= dict.fromkeys(weights, name)
        total += sum(each.nbytes for each in weights.values())
    _write(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": files})
    return folder


def tokenizer() -> Tokenizer:
    """Return a tokenizer of 32,000 tokens, all of which stand for text: bytes, and two to four letters of a word."""
    letters = [*ascii_lowercase, *(_SPACE + letter for letter in ascii_lowercase)]
    spaces = [(_SPACE, letter) for letter in ascii_lowercase]
    pairs = list(product(letters, ascii_lowercase))
    triples = [(first + second, third) for (first, second), third in product(pairs, ascii_lowercase)]
    singles = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [*spaces, *pairs, *triples][: VOCABULARY - len(singles)]
    names = chain(singles, (first + second for first, second in merges))
    made = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(special, special=True) for special in SPECIALS])
    return made


def _config(shape: Shape, end: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "vocab_size": VOCABULARY,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _parts(shape: Shape, silent: int) -> Iterator[Weights]:
    """Yield the weights, file by file: what is around the layers first; the first `silent` tokens are never said."""
    random = np.random.default_rng(_SEED)
    quantiles = np.array([NormalDist().inv_cdf((each + 0.5) / 2**16) for each in range(2**16)], np.float32)

    def matrix(rows: int, columns: int, spread: float = 1.0) -> NDArray[np.float16]:
        # Normal numbers from a table, in a fifth of the time that drawing them takes.
        table = (quantiles * (spread / sqrt(columns))).astype(np.float16)
        drawn: NDArray[np.float16] = table[random.integers(0, 2**16, (rows, columns), np.uint16)]
        return drawn

    ones = np.ones(shape.hidden, np.float16)
    head = matrix(VOCABULARY, shape.hidden, _SPREAD)
    head[:silent] = 0  # a logit of 0, while the largest of the others is at four standard deviations
    yield {
        "model.embed_tokens.weight": matrix(VOCABULARY, shape.hidden),
        "model.norm.weight": ones,
        "lm_head.weight": head,
    }
    for layer in range(shape.layers):
        sizes = {
            "self_attn.q_proj": (shape.heads * shape.head, shape.hidden),
            "self_attn.k_proj": (shape.kv_heads * shape.head, shape.hidden),
            "self_attn.v_proj": (shape.kv_heads * shape.head, shape.hidden),
            "self_attn.o_proj": (shape.hidden, shape.heads * shape.head),
            "mlp.gate_proj": (shape.intermediate, shape.hidden),
            "mlp.up_proj": (shape.intermediate, shape.hidden),
            "mlp.down_proj": (shape.hidden, shape.intermediate),
        }
        weights = {name: matrix(*size) for name, size in sizes.items()}
        weights |= {"input_layernorm": ones, "post_attention_layernorm": ones}
        yield {f"model.layers.{layer}.{name}.weight": each for name, each in weights.items()}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2), "utf-8")


def main(arguments: list[str]) -> int:
    """Write the model where the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_llama", description="Writes a random Llama.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="two narrow layers, for tests")
    options = parser.parse_args(arguments)
    print(write(options.folder, TINY if options.tiny else TINYLLAMA))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A tiny Llama with random weights, made on the spot, for a real engine whose answers need no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_HIDDEN: Final = 64
_INTERMEDIATE: Final = 128
_LAYERS: Final = 2
_HEADS: Final = 2
_KV_HEADS: Final = 1
# vLLM's CPU attention knows 32, 64 and a few larger sizes.
_HEAD_DIM: Final = 32
_CONTEXT: Final = 2_048
_SEED: Final = 20261123

_SPECIALS: Final = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def write_tiny_model(folder: Path) -> Path:
    """Write a 2-layer Llama of about 100,000 weights and its tokenizer into `folder`, in well under a second.

    The same files each time. One token is one byte of UTF-8, so every text survives the way through it; the
    context is 2,048 tokens. Returns `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    end = tokenizer.token_to_id("<|end|>")
    assert end is not None
    _write(folder / "config.json", _config(size, end))
    _write(folder / "generation_config.json", {"eos_token_id": end, "pad_token_id": end})
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|end|>",
            "pad_token": "<|end|>",
            "model_max_length": _CONTEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": _TEMPLATE,
        },
    )
    save_file(_weights(size), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _byte_tokenizer() -> Tokenizer:
    # GPT-2's alphabet: one printable character for each of the 256 bytes.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(special, special=True) for special in _SPECIALS])
    return tokenizer


def _config(vocab_size: int, end: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD_DIM,
        "hidden_act": "silu",
        "max_position_embeddings": _CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "vocab_size": vocab_size,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _weights(vocab_size: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(_SEED)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        # Wide enough that the next byte depends visibly on the ones before it.
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)

    ones = np.ones(_HIDDEN, np.float32)
    weights = {
        "model.embed_tokens.weight": matrix(vocab_size, _HIDDEN),
        "model.norm.weight": ones,
        "lm_head.weight": matrix(vocab_size, _HIDDEN),
    }
    for layer in range(_LAYERS):
        prefix = f"model.layers.{layer}."
        weights |= {
            prefix + "input_layernorm.weight": ones,
            prefix + "self_attn.q_proj.weight": matrix(_HEADS * _HEAD_DIM, _HIDDEN),
            prefix + "self_attn.k_proj.weight": matrix(_KV_HEADS * _HEAD_DIM, _HIDDEN),
            prefix + "self_attn.v_proj.weight": matrix(_KV_HEADS * _HEAD_DIM, _HIDDEN),
            prefix + "self_attn.o_proj.weight": matrix(_HIDDEN, _HEADS * _HEAD_DIM),
            prefix + "post_attention_layernorm.weight": ones,
            prefix + "mlp.gate_proj.weight": matrix(_INTERMEDIATE, _HIDDEN),
            prefix + "mlp.up_proj.weight": matrix(_INTERMEDIATE, _HIDDEN),
            prefix + "mlp.down_proj.weight": matrix(_HIDDEN, _INTERMEDIATE),
        }
    return weights


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))

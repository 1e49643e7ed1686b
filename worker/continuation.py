"""How a choice goes on behind text that is shown already: its tokens, and the parameters that are left.

The model reads the shown text as the end of its prompt, which costs one prefill instead of generating it again. What a
sampler keeps about its own output is carried over where it can be: the length, the frequency and presence penalties,
and (in the adapter) the place in a grammar. A seed's stream of random numbers cannot; a new one is derived from it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from router_lambda.job import DEFAULT_MAX_TOKENS

_SEED_BITS: Final = 63
"""vLLM takes seeds of 64 bits, with their sign."""

MAX_BIASES: Final = 1_000
"""Most tokens that get a bias, the commonest first; vLLM's GPU sampler takes 1,024."""

_ANCHOR: Final = "\n"
"""Text that tokenizers never merge with what follows, to tokenize in the middle of a text and not at its beginning."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is needed here."""

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]:
        """Return a text's tokens, also where it spells a special token, which is text all the same."""
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Return the text of tokens."""
        ...


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text as such, without any that mark its beginning or end."""
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def shown_tokens(tokenizer: Tokenizer, prompt: Sequence[int], shown: str) -> list[int] | None:
    """Return tokens that spell exactly the shown text when they follow the prompt; `None` if there are none.

    A tokenizer of the SentencePiece kind puts a space in front of what it takes for the beginning of a text, so that
    it is tried in the middle of one as well, and the result is read back.
    """
    if not shown:
        return []
    anchor, anchored = encode(tokenizer, _ANCHOR), encode(tokenizer, _ANCHOR + shown)
    candidates = [encode(tokenizer, shown)]
    if anchored[: len(anchor)] == anchor:
        candidates.append(anchored[len(anchor) :])
    before = _decode(tokenizer, prompt)
    for tokens in candidates:
        if _decode(tokenizer, [*prompt, *tokens]) == before + shown:
            return tokens
    return None


def remaining_params(params: Mapping[str, Any], index: int, shown: Sequence[int], spent: int) -> dict[str, Any] | None:
    """Return a job's parameters for the rest of one choice, of which `shown` tokens are there and `spent` count.

    `None` if that is `max_tokens` already.
    """
    left = params.get("max_tokens", DEFAULT_MAX_TOKENS) - spent
    if left <= 0:
        return None
    rest = {name: value for name, value in params.items() if name != "n"} | {"max_tokens": left}
    if "seed" in params:
        # The same seed again would draw the numbers of the beginning once more.
        rest["seed"] = random.Random(f"{params['seed']} {index} {len(shown)}").getrandbits(_SEED_BITS)
    if biases := _biases(params, shown):
        rest["logit_bias"] = biases
    return rest


def _biases(params: Mapping[str, Any], shown: Sequence[int]) -> dict[int, float]:
    """Return what the penalties take from each token that is shown (OpenAI API reference, frequency penalty).

    Exact for the frequency penalty, which adds up. A token that occurs on both sides of the seam pays the presence
    penalty twice.
    """
    frequency, presence = params.get("frequency_penalty", 0), params.get("presence_penalty", 0)
    if not frequency and not presence:
        return {}
    return {token: -(frequency * count + presence) for token, count in Counter(shown).most_common(MAX_BIASES)}


def _decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

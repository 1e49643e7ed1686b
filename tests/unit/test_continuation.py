"""How a choice goes on behind its shown text: tokens that spell it, and the parameters that are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.continuation import MAX_BIASES, encode, remaining_params, shown_tokens


class Sentences:
    """A tokenizer of the SentencePiece kind: words are tokens, `_` is a space, and every text begins with one."""

    def __init__(self, *words: str) -> None:
        self._words = list(words)

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]:
        """Split greedily into the longest words."""
        assert not add_special_tokens
        assert split_special_tokens
        rest, tokens = "_" + text.replace(" ", "_"), []
        while rest:
            found = max((word for word in self._words if rest.startswith(word)), key=len)
            tokens.append(self._words.index(found))
            rest = rest[len(found) :]
        return tokens

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Join the words; the space at the beginning of a text is none."""
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return "".join(self._words[token] for token in token_ids).replace("_", " ").removeprefix(" ")


def rest_of(params: dict[str, Any], index: int, shown: Sequence[int]) -> dict[str, Any] | None:
    """Return the parameters that are left when each shown token counts."""
    return remaining_params(params, index, shown, len(shown))


def test_a_space_that_a_tokenizer_puts_in_front_is_left_out() -> None:
    """Where a text goes on in the middle of a word, that is where its tokens begin."""
    tokenizer = Sentences("_", "\n", "_Hel", "lo", "_world", "_lo")
    assert shown_tokens(tokenizer, encode(tokenizer, "Hel"), "lo world") == [3, 4]
    assert shown_tokens(tokenizer, encode(tokenizer, "Hel"), " world") == [4]
    assert shown_tokens(tokenizer, encode(tokenizer, "Hel"), "") == []


def test_a_text_that_no_tokens_spell_is_told() -> None:
    """Nobody guesses what may have been there."""

    class Forgetful(Sentences):
        """Spells everything in small letters."""

        def encode(self, text: str, **how: Any) -> list[int]:
            """Encode what it will say."""
            return super().encode(text.lower(), **how)

    tokenizer = Forgetful("_", "\n", "a", "b")
    assert shown_tokens(tokenizer, [2], "ab") == [2, 3]
    assert shown_tokens(tokenizer, [2], "aB") is None


def test_what_is_shown_counts_towards_the_length() -> None:
    """Of the asked maximum, or of the default; with nothing left there is nothing to do."""
    assert rest_of({"max_tokens": 10}, 0, range(4)) == {"max_tokens": 6}
    assert rest_of({}, 0, range(4)) == {"max_tokens": 252}
    assert rest_of({"max_tokens": 4}, 0, range(4)) is None
    assert rest_of({"max_tokens": 4}, 0, range(9)) is None


def test_what_has_cost_less_than_its_tokens_counts_as_what_it_has_cost() -> None:
    """A broken character is one token when it is said and three when it is spelled."""
    assert remaining_params({"max_tokens": 10}, 0, [7, 8, 9], 1) == {"max_tokens": 9}


def test_one_choice_goes_on_alone() -> None:
    """Everything else stays as it was asked."""
    asked = {"n": 3, "max_tokens": 9, "temperature": 0.5, "stop": ["x"], "response_format": {"type": "json_object"}}
    assert rest_of(asked, 1, [1]) == {name: value for name, value in asked.items() if name != "n"} | {"max_tokens": 8}


def test_a_seed_is_derived_and_not_used_again() -> None:
    """The same each time for the same choice at the same place, another one anywhere else."""
    seeds = [
        (rest_of({"seed": seed}, index, shown) or {})["seed"]
        for seed in (7, -7)
        for index in (0, 1)
        for shown in ([1], [1, 2])
    ]
    assert len({7, -7, *seeds}) == 10
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert rest_of({"seed": 7}, 0, [5]) == {"max_tokens": 255, "seed": seeds[0]}


def test_penalties_of_the_shown_tokens_are_carried_over() -> None:
    """As biases: the frequency penalty by how often a token was there, the presence penalty once."""
    rest = rest_of({"frequency_penalty": 0.5, "presence_penalty": 0.25}, 0, [1, 2, 1])
    assert rest is not None
    assert rest["logit_bias"] == {1: -1.25, 2: -0.75}
    assert (rest["frequency_penalty"], rest["presence_penalty"]) == (0.5, 0.25)
    assert "logit_bias" not in (rest_of({"frequency_penalty": 0}, 0, [1]) or {})


def test_no_more_biases_than_the_sampler_takes() -> None:
    """The commonest tokens are kept."""
    rest = rest_of({"frequency_penalty": 1, "max_tokens": 2_048}, 0, [*range(1_500), 1_499])
    assert rest is not None
    assert len(rest["logit_bias"]) == MAX_BIASES
    assert rest["logit_bias"][1_499] == -2

"""How a request is put, as far as a server takes it: what it refuses is said in another way, or left out.

Servers word such refusals differently (OpenAI, Azure, vLLM, OpenRouter, ...): by `param`, by `code`, or in the message
alone, as status 400 or 422, or another that says nothing (a router's 404, a 500), but names the field.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

# Of one transcript, not of the request.
CONTENT = re.compile(
    r"content.{0,2}(filter|polic|manag|exists risk|moderat)|inappropriate|data_inspection|sensitive|moderation|safety"
)
LENGTH = re.compile(r"context.{0,2}(length|window)|(prompt|input|request|string).{0,30}too (long|large)|maximum.length")
ASKED = {  # how a refusal speaks of each field
    "limit": re.compile(r"max_\w*tokens"),
    "temperature": re.compile(r"temperature"),
    "response_format": re.compile(r"response_format|json_?schema|structured.output|guided"),
    "system": re.compile(r"messages\[0\]|messages\.0|system.{0,20}(role|message|prompt)|role.{0,20}system|developer"),
}

FIELDS = ("limit", "temperature", "response_format")  # whose words speak of nothing else
GUESSES = ("response_format", "limit", "temperature", "system")  # what a server most likely lacks, first


def is_refusal(status: Any, said: str) -> bool:
    """Whether an error is the request's fault, as its status says, or for a field that it names."""
    named = any(ASKED[name].search(said) for name in FIELDS)
    return str(status) in ("400", "422") or (str(status) in ("404", "500", "501") and named)


@dataclass(frozen=True)
class Wording:
    """The fields of a request that not every server takes.

    Attributes:
        limit: the field that bounds a reply; "": none.
        tokens: that bound.
        temperature: 0, or the server's own.
        response_format: a JSON schema, or none.
        system: whether the instruction is a system message, or the user's.
    """

    tokens: int
    limit: str = "max_tokens"
    temperature: bool = True
    response_format: bool = True
    system: bool = True

    def fields(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Of a request, but for its messages."""
        form = {"type": "json_schema", "json_schema": {"name": "ranking", "strict": True, "schema": schema}}
        return (
            ({"temperature": 0} if self.temperature else {})
            | ({self.limit: self.tokens} if self.limit else {})
            | ({"response_format": form} if self.response_format else {})
        )

    def messages(self, messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """The messages, of which the first is the system's and the second the user's."""
        if self.system:
            return list(messages)
        (first, second, *rest) = messages
        return [{"role": "user", "content": f"{first['content']}\n\n{second['content']}"}, *rest]

    def without(self, name: str) -> "Wording":
        """The next wording where the server refuses a field; the same if there is none."""
        if name == "limit":
            return replace(self, limit="max_completion_tokens" if self.limit == "max_tokens" else "")
        fields: dict[str, Any] = {name: False}
        return replace(self, **fields)

    def reworded(self, said: str, guess: bool) -> "Wording | None":
        """What to try after a refusal that says `said`: without a field that it names, or, to `guess`, without any."""
        named = [name for name, words in ASKED.items() if words.search(said)]
        others = (self.without(name) for name in named or (GUESSES if guess else ()))
        return next((other for other in others if other != self), None)

    def differences(self, other: "Wording") -> str:
        """What another wording has changed, for people."""
        changed = [f"{self.limit} is called {other.limit}" if other.limit else "no limit of tokens"] * (
            self.limit != other.limit
        )
        changed += [f"{other.tokens:,} tokens for thoughts and reply"] * (self.tokens != other.tokens)
        changed += [
            f"no {name}"
            for name, asked in (("temperature", other.temperature), ("response_format", other.response_format))
            if getattr(self, name) != asked
        ]
        return ", ".join([*changed, *["no system message"] * (self.system != other.system)])

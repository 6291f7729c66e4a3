"""The page on which a person tries a run."""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from mer_jax.recognition.timeline import COLOURS
from mer_jax.report.templates import environment
from mer_jax.serving.limits import Limits


def page(run: str, labels: Sequence[str], limits: Limits) -> tuple[str, str]:
    """The page as html, and the policy under which a browser runs nothing but what it holds."""
    data = {
        "labels": list(labels),
        "colours": [COLOURS[i % len(COLOURS)] for i in range(len(labels))],
        "times": [],
        "probabilities": [],
        "most": {"MiB": limits.max_mib, "seconds": limits.max_seconds},
    }
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    html = environment().get_template("serving.html").render(run=run, limits=limits, data=text)
    scripts, styles = (" ".join(digests(html, tag)) for tag in ("script", "style"))
    sources = f"script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; media-src blob:"
    return html, f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def digests(html: str, tag: str) -> list[str]:
    """By which a policy names the page's own scripts or styles."""
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return [f"'sha256-{b64encode(sha256(part.encode()).digest()).decode()}'" for part in parts]

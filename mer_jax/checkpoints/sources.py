"""What a checkpoint may be named by."""

from pathlib import Path

ASSETS = Path(__file__).parents[1] / "assets"
DTYPES = ("float32", "bfloat16", "float16")  # that a setting may name


def wrong_source(source: str) -> str:
    """What can be told to be wrong with a checkpoint's source without the hub; empty if nothing is."""
    bundled = sorted(f"bundled/{folder.name}" for folder in ASSETS.iterdir() if (folder / "config.json").is_file())
    if source.startswith("bundled/") and source not in bundled:
        return f"unknown; known: {', '.join(bundled)}"
    if source.startswith(("/", "./", "../")) and not Path(source).is_dir():
        return "no such folder"
    return ""

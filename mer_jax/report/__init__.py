"""A run's results: the html report, the last lines at the terminal, the csv files to submit."""

from mer_jax.report.cautions import cautions
from mer_jax.report.clip_page import ClipInputs, write_clip_page
from mer_jax.report.clip_scores import clip_scores
from mer_jax.report.formats import headline
from mer_jax.report.page import write_report
from mer_jax.report.submission import write_predictions, write_probabilities

__all__ = [
    "ClipInputs",
    "cautions",
    "clip_scores",
    "headline",
    "write_clip_page",
    "write_predictions",
    "write_probabilities",
    "write_report",
]

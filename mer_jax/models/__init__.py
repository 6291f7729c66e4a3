"""The networks: frozen encoder ports, prompt-tuned CLIP, and the fusion head."""

from flax import nnx

nnx.set_graph_mode(False)

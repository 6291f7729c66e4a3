"""The extract command on a folder of clips: what it prints and leaves, and that a second start computes nothing."""

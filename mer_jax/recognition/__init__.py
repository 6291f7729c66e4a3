"""A finished run at work: files and recordings in, emotions out."""

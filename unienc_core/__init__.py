"""unienc: one shared encoder for driving perception."""

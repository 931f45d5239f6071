"""The unienc command line."""

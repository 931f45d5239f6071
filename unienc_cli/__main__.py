"""``python -m unienc_cli``: the same as ``unienc``."""

from unienc_cli.main import main

if __name__ == "__main__":
    main()

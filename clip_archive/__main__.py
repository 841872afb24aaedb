"""python -m clip_archive is the command `clip-archive`."""

from .command.main import main

if __name__ == "__main__":
    main()

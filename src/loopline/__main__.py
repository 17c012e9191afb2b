"""`python -m loopline` is the command line."""

from loopline.cli import main

main()

"""`python -m fastbp`: the command."""

from fastbp.cli import command

if __name__ == "__main__":
    command()

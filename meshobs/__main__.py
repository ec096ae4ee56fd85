"""`python -m meshobs`."""

from meshobs.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m detect` is the same as `rcnn`."""

from detect.cli import main

if __name__ == "__main__":
    main()

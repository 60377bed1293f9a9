"""`python -m detect` is the same as `rcnn`; but in a folder with another detect.py, Python runs that file."""

from detect.cli import main

if __name__ == "__main__":
    main()

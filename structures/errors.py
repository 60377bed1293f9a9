"""What the caller did wrong, as one class of errors: any other exception is a bug of this package."""


class InputError(ValueError):
    """Something that the caller passed cannot be used: a value, a file, a folder, or two of these together.

    The message is one line that says what was wrong, of which file, row or parameter, and what was expected. A
    parameter that the caller can change is named in it between backticks, by its name in Python, as in "take a smaller
    `batch_size`"; the command line puts its option there (`detect.option_names`).

    Every reader and every room has a subclass of its own; only this one need be caught. Errors of NumPy, torch and
    other libraries are caught where the caller's values reach them, and raised again as this.
    """

"Calls without the warnings that they give"
import warnings


def quiet(f, *args, **named):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return f(*args, **named)

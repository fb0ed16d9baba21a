"How many lines of code a function takes"
import ast
import inspect
import textwrap


def lines_of(function):
    "Lines with code in a function, without `def` and docstring"
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    source = inspect.getsource(function).splitlines()
    numbers = [i for node in body for i in range(node.lineno, node.end_lineno + 1)]
    return sum(bool(source[i - 1].strip()) for i in set(numbers))

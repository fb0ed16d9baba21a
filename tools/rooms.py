"The map of the package, as the docstring of medtut/__init__.py draws it: rooms, and their modules"
import inspect

import medtut


def rooms():
    "`{room: {module: what it is for}}`, in the order of the map"
    found, modules = {}, {}
    for line in inspect.getdoc(medtut).splitlines()[1:]: # the first line says what the package is
        if line.startswith('  '):
            name, _, purpose = line.strip().partition(' ')
            modules[name] = purpose.strip()
        elif line.endswith(':'): modules = found.setdefault(line.removesuffix(':'), {})
    return found

def room_of(module):
    "The room in which the map shows a module; None if it does not"
    for room, modules in rooms().items():
        if module in modules: return room

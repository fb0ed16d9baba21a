"Which names a cell reads from cells before it, and which it sets"
import ast


def names_in(source):
    "Names that a cell reads before it sets them itself, and names that it sets"
    lines = ['' if line.startswith(('!', '%')) else line for line in source.splitlines()]
    found = CellNames()
    found.visit(ast.parse('\n'.join(lines)))
    return found.read, found.bound

class CellNames(ast.NodeVisitor):
    "Visits a cell in the order in which Python runs it"
    def __init__(self, bound=()):
        self.read = set()
        self.bound = set(bound)

    def visit_all(self, *nodes):
        for node in nodes: self.visit(node)

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store): self.bound.add(node.id)
        elif node.id not in self.bound: self.read.add(node.id)

    def visit_Assign(self, node):
        self.visit_all(node.value, *node.targets)

    def visit_AugAssign(self, node):
        before = ast.Name(node.target.id, ast.Load()) if hasattr(node.target, 'id') else node.target
        self.visit_all(node.value, before, node.target)

    def visit_For(self, node):
        self.visit_all(node.iter, node.target, *node.body, *node.orelse)

    def visit_Import(self, node):
        self.bound |= {(alias.asname or alias.name).partition('.')[0] for alias in node.names}

    visit_ImportFrom = visit_Import

    def visit_inside(self, nodes, bound=()):
        "Names with a scope of their own, in a function or a comprehension, stay there"
        inside = CellNames(bound)
        inside.visit_all(*nodes)
        self.read |= inside.read - self.bound

    def visit_FunctionDef(self, node):
        self.visit_all(*node.decorator_list)
        self.visit_Lambda(node)
        self.bound.add(node.name)

    def visit_Lambda(self, node):
        args = node.args
        self.visit_all(*args.defaults, *filter(None, args.kw_defaults))
        named = *args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg
        body = node.body if isinstance(node.body, list) else [node.body]
        self.visit_inside(body, [arg.arg for arg in named if arg])

    def visit_ListComp(self, node):
        loops = [part for loop in node.generators for part in (loop.iter, loop.target, *loop.ifs)]
        made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self.visit_inside([*loops, *made])

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

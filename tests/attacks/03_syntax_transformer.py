# 3. The same by a transformer of the syntax tree.
# expect 03.3 error: get_ipython\(\).ast_transformers is refused

# %% 03.3
import ast


class Nothing(ast.NodeTransformer):
    def visit(self, node):
        return ast.Module([], [])


get_ipython().ast_transformers.append(Nothing())  # noqa: F821


def what_moves(gradient, train_mode, in_optimizer):
    return True, True

"""What a PromQL expression asks for, as Prometheus's own grammar reads it."""

import promql_parser as promql


def selectors(expression):
    """Each selector of a metric: its name, and its matchers."""
    return [
        (node.name, [(it.name, it.value) for it in node.matchers.matchers])
        for node in nodes(promql.parse(expression))
        if isinstance(node, promql.VectorSelector)
    ]


def labels_asked_for(expression):
    """Those by which something is grouped, joined or left out."""
    found = set()
    for node in nodes(promql.parse(expression)):
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql.AggregateExpr) and modifier is not None:
            found |= set(modifier.labels)
    return found


def nodes(node):
    yield node
    if isinstance(node, promql.Call):
        children = node.args
    elif isinstance(node, promql.BinaryExpr):
        children = [node.lhs, node.rhs]
    elif isinstance(node, promql.MatrixSelector):
        children = [node.vector_selector]
    else:
        children = [child for child in [getattr(node, "expr", None)] if child is not None]
    for child in children:
        yield from nodes(child)

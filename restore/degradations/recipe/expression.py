"""Arithmetic in pipeline files: a text that begins with `=` is worked out from the pipeline's variables.

sigma: "=0.2 * scale"          probability: "=0.25 if scale == 4 else 0"          sigma: "=sigma"
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Mapping
from typing import Any

from restore.errors import Problem, nearest

__all__ = ["resolve"]

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS = {"floor": math.floor, "ceil": math.ceil, "sqrt": math.sqrt, "min": min, "max": max}
_CONSTANTS = {"pi": math.pi}


def resolve(value: Any, variables: Mapping[str, Any], path: str, problems: list[Problem]) -> Any:
    """`value` with every expression in it, at any depth, replaced by its result; mistakes are added to `problems`."""
    if isinstance(value, Mapping):
        return {key: resolve(item, variables, f"{path}.{key}", problems) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, variables, f"{path}.{index}", problems) for index, item in enumerate(value)]
    if not isinstance(value, str) or not value.startswith("="):
        return value
    try:
        return _evaluate(ast.parse(value[1:].strip(), mode="eval").body, {**_CONSTANTS, **variables})
    except (SyntaxError, ValueError, TypeError, ArithmeticError) as error:
        reason = "not an expression" if isinstance(error, SyntaxError) else str(error)
        problems.append(Problem(path, f"cannot work out {value!r}: {reason}."))
        return None


def _evaluate(node: ast.AST, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value) if isinstance(value, (int, float, str)):
            return value
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"unknown variable '{name}'.{nearest(name, names)} Known: {', '.join(sorted(names))}")
            return names[name]
        case ast.List(elts=items):
            return [_evaluate(item, names) for item in items]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(operand, names))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, names), _evaluate(right, names))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, names), _evaluate(right, names))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _evaluate(body if _evaluate(test, names) else orelse, names)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_evaluate(argument, names) for argument in arguments))
    raise ValueError("only numbers, variables, + - * / // %, comparisons, `if else`, floor, ceil, sqrt, min, max")
